"""Documents name files that exist, and files stand where the documents say."""

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
NAMED_FILE = re.compile(r"`((?:medx_core|web|workers|deploy|tests|docs|findings)/[\w./-]+\.\w+)`")
WALKS = {"the page to its stored answer": 20, "labelled statement through": 25}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path):
    missing = [
        name for name in NAMED_FILE.findall(document.read_text("utf-8")) if not (CHECKOUT / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize(("heading", "most"), WALKS.items())
def test_each_walk_can_be_read_in_the_files_promised(heading: str, most: int):
    sections = (CHECKOUT / "docs" / "architecture.md").read_text("utf-8").split("\n## ")
    walk = next(section for section in sections if heading in section.splitlines()[0])
    rows = re.findall(r"^\| `([\w./]+\.py)` \|", walk, flags=re.MULTILINE)
    assert 10 < len(rows) <= most
    assert len(set(rows)) == len(rows)
