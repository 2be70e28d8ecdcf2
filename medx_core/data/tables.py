"""What both kinds of file become before their cells are understood: columns and numbered records."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from medx_core.data.problems import FileRefused, Problem, shortened

TEXT_COLUMNS = ("question", "statement")
KNOWN_COLUMNS = (*TEXT_COLUMNS, "id", "answer", "category", "harm", "urgency", "reference", "split", "pair")
MAX_COLUMNS = 1_000

_OFTEN_MEANT = frozenset(
    {
        "text",
        "prompt",
        "claim",
        "query",
        "input",
        "sentence",
        "questions",
        "statements",
        "item",
        "stem",
        "hypothesis",
    }
)


@dataclass(frozen=True, slots=True)
class Record:
    """One record. Known columns are keyed by their plain name, others as the header spells them.

    `problem` says why the record as a whole cannot be read; its cells are then empty.
    """

    number: int
    cells: dict[str, str]
    problem: Problem | None = None


@dataclass(frozen=True)
class Table:
    """A file's records. `columns` are the keys of the cells, in the file's order."""

    columns: tuple[str, ...]
    records: tuple[Record, ...]
    format: str
    delimiter: str | None = None
    notices: tuple[Problem, ...] = field(default_factory=tuple)

    @cached_property
    def text_column(self) -> str:
        """The column that holds what is asked."""
        return next(name for name in TEXT_COLUMNS if name in self.columns)


def column_key(name: str) -> str:
    """Return the key of a column: the plain name if it is known, else the name without outer spaces."""
    stripped = name.strip().strip("\ufeff\u200b").strip()
    return stripped.casefold() if stripped.casefold() in KNOWN_COLUMNS else stripped


def check_columns(columns: tuple[str, ...]) -> None:
    """Refuse columns from which no question can be read.

    Raises:
        FileRefused: none or both of `question` and `statement`, a name twice, or a broken name.
    """
    _refuse_unreadable_names(columns)
    texts = [name for name in TEXT_COLUMNS if name in columns]
    if not texts:
        raise FileRefused(_missing_column(columns))
    if len(texts) == 2:
        raise FileRefused(
            "The file has both a 'question' and a 'statement' column; rename the one that is not to be answered."
        )
    seen: dict[str, int] = {}
    for position, name in enumerate(columns, start=1):
        if name.casefold() in seen:
            raise FileRefused(
                f"The columns {seen[name.casefold()]} and {position} are both called '{shortened(name)}'; "
                "give each column a name of its own."
            )
        seen[name.casefold()] = position


def too_many_rows(limit: int) -> FileRefused:
    """Return the refusal of a file with more than `limit` rows."""
    return FileRefused(f"The file has more than {limit:,} rows, the limit; split it into smaller files.")


def _refuse_unreadable_names(columns: tuple[str, ...]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise FileRefused(
            f"The file has more than {MAX_COLUMNS:,} columns, the limit; leave out what is not needed."
        )
    if any("\x00" in name or not is_storable(name) for name in columns):
        raise FileRefused(
            "The header line holds characters that cannot be read; save the file again as UTF-8 CSV."
        )


def is_storable(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no half characters."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _missing_column(columns: tuple[str, ...]) -> str:
    found = ", ".join(f"'{shortened(name)}'" for name in columns[:10]) + (
        ", ..." if len(columns) > 10 else ""
    )
    meant = next((name for name in columns if name.casefold() in _OFTEN_MEANT), None)
    rename = f"rename '{meant}'" if meant else "name the columns in the first line"
    return f"The file has no 'question' or 'statement' column; {rename} to say what is to be answered (found: {found})."


def named_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Return keys for `names`; a column without a name is called by its position, as in 'column 3'."""
    keys = [column_key(name) for name in names]
    return tuple(key or f"column {position}" for position, key in enumerate(keys, start=1))
