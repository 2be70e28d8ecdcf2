import re
import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PIN = re.compile(
    r"^([a-z0-9-]+)==([^\s;]+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", re.MULTILINE
)


def pins(lock: str) -> dict[str, str]:
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    pinned = {name: version for name, version, _ in PIN.findall(text)}
    named = re.findall(r"^([a-z0-9-]+)", text, re.MULTILINE)
    assert sorted(pinned) == sorted(named), "a line of the lock has no version or no hash"
    return pinned


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def test_the_lock_of_what_runs_pins_every_requirement_with_hashes_and_holds_no_checks():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    optional = project["project"]["optional-dependencies"]
    wanted = names(
        project["project"]["dependencies"] + [part for parts in optional.values() for part in parts]
    )
    runtime, checks = pins("requirements.txt"), pins("requirements-dev.txt")
    assert wanted <= runtime.keys()
    assert names(project["dependency-groups"]["dev"]) <= checks.keys()
    assert (
        not {"ruff", "mypy", "import-linter", "vulture", "pytest", "hypothesis", "playwright"}
        & runtime.keys()
    )
    assert {name for name in runtime.keys() & checks.keys() if runtime[name] != checks[name]} == set()
