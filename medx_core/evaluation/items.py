"""The items of an evaluation: every test statement with the scores of every arm, as values and as a file.

All figures of a result are made from these alone (`result_builder`), by the evaluation and by `medx evaluate
--recheck FILE`, so anybody can check them. A file is a table of one row per model and test item, as CSV or Parquet:
first the columns of `ItemRow`, then `score:ARM`, `verdict:ARM` and `answer_word:ARM` per arm, for arms whose scores are
mapped to probabilities also `probability:ARM` (of TRUE) and `trusted:ARM`, `score:CONTROL:DRAW` per draw of a control
(its verdict is TRUE at a score of 0 or more), and `wording:READER` per reader of wording.
"""

import csv
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.data.result_files import guarded, unguarded
from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, Flags, TestItems, Values
from medx_core.evaluation.data_split import TEST
from medx_core.evaluation.exclusion import ASSOCIATION, Excluded
from medx_core.evaluation.wording_free import WordingReading

CONTROL_OF = {"random": "paper", "shuffled": "paper", "gated_random": "gated", "gated_shuffled": "gated"}
"""The arm that each drawn control belongs to."""
SCORE, VERDICT, ANSWER_WORD, WORDING = "score", "verdict", "answer_word", "wording"
PROBABILITY, TRUSTED = "probability", "trusted"
PARQUET = ".parquet"

Cells = Mapping[str, object]


@dataclass(frozen=True)
class TestScores:
    """Everything that the figures of one model are made from.

    `items` are the test statements, then the swaps of FALSE statements (the association control); `arms` score all of
    them, `controls` the test statements alone, as does `wording`. `fitted_on` (test statements,) says whose twin or
    near copy was fitted on. `excluded` are statements that the model could not be asked, and have no scores.
    """

    model: str
    model_sha256: str
    device: str
    data_sha256: str
    seed: int
    declared: str
    items: TestItems
    arms: tuple[ArmScores, ...]
    controls: tuple[ControlDraws, ...]
    wording: WordingReading
    fitted_on: Flags
    excluded: tuple[Excluded, ...] = ()

    __test__ = False  # the name starts with Test: tell pytest that this is not one

    def arm(self, name: str) -> ArmScores:
        """Return one arm by its name.

        Raises:
            BadInput: it was not run.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise BadInput(f"The arm {name} of {self.model} was not run.")


class ItemRow(BaseModel):
    """The first columns of an items file. An empty cell means that there is nothing to say."""

    model_config = ConfigDict(frozen=True)

    model: str = Field(description="name of the model")
    model_sha256: str = Field(description="hash of its weights")
    device: str = Field(description="device and number type")
    data_sha256: str = Field(description="hash of the data file")
    seed: int = Field(description="seed of the intervals")
    declared: str = Field(description="the arm that is judged")
    row: int = Field(description="row of the data file: the first below the header is 1")
    group: str = Field(description="statements of one group (twins, near copies) are resampled together")
    pair: str = Field("", description="twins, or the two versions of a swapped FALSE statement")
    statement: str = Field(description="the statement")
    answer: bool = Field(description="the gold answer")
    category: Category | None = Field(None, description="the category")
    difficulty: str = Field("", description="the difficulty")
    harm: str = Field("", description="harm of a wrong answer")
    source_answer: bool | None = Field(None, description="answer of the original; FALSE: association control")
    original: bool | None = Field(None, description="whether this is the statement the pair was made from")
    kind: str = Field("", description="the kind of word that the pair exchanges")
    fitted_on: bool = Field(False, description="whether its twin or a near copy was fitted on")
    matched: bool = Field(False, description="whether it is kept when items are matched by wording")
    wording_fitted_on: int = Field(0, description="statements that the readers of wording were fitted on")
    wording_unread: str = Field("", description="why no reader of wording could be fitted")
    excluded: str = Field(
        "", description="why the model could not be asked this statement, which then has no scores"
    )


_OF_RUN = ("model", "model_sha256", "device", "data_sha256", "seed", "declared")
_OF_STATEMENT = (
    "row", "group", "pair", "answer", "category", "difficulty", "harm", "source_answer", "original", "kind",
)  # fmt: skip


def write_items(runs: Sequence[TestScores], path: Path) -> None:
    """Write the items as CSV, or as Parquet where the name ends in .parquet.

    Raises:
        BadInput: the file cannot be written.
    """
    content = items_parquet(runs) if path.suffix.lower() == PARQUET else _items_csv(runs).encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({(error.strerror or 'unknown reason').lower()})."
        ) from error


def items_parquet(runs: Sequence[TestScores]) -> bytes:
    """Return the items as the content of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    out = BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(_table(runs)), out)
    return out.getvalue()


