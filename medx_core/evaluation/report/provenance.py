"""Everything an evaluation was made with, so that a reader can make it again: settings, choices, hashes, notes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from medx_core.evaluation.number_format import NOTHING, count, number, written
from medx_core.evaluation.report.readings import Evaluation, Json, part
from medx_core.evaluation.report.table_values import Cell, Column, Row, Table

SHOWN_ELSEWHERE = (
    "arms", "comparisons", "conclusion", "exploratory", "failed_controls", "helps", "judged", "matched", "models",
    "sweep",
)  # fmt: skip
SHORT_HASH = 12


@dataclass(frozen=True)
class Fact:
    """One named value; `full` is the whole of what `value` shortens."""

    name: str
    value: str
    full: str = ""


def compared(evaluated: Evaluation) -> list[Fact]:
    """Return what was compared, in the few facts that belong under the conclusion."""
    result = evaluated.result
    choices = choices_of(evaluated)
    declared = evaluated.arm(evaluated.declared)
    facts = [
        Fact("Model", _several(result.get("model")), written(result.get("model_sha256"))),
        Fact("Declared beforehand", declared.title if declared else evaluated.declared, evaluated.declared),
        Fact("Test items", _whole(result.get("n_test"))),
        Fact("Training items", _whole(result.get("n_train"))),
        Fact("Prompt", written(choices.get("prompt") or part(result, "choices").get("prompt"))),
        Fact("Layer, strength", _setting(choices)),
        Fact("Data", _data(result), written(result.get("data_sha256"))),
        Fact("Seed", written(result.get("seed"))),
    ]
    return [fact for fact in facts if fact.value not in ("", NOTHING)]


def choices_of(evaluated: Evaluation) -> Json:
    """Return what was chosen for the declared arm: its own choices where they are kept by arm."""
    choices = part(evaluated.result, "choices")
    return part(choices, evaluated.declared) or choices


def _data(result: Json) -> str:
    name = result.get("data")
    return name if isinstance(name, str) and name else _short(result.get("data_sha256"))


def all_facts(result: Json) -> list[tuple[str, list[Fact]]]:
    """Return every value of the result that no other part of the report shows, in groups as they stand in it."""
    rest = _rest(result)
    single = {key: value for key, value in rest.items() if not isinstance(value, Mapping)}
    groups = [("run", single), *((key, part(rest, key)) for key in rest if key not in single)]
    read = [(name, [Fact(key, value) for key, value in _flat(data, "")]) for name, data in groups]
    return [(name.replace("_", " "), facts) for name, facts in read if facts]


def all_tables(result: Json) -> list[Table]:
    """Return every list of objects among them, such as the prompts that were tried, as a table."""
    return list(_tables(_rest(result), ""))


def _rest(result: Json) -> Json:
    return {key: value for key, value in result.items() if key not in SHOWN_ELSEWHERE}


def _is_table(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _is_profile(value: object) -> bool:
    """Whether this is a figure for each layer, or the like: an object whose names are all numbers."""
    return isinstance(value, Mapping) and bool(value) and all(str(key).isdecimal() for key in value)


def _flat(data: Json, before: str) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        name = f"{before}{key}"
        if _is_profile(value):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} · ")
        elif isinstance(value, list | tuple):
            if not _is_table(value):
                yield name, ", ".join(written(one) for one in value) or NOTHING
        else:
            yield name, written(value)


def _tables(data: Json, before: str) -> Iterator[Table]:
    for key, value in data.items():
        name = f"{before}{key}"
        if _is_profile(value):
            yield _table(name, [{"key": one, "value": figure} for one, figure in value.items()])
        elif isinstance(value, Mapping):
            yield from _tables(value, f"{name} · ")
        elif _is_table(value):
            yield _table(name, value)


def _table(name: str, entries: list[Json]) -> Table:
    keys = list(dict.fromkeys(str(key) for entry in entries for key in entry))
    first, others = keys[0], keys[1:]
    rows = tuple(
        Row(written(entry.get(first)), "", tuple(Cell(written(entry.get(key))) for key in others))
        for entry in entries
    )
    return Table(name, tuple(Column(key) for key in others), rows)


def _several(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_several(one) for one in value)
    if isinstance(value, Mapping):
        return ", ".join(str(one) for one in value)
    return written(value)


def _whole(value: object) -> str:
    known = number(value)
    return NOTHING if known is None else count(int(known))


def _short(value: object) -> str:
    text = written(value)
    return f"{text[:SHORT_HASH]}…" if len(text) > SHORT_HASH else text


def _setting(choices: Json) -> str:
    layer, strength = choices.get("layer"), choices.get("strength")
    return "" if layer is None and strength is None else f"{_several(layer)}, {_several(strength)}"
