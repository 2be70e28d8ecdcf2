"""Single statements that steering put right, and those it put wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medx_core.evaluation.number_format import NOTHING, number, signed
from medx_core.evaluation.report.readings import Arm, part, sequence


@dataclass(frozen=True)
class Example:
    """One test item before and after. `false_accepted`: a FALSE statement that is answered TRUE only now."""

    row: str
    statement: str
    gold: str
    before: str
    after: str
    before_score: str
    after_score: str
    false_accepted: bool


@dataclass(frozen=True)
class Examples:
    """The examples of one direction, `helped` or `harmed`, with the number of all such items."""

    direction: str
    all_of_them: int | None
    shown: tuple[Example, ...]


def examples_of(arm: Arm) -> tuple[Examples, ...]:
    """Return the helped and the harmed examples of an arm; none when the result holds none."""
    against = part(arm.data, "vs_unsteered")
    written = part(against, "examples")
    found = tuple(
        Examples(direction, _count(against.get(direction)), tuple(_examples(written, direction)))
        for direction in ("helped", "harmed")
    )
    return found if any(one.shown for one in found) else ()


def _count(value: object) -> int | None:
    known = number(value)
    return None if known is None else int(known)


def _examples(written: Mapping[str, object], direction: str) -> Iterator[Example]:
    for entry in sequence(written, direction):
        if not isinstance(entry, Mapping):
            continue
        before, after = number(entry.get("unsteered_score")), number(entry.get("score"))
        gold = _answer(entry.get("answer"))
        yield Example(
            row="" if entry.get("row") is None else str(entry["row"]),
            statement=str(entry.get("statement", "")),
            gold=gold,
            before=_verdict(before),
            after=_verdict(after),
            before_score=_score(before),
            after_score=_score(after),
            false_accepted=gold == "FALSE" and _verdict(after) == "TRUE" and _verdict(before) == "FALSE",
        )


def _answer(value: object) -> str:
    return ("TRUE" if value else "FALSE") if isinstance(value, bool) else str(value or NOTHING).upper()


def _verdict(score: float | None) -> str:
    if score is None:
        return NOTHING
    return "TRUE" if score >= 0 else "FALSE"


def _score(score: float | None) -> str:
    return "" if score is None else signed(score, 2)
