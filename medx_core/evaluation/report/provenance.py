"""Everything an evaluation was made with, so that a reader can make it again: settings, choices, versions, hashes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from medx_core.evaluation.number_format import count, written
from medx_core.evaluation.report.tables import Cell, Head, Row, Table
from medx_core.evaluation.report.words import arm_title
from medx_core.evaluation.result import EvaluationResult

SHOWN_ELSEWHERE = {
    "arms", "comparisons", "conclusion", "exploratory", "failed_controls", "helps", "judged", "layers_tried", "matched",
    "models", "sweep",
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
    for name, field in type(result).model_fields.items():
        value = getattr(result, name)
        if name in SHOWN_ELSEWHERE:
            continue
        if isinstance(value, BaseModel | Mapping):
            groups[name.replace("_", " ")] = list(_facts(value, "", field.description or ""))
        else:
            groups["run"].append(Fact(name, written(value), field.description or ""))
    groups |= {name: list(_facts(model, "", "")) for name, model in result.models.items()}
    return [(name, facts) for name, facts in groups.items() if facts]


def all_tables(result: EvaluationResult) -> list[Table]:
    """Return every list among them as a table: the prompts, layers and strengths that were tried."""
    choices = result.choices
    layers = Table(
        "choices · layers_tried",
        (Head("rank quality"),),
        tuple(Row(str(layer), (Cell(written(value)),)) for layer, value in choices.layers_tried.items()),
    )
    tried = {"prompts_tried": choices.prompts_tried, "strengths_tried": choices.strengths_tried}
    tables = [_table(f"choices · {name}", entries) for name, entries in tried.items() if entries]
    return [*tables, *([layers] if layers.rows else [])]


def _facts(value: BaseModel | Mapping[object, object], before: str, description: str) -> Iterator[Fact]:
    """Return the single values inside a value, named by their paths; tables are left out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        entries = {name: (getattr(value, name), fields[name].description or "") for name in fields}
    else:
        entries = {str(key): (inner, description) for key, inner in value.items()}
    for key, (inner, meaning) in entries.items():
        if key in SHOWN_ELSEWHERE:
            continue
        if isinstance(inner, BaseModel | Mapping):
            yield from _facts(inner, f"{before}{key} · ", meaning)
        elif isinstance(inner, tuple):
            if not any(isinstance(entry, BaseModel) for entry in inner):
                yield Fact(f"{before}{key}", ", ".join(map(written, inner)) or written(None), meaning)
        else:
            yield Fact(f"{before}{key}", written(inner), meaning)


def _table(title: str, entries: tuple[BaseModel, ...]) -> Table:
    """Return a table of values of one type, one row per value; the first field is the head of the row."""
    fields = type(entries[0]).model_fields
    _, *names = fields
    rows = (tuple(written(getattr(entry, name)) for name in fields) for entry in entries)
    return Table(
        title,
        tuple(Head(name, fields[name].description or "") for name in names),
        tuple(Row(first, tuple(map(Cell, others))) for first, *others in rows),
    )