def _items_csv(runs: Sequence[TestScores]) -> str:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    table = _table(runs)
    writer.writerow(table)
    writer.writerows([_cell(value) for value in row] for row in zip(*table.values(), strict=True))
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    return guarded(str(value)) if isinstance(value, str) else repr(value)


def _table(runs: Sequence[TestScores]) -> dict[str, list[object]]:
    """Return the columns of all models, one below the other."""
    tables = [_columns(run) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    return {
        name: [
            value
            for run, table in zip(runs, tables, strict=True)
            for value in table.get(name, [None] * (len(run.items) + len(run.excluded)))
        ]
        for name in names
    }


def _columns(run: TestScores) -> dict[str, list[object]]:
    statements = run.items.statements
    tested, count = run.items.counted, len(statements)

    def of_tested(values: Iterable[object]) -> list[object]:
        """Leave the cells of the association control empty."""
        known = iter(values)
        return [next(known) if is_tested else None for is_tested in tested]

    columns: dict[str, list[object]] = {name: [getattr(run, name)] * count for name in _OF_RUN}
    columns |= _columns_of_statements(statements)
    columns["fitted_on"] = of_tested(run.fitted_on.tolist())
    columns["matched"] = of_tested(run.wording.matched.tolist() or [None] * count)
    columns["wording_fitted_on"] = [run.wording.fitted_on] * count
    columns["wording_unread"] = [run.wording.unread] * count
    for reader, scores in run.wording.scores.items():
        columns[f"{WORDING}:{reader}"] = of_tested(scores.tolist())
    for arm in run.arms:
        columns |= _columns_of_arm(arm)
    for control in run.controls:
        for draw, scores in enumerate(control.scores, start=1):
            columns[f"{SCORE}:{control.name}:{draw}"] = of_tested(scores.tolist())
    columns["excluded"] = [None] * count
    left_out = _columns_of_statements([each.statement for each in run.excluded])
    left_out |= {name: [getattr(run, name)] * len(run.excluded) for name in _OF_RUN}
    left_out["excluded"] = [each.reason for each in run.excluded]
    none = [None] * len(run.excluded)
    return {name: [*values, *left_out.get(name, none)] for name, values in columns.items()}


def _columns_of_statements(statements: Sequence[LabelledStatement]) -> dict[str, list[object]]:
    columns = {name: [getattr(statement, name) for statement in statements] for name in _OF_STATEMENT}
    columns["category"] = [statement.category and statement.category.value for statement in statements]
    return columns | {"statement": [statement.text for statement in statements]}


def _columns_of_arm(arm: ArmScores) -> dict[str, list[object]]:
    columns = {
        SCORE: arm.scores,
        VERDICT: arm.scores >= 0,
        ANSWER_WORD: arm.answer_words,
        PROBABILITY: arm.probabilities,
        TRUSTED: arm.trusted,
    }
    return {f"{kind}:{arm.name}": values.tolist() for kind, values in columns.items() if values is not None}


def read_items(source: Path | bytes, name: str = "") -> list[TestScores]:
    """Read the items of each model from a CSV or Parquet file, or from the content of a Parquet file.

    Raises:
        BadInput: it cannot be read, or is not what `medx evaluate --items` writes.
    """
    name = name or str(source)
    rows = [
        {column: value for column, value in row.items() if value not in ("", None)}
        for row in _raw_rows(source, name)
    ]
    if not rows:
        raise BadInput(f"{name} has no items.")
    by_model: dict[str, list[_Row]] = {}
    for number, cells in enumerate(rows, start=2):
        row = _row(cells, f"{name}, row {number}")
        by_model.setdefault(row.item.model, []).append(row)
    return [_run(model_rows, name) for model_rows in by_model.values()]


def _raw_rows(source: Path | bytes, name: str) -> list[dict[str, object]]:
    try:
        if isinstance(source, bytes) or source.suffix.lower() == PARQUET:
            import pyarrow
            import pyarrow.parquet

            file = BytesIO(source if isinstance(source, bytes) else source.read_bytes())
            return list(pyarrow.parquet.read_table(file).to_pylist())
        with source.open(encoding="utf-8-sig", newline="") as lines:
            return [
                {column: unguarded(cell) if column in _TEXTS else cell for column, cell in row.items()}
                for row in csv.DictReader(lines, strict=True)
            ]
    except OSError as error:
        raise BadInput(f"{name} cannot be read ({(error.strerror or 'unknown reason').lower()}).") from error
    except (ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors
        raise BadInput(f"{name} is not a CSV or Parquet file of items.") from error


@dataclass(frozen=True)
class _Row:
    item: ItemRow
    cells: Cells
    place: str


def _row(cells: Cells, place: str) -> _Row:
    try:
        return _Row(ItemRow.model_validate(cells), cells, place)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
        raise BadInput(f"{place}, column {first['loc'][0]}: {message}.") from error


def _numbers(rows: Sequence[_Row], column: str) -> Values:
    return np.array([_read(row, column, float, "a number") for row in rows], dtype=float)


def _flags(rows: Sequence[_Row], column: str) -> Flags:
    known = {"TRUE": True, "FALSE": False}
    return np.array([_read(row, column, lambda cell: known[cell.upper()], "TRUE or FALSE") for row in rows])


def _read(row: _Row, column: str, parse: Callable[[str], float], needed: str) -> float:
    try:
        return parse(str(row.cells[column]))
    except (KeyError, ValueError) as error:
        raise BadInput(f"{row.place}, column {column}: {needed} is needed.") from error


def _run(every_row: Sequence[_Row], name: str) -> TestScores:
    """Return the scores of one model from its rows: a column is named KIND:ARM, or score:CONTROL:DRAW."""
    rows = [row for row in every_row if not row.item.excluded]
    if not rows:
        raise BadInput(f"{name} has no items of the model {every_row[0].item.model} that were asked.")
    first, tested = rows[0].item, [row for row in rows if row.item.source_answer is not False]
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    arms, readers, draws = [], [], dict[str, list[Values]]()
    for column in columns:
        match column.split(":"):
            case [kind, name] if kind == SCORE:
                arms.append(_arm(rows, name, columns))
            case [kind, name, _draw] if kind == SCORE:
                draws.setdefault(name, []).append(_numbers(tested, column))
            case [kind, name] if kind == WORDING:
                readers.append(name)
    return TestScores(
        **{name: getattr(first, name) for name in _OF_RUN},
        items=TestItems([_statement(row.item) for row in rows]),
        arms=tuple(arms),
        controls=tuple(
            ControlDraws(name, CONTROL_OF.get(name, ""), np.stack(drawn)) for name, drawn in draws.items()
        ),
        wording=WordingReading(
            first.wording_fitted_on,
            {name: _numbers(tested, f"{WORDING}:{name}") for name in readers},
            np.array([row.item.matched for row in tested], dtype=bool),
            first.wording_unread,
        ),
        fitted_on=np.array([row.item.fitted_on for row in tested], dtype=bool),
        excluded=tuple(
            Excluded(_statement(row.item), _part(row.item), row.item.excluded)
            for row in every_row
            if row.item.excluded
        ),
    )


def _part(item: ItemRow) -> str:
    return ASSOCIATION if item.source_answer is False else TEST


def _arm(rows: Sequence[_Row], name: str, columns: Container[str]) -> ArmScores:
    word, probability, trusted = (f"{kind}:{name}" for kind in (ANSWER_WORD, PROBABILITY, TRUSTED))
    return ArmScores(
        name,
        _numbers(rows, f"{SCORE}:{name}"),
        _flags(rows, word) if word in columns else None,
        probabilities=_numbers(rows, probability) if probability in columns else None,
        trusted=_flags(rows, trusted) if trusted in columns else None,
    )


def _statement(item: ItemRow) -> LabelledStatement:
    return LabelledStatement(item.statement, **{name: getattr(item, name) for name in _OF_STATEMENT})


_TEXTS = frozenset(name for name, field in ItemRow.model_fields.items() if field.annotation is str)
