"""How figures about wording are shown."""

from typing import Any

from rich.table import Table


def leak_table(groups: dict[str, dict[str, Any]], title: str) -> Table:
    """Return a table of what each reader reaches on each group of statements."""
    table = Table("statements", "reader", "accuracy", "AUROC", title=title)
    for name, readers in groups.items():
        for reader, values in readers.items():
            table.add_row(name, reader, *(_figure(values[key]) for key in ("accuracy", "auroc")))
    return table


def _figure(value: dict[str, float] | None) -> str:
    return "too few" if value is None else f"{value['value']:.3f} ({value['low']:.3f}-{value['high']:.3f})"
