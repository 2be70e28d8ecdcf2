"""Labelled data are cleaned by rules that are stated and counted."""

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medx_core.categories import Category
from medx_core.data.hub_data_sets import HubDataSet, as_hub_data_set, fetch
from medx_core.data.labelled_files import load_labelled
from medx_core.data.near_duplicates import components, near_copy_pairs, similarity, words_in_order
from medx_core.errors import BadInput

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "azeez_tf_dev.csv"


@pytest.fixture
def load(tmp_path):
    def loaded(content: str | bytes, name: str = "data.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return load_labelled(path)

    return loaded


def test_the_columns_of_a_file_come_through(load):
    data = load(
        "Statement,ANSWER,category,Difficulty,harm,split,pair,original,source_answer\n"
        "The knee bends.,yes,triage,2,severe,Training,p,TRUE,TRUE\n"
        "The skull bends.,0,,3,,test,p,FALSE,TRUE\n"
        "Ribs bend.,T,,,,other,,,\n"
    )
    knee, skull, ribs = data.statements
    assert (knee.answer, knee.category, knee.difficulty, knee.harm) == (True, Category.TRIAGE, "2", "severe")
    assert [statement.split for statement in data.statements] == ["train", "test", ""]
    assert (knee.original, skull.original, ribs.original) == (True, False, None)
    assert (knee.source_answer, ribs.source_answer, skull.row) == (True, None, 2)
    assert (knee.pair, knee.group) == ("p", skull.group)
    assert ribs.group != knee.group
    assert data.has_split
    assert data.notes["divided_groups"] == 1
    assert any("on both sides of the file's split" in notice for notice in data.notices)


def test_duplicates_are_taken_once_and_contradicting_ones_not_at_all(load):
    data = load(
        "statement,answer\nThe heart beats.,1\nthe HEART beats,1\n"
        "Bile is green.,1\nBile is green!,0\nBile is green,1\nThe skin itches.,\n"
    )
    assert [statement.text for statement in data.statements] == ["The heart beats."]
    assert data.notes["duplicates"] == 1
    assert data.notes["contradictions"] == 3
    assert data.notes["unlabelled"] == 1
    assert data.notes["rows"] == 6
    assert (
        data.sha256
        == hashlib.sha256(
            b"statement,answer\nThe heart beats.,1\nthe HEART beats,1\n"
            b"Bile is green.,1\nBile is green!,0\nBile is green,1\nThe skin itches.,\n"
        ).hexdigest()
    )


def test_repaired_text_counts_and_is_compared_after_repair(load):
    data = load("statement,answer\nThe heart’s valves close.,1\nThe heartâ€™s valves close.,1\n")
    assert data.notes["repaired"] == 1
    assert len(data.statements) == 1


def test_near_copies_and_quads_form_groups_and_contradictions_among_them_are_counted(load):
    data = load(
        "statement,answer,quad\n"
        "The left lung has two lobes and one deep fissure,1,\n"
        "The left lung has two lobes and one deep notch,0,\n"
        "Nails grow,1,q\nHair falls,0,q\nTeeth last,1,\n"
    )
    groups = [statement.group for statement in data.statements]
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 3
    assert data.notes["near_copies"] == 2
    assert data.notes["contradicting_near_copies"] == 1
    assert not data.has_split


def test_numbers_signs_and_comparisons_make_texts_differ(load):
    texts = ["pH > 7.4", "pH < 7.4", "pH > 7.5", "pH > 74", "at -5 degrees", "at 5 degrees", "☺", "☹"]
    data = load("statement,answer\n" + "".join(f"{text},1\n" for text in texts))
    assert [statement.text for statement in data.statements] == texts


def test_an_incomplete_pair_is_no_twin_but_stays_together(load):
    data = load("statement,answer,pair\nOne,1,a\nTwo,1,a\nThree,1,b\nFour,1,c\nFive,0,c\n")
    assert [statement.pair for statement in data.statements] == ["", "", "", "c", "c"]
    assert data.statements[0].group == data.statements[1].group
    assert data.notes["incomplete_pairs"] == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("statement\nOne\n", "no row with an answer"),
        ("text,answer\nOne,1\n", "rename 'text'"),
        ("statement,answer\nOne,1\none,0\n", "both answers"),
        ("", "empty"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(load, content, words):
    with pytest.raises(BadInput, match=words):
        load(content)


def parquet(labels=None, **columns) -> bytes:
    table = pa.table(columns)
    if labels:
        about = {"info": {"features": {"label": {"names": labels, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    out = BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def test_parquet_is_read_with_its_own_kinds_of_values(load):
    content = parquet(statement=["One", "Two", None], answer=[True, False, True], difficulty=[1.0, None, 2.5])
    data = load(content, "data.parquet")
    assert [(statement.text, statement.answer, statement.difficulty) for statement in data.statements] == [
        ("One", True, "1"),
        ("Two", False, ""),
    ]
    assert data.notes["not_taken"] == 1
    assert data.sha256 == hashlib.sha256(content).hexdigest()


def test_columns_of_published_data_sets_are_read_as_ours_and_this_is_said(load):
    content = parquet(["right", "wrong"], claim=["One", "Two"], label=[0, 1], choices=[["a"], ["b"]])
    data = load(content, "data.parquet")
    assert [statement.answer for statement in data.statements] == [True, False]
    assert "Column 'claim' is read as 'statement'." in data.notices
    assert any("'choices' contains lists" in notice for notice in data.notices)


@pytest.mark.parametrize("content", [b"PAR1", b"", b"statement,answer\n"])
def test_a_broken_parquet_file_is_refused(load, content):
    with pytest.raises(BadInput, match="not a sound Parquet file"):
        load(content, "data.parquet")


def test_ids_of_data_sets_are_told_from_paths():
    assert as_hub_data_set("owner/name") == HubDataSet("owner/name")
    assert as_hub_data_set("owner/na.me:test") == HubDataSet("owner/na.me", "test")
    assert all(as_hub_data_set(path) is None for path in ("data/x.csv", "./a/b", "a", "a/b/c", "/a/b"))


FILES_OF_THE_HUB = {
    "default/train/0000.parquet": parquet(statement=["One"], answer=[True]),
    "default/train/0001.parquet": parquet(statement=["Two"], answer=[False]),
    "default/test/0000.parquet": parquet(statement=["Three"], answer=[True]),
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        name = self.path.partition("/resolve/refs%2Fconvert%2Fparquet/")[2]
        if name in FILES_OF_THE_HUB:
            self.answer(200, FILES_OF_THE_HUB[name])
        elif self.path.startswith("/api/datasets/owner/name/"):
            listed = [{"rfilename": each} for each in FILES_OF_THE_HUB]
            self.answer(200, json.dumps({"id": "owner/name", "siblings": listed}).encode())
        else:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def answer(self, status: int, content: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        about = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": "0" * 40}
        for name, value in {**about, "Content-Length": str(len(content)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_data_set_is_fetched_split_by_split(hub, tmp_path):
    train = fetch(HubDataSet("owner/name"), endpoint=hub, cache=tmp_path)
    assert [path.read_bytes() for path in train.files] == [*FILES_OF_THE_HUB.values()][:2]
    assert train.notice == "Read default/train of the data set owner/name. Not read: default/test."
    test = fetch(HubDataSet("owner/name", "test"), endpoint=hub, cache=tmp_path)
    assert len(test.files) == 1


def test_a_data_set_that_cannot_be_had_is_refused_in_one_sentence(hub, tmp_path):
    with pytest.raises(BadInput, match="no public data set owner/other, and there is no file of that name"):
        fetch(HubDataSet("owner/other"), endpoint=hub, cache=tmp_path)
    with pytest.raises(BadInput, match="has no split 'dev'; it has: default/test, default/train"):
        fetch(HubDataSet("owner/name", "dev"), endpoint=hub, cache=tmp_path)
    with pytest.raises(BadInput, match="hub, where a data set could have that name, cannot be reached"):
        fetch(HubDataSet("owner/name"), endpoint="http://127.0.0.1:1", cache=tmp_path)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("ER+ breast cancer responds to tamoxifen.", "ER- breast cancer responds to tamoxifen."),
        ("HER2+", "HER2\u2212"),
        ("K+ \u2191 in the plasma", "K+ \u2193 in the plasma"),
        ("A \u2192 B", "A \u2190 B"),
        ("pH > 7.4", "pH < 7.4"),
    ],
)
def test_signs_and_arrows_make_another_statement(text, other):
    assert words_in_order(text) != words_in_order(other)


def test_hyphens_and_dashes_do_not():
    assert words_in_order("a state-of-the-art test") == words_in_order("A state of the art test.")
    assert words_in_order("yes - it is") == words_in_order("Yes: it is!")


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=9).map(" ".join), max_size=25))
@settings(max_examples=30)
def test_near_copies_are_those_that_comparing_all_with_all_finds(texts):
    sets = [frozenset(words_in_order(text)) for text in texts]
    all_pairs = [
        (first, second)
        for first in range(len(texts))
        for second in range(first)
        if similarity(sets[first], sets[second]) >= 0.8
    ]
    groups = components(len(texts), near_copy_pairs(texts))
    assert groups == components(len(texts), all_pairs)
    for place, group in enumerate(groups):
        connected, size = {place}, 0
        while size < len(connected):
            size = len(connected)
            connected |= {place for pair in all_pairs if connected & set(pair) for place in pair}
        assert group == min(connected)


@pytest.mark.skipif(not SHARED.exists(), reason="the development data do not lie beside the checkout")
def test_the_development_file_holds_what_is_known_about_it():
    data = load_labelled(SHARED)
    assert len(data.statements) == 4_308
    assert data.notes["repaired"] == 292
    assert data.notes["near_copies"] == 76
    assert data.notes["contradicting_near_copies"] == 12
