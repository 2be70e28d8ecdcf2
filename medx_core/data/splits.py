"""Samples and splits of labelled statements: exact sizes, and no group on two sides.

Parts keep the shares of the strata (answer, difficulty, and for made twins the answer of their source). Groups are
taken whole; single statements then bring each part to its exact size. Where that is not enough, part of a group is
taken and the rest of it is in no part.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput

Stratum = tuple[bool, str, bool | None]
Unit = tuple[int, ...]  # the places of one group's statements


def draw_sample(statements: Sequence[LabelledStatement], n: int, seed: int) -> tuple[LabelledStatement, ...]:
    """Return `n` statements in their order; the same ones for the same statements and seed.

    Raises:
        BadInput: there are fewer than `n`.
    """
    if not 0 < n <= len(statements):
        raise BadInput(
            f"A sample of {n:,} cannot be drawn from {len(statements):,} labelled statements; choose a size in between."
        )
    return _at(statements, _Drawing(statements, seed).take(n))


def split(
    statements: Sequence[LabelledStatement], n_train: int, n_test: int, seed: int
) -> tuple[tuple[LabelledStatement, ...], tuple[LabelledStatement, ...]]:
    """Return a train and a test part of exactly these sizes, each in the order of `statements`.

    Statements beyond both sizes are in neither part.

    Raises:
        BadInput: there are too few statements, or the sizes cannot be met without dividing a group.
    """
    if n_train < 1 or n_test < 1 or n_train + n_test > len(statements):
        raise BadInput(
            f"{len(statements):,} labelled statements cannot be split into {n_train:,} for training and {n_test:,} "
            "for testing; choose smaller sizes."
        )
    drawing = _Drawing(statements, seed)
    # The smaller part is the harder one to fill from whole groups.
    first, second = sorted((n_train, n_test))
    chosen = [drawing.take(first), drawing.take(second)]
    train, test = chosen if n_train <= n_test else reversed(chosen)
    if len(train) + len(test) < n_train + n_test:
        raise BadInput(
            f"A split into {n_train:,} and {n_test:,} would divide a group of statements that belong together; choose "
            "slightly smaller sizes."
        )
    return _at(statements, train), _at(statements, test)


def split_by_share(
    statements: Sequence[LabelledStatement], train_share: float, seed: int
) -> tuple[tuple[LabelledStatement, ...], tuple[LabelledStatement, ...]]:
    """Return a train and a test part of about that share, each in the order of `statements`; nothing is left over.

    Groups stay whole, so that the test part may have some statements fewer than its share.

    Raises:
        BadInput: there are fewer than two statements.
    """
    count = len(statements)
    n_test = count - round(count * train_share)
    if not 1 <= n_test < count:
        raise BadInput(f"{count:,} labelled statements cannot be split into a training and a test part.")
    test = set(_Drawing(statements, seed).take(n_test, whole=True))
    train = [place for place in range(count) if place not in test]
    return _at(statements, train), _at(statements, sorted(test))


class _Drawing:
    """Whole groups and single statements in random order, taken part by part; nothing is taken twice."""

    def __init__(self, statements: Sequence[LabelledStatement], seed: int) -> None:
        self._strata: list[Stratum] = [
            (statement.answer, statement.difficulty, statement.source_answer) for statement in statements
        ]
        self._shares = Counter(self._strata)
        members: dict[str, list[int]] = defaultdict(list)
        for place, statement in enumerate(statements):
            members[statement.group or f"single {place}"].append(place)
        units: list[Unit] = [tuple(places) for places in members.values()]
        random.Random(seed).shuffle(units)
        self._groups: list[Unit] = [unit for unit in units if len(unit) > 1]
        self._singles: list[Unit] = [unit for unit in units if len(unit) == 1]
        self._grouped_share = sum(map(len, self._groups)) / len(statements)

    def take(self, n: int, *, whole: bool = False) -> list[int]:
        """Return the places of `n` statements, fewer only when too little is left or no `whole` group fits."""
        wanted = apportioned(self._shares, n)
        taken: list[int] = []

        def left_of(units: list[Unit], most: int = n, *, any_stratum: bool = False) -> list[Unit]:
            """Take each unit that fits, `most` statements in all; return the units that were not taken."""
            left: list[Unit] = []
            limit = min(most, n - len(taken))
            for unit in units:
                needed = Counter(self._strata[place] for place in unit)
                fits = any_stratum or all(wanted[stratum] >= count for stratum, count in needed.items())
                if len(unit) > limit or not fits:
                    left.append(unit)
                    continue
                limit -= len(unit)
                taken.extend(unit)
                for stratum, count in needed.items():
                    wanted[stratum] -= count
            return left

        self._groups = left_of(self._groups, round(n * self._grouped_share))
        self._singles = left_of(self._singles)
        self._groups = left_of(self._groups)
        self._singles = left_of(self._singles, any_stratum=True)
        self._groups = left_of(self._groups, any_stratum=True)
        missing = n - len(taken)
        if missing and self._groups and not whole:
            divided = min(self._groups, key=len)
            self._groups.remove(divided)
            taken.extend(divided[:missing])
        return taken


def apportioned(counts: Counter[Stratum], n: int) -> dict[Stratum, int]:
    """Divide `n` in proportion to `counts` by largest remainders, ties by the order of the keys."""
    total = counts.total()
    whole = {key: n * count // total for key, count in counts.items()}
    by_remainder = sorted(counts, key=lambda key: (-(n * counts[key] % total), str(key)))
    for key in by_remainder[: n - sum(whole.values())]:
        whole[key] += 1
    return whole


def _at(statements: Sequence[LabelledStatement], places: Iterable[int]) -> tuple[LabelledStatement, ...]:
    return tuple(statements[place] for place in sorted(places))
