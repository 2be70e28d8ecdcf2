"""Everything an evaluation was made with, so that a reader can make it again: settings, choices, versions, hashes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from medx_core.evaluation.number_format import count, written
from medx_core.evaluation.report.tables import Cell, Head, Row, Table
from medx_core.evaluation.report.words import arm_title
from medx_core.evaluation.result import EvaluationResult

SHOWN_ELSEWHERE = {
    "abstention_rules", "arms", "comparisons", "conclusion", "exploratory", "failed_controls", "helps", "judged", "layers_tried", "matched",
    "models", "sweep", "uncalibrated",
}  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """A named value; `hover` is more about it: the whole of a shortened value, or what it means."""

    name: str
    value: str
    hover: str = ""


def main_facts(result: EvaluationResult) -> list[Fact]:
    """Return what was compared, in the few facts that belong under the conclusion."""
    choices, declared = result.choices, result.judged.arm
    setting = f"{choices.layer}, {written(choices.strength)}"
    if declared == "paper":
        setting = f"{choices.paper.layer}, {written(choices.paper.alpha)}"
    return [
        Fact("Model", result.model, result.model_sha256),
        Fact("Declared beforehand", arm_title(declared), declared),
        Fact("Test items", count(result.n_test)),
        Fact("Training items", count(result.n_train)),
        Fact("Prompt", choices.prompt),
        Fact("Layer, strength", setting),
        Fact("Data", result.data, result.data_sha256),
        Fact("Seed", str(result.seed)),
    ]


def all_facts(result: EvaluationResult) -> list[tuple[str, list[Fact]]]:
    """Return every value that no other part of the report shows, grouped as in the JSON."""
    groups: dict[str, list[Fact]] = {"run": []}
    for path, value, meaning in _values(result, (), ""):
        group = path[0].replace("_", " ") if len(path) > 1 else "run"
        groups.setdefault(group, []).append(Fact(" · ".join(path[1:] or path), value, meaning))
    for name, model in result.models.items():
        groups[name] = [
            Fact(" · ".join(path), value, meaning) for path, value, meaning in _values(model, (), "")
        ]
    return [(name, facts) for name, facts in groups.items() if facts]


def all_tables(result: EvaluationResult) -> list[Table]:
    """Return every list among them as a table: the prompts, layers and strengths that were tried."""
    choices = result.choices
    layers = tuple(Row(str(layer), (Cell(written(value)),)) for layer, value in choices.layers_tried.items())
    tables = (
        _table("choices · prompts_tried", choices.prompts_tried),
        _table("choices · strengths_tried", choices.strengths_tried),
        Table("choices · layers_tried", (Head("rank quality"),), layers),
    )
    return [table for table in tables if table.rows]


def _values(value: object, path: tuple[str, ...], meaning: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield the path, the text and the meaning of each single value inside a value; tables are left out."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name not in SHOWN_ELSEWHERE:
                yield from _values(getattr(value, name), (*path, name), field.description or "")
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _values(inner, (*path, str(key)), meaning)
    elif not isinstance(value, tuple):
        yield path, written(value), meaning
    elif not any(isinstance(entry, BaseModel) for entry in value):
        yield path, ", ".join(map(written, value)) or written(None), meaning


def _table(title: str, entries: Sequence[BaseModel]) -> Table:
    """Return a table of values of one type, one row per value; the first field is the head of the row."""
    fields = type(entries[0]).model_fields if entries else {}
    rows = (tuple(written(getattr(entry, name)) for name in fields) for entry in entries)
    return Table(
        title,
        tuple(Head(name, field.description or "") for name, field in fields.items())[1:],
        tuple(Row(first, tuple(map(Cell, others))) for first, *others in rows),
    )
