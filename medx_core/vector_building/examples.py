"""Which statements go into a vector, and the hash that names them."""

import hashlib
from collections.abc import Sequence

from medx_core.data.labelled_statements import LabelledStatement


def whole_groups(statements: Sequence[LabelledStatement], most: int | None) -> list[LabelledStatement]:
    """Take statements in order, whole groups only, up to `most` of them; all where `most` is None."""
    members: dict[str, list[LabelledStatement]] = {}
    for statement in statements:
        members.setdefault(statement.group, []).append(statement)
    chosen: list[LabelledStatement] = []
    for group in members.values():
        if most is None or len(chosen) + len(group) <= most:
            chosen.extend(group)
    return chosen


def sha256_of_statements(statements: Sequence[LabelledStatement]) -> str:
    """Return a hash of texts and answers in order: the data a vector was made from."""
    digest = hashlib.sha256()
    for statement in statements:
        digest.update(f"{int(statement.answer)}\t{statement.text}\n".encode())
    return digest.hexdigest()
