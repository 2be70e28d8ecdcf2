"""Texts that say nearly the same in nearly the same words.

Two texts are near copies when their sets of words, without case and punctuation, have a Jaccard similarity of 0.8 or
more; a group is a connected component of such pairs. Near copies share some of their rarest words, and only texts that
do are compared (50,000 statements take a few seconds).
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

NEAR = 0.8

# A number keeps its sign and its decimals, and a comparison is a word: "pH > 7.4" must not be a copy of "pH < 7.4".
# So is a sign that ends a word and an arrow: "ER+" is not "ER-", nor "K+ \u2191" "K+ \u2193".
_WORD = re.compile(
    r"(?<![\w.])[-\u2212]?\d+(?:[.,]\d+)*|[^\W_]+"
    r"|(?<=\w)[-+\u2212](?!\w)|[<>=\u2260\u2264\u2265\u00b1%~\u2190-\u2193]"
)
_BLOCK_ROWS = 2_000
_SHARED = 2  # near copies that are not equal share four words or more, so asking for two rare ones loses none

Words = frozenset[str]


def words_in_order(text: str) -> tuple[str, ...]:
    """Return the words of `text` without case and punctuation; equal for texts that are exact copies."""
    return tuple(_WORD.findall(text.casefold()))


def similarity(first: Words, second: Words) -> float:
    """Return the share of words two sets have in common; 0 when one of them is empty."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared) if shared else 0.0


class NearCopies:
    """An index of texts that returns the near copies of a further text."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.words: list[Words] = [frozenset(words_in_order(text)) for text in texts]
        self._often = Counter(word for words in self.words for word in words)
        self._holders: dict[str, list[int]] = defaultdict(list)
        for place, words in enumerate(self.words):
            for word in self._rarest(words):
                self._holders[word].append(place)

    def of(self, words: Words) -> list[int]:
        """Return the places of all near copies of a text with these words, in order."""
        places = {place for word in self._rarest(words) for place in self._holders.get(word, ())}
        return sorted(place for place in places if similarity(words, self.words[place]) >= NEAR)

    def _rarest(self, words: Words) -> list[str]:
        return sorted(words, key=lambda word: (self._often[word], word))[: _telling(len(words), 1)]


def near_copy_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of near copies by their places; all near copies are connected by such pairs."""
    sets = [frozenset(words_in_order(text)) for text in texts]
    yield from equal_pairs(sets)
    distinct: dict[Words, int] = {}
    for place, words in enumerate(sets):
        if words:
            distinct.setdefault(words, place)
    places = list(distinct.values())
    for left, right in _near_pairs(list(distinct)):
        yield places[left], places[right]


def equal_pairs(names: Iterable[Hashable]) -> Iterator[tuple[int, int]]:
    """Yield for each name that is not empty the place of its first appearance, and its own place."""
    first: dict[Hashable, int] = {}
    for place, name in enumerate(names):
        if name:
            yield first.setdefault(name, place), place


def components(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Return for each of `count` places the smallest place in its connected component."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    left, right = np.array([*pairs], dtype=np.int32).reshape(-1, 2).T
    graph = csr_matrix((np.ones(len(left)), (left, right)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    smallest = np.unique(labels, return_index=True)[1]
    return list(smallest[labels].tolist())


def _telling(size: int, shared: int) -> int:
    """Return how many of the rarest of `size` words must be looked at for near copies to share `shared` of them."""
    return size - math.ceil(NEAR * size - 1e-9) + shared


def _near_pairs(sets: Sequence[Words]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of near copies among different sets, found block by block as products of sparse matrices."""
    often = Counter(word for words in sets for word in words)
    rarest_first = sorted(often, key=lambda word: (often[word], word))
    rank = {word: place for place, word in enumerate(rarest_first)}
    ranks = [sorted(rank[word] for word in words) for words in sets]
    sizes = np.array([len(words) for words in ranks])
    every = _matrix(ranks, len(rank))
    telling = _matrix([words[: _telling(len(words), _SHARED)] for words in ranks], len(rank))
    across = telling.T.tocsr()
    for start in range(0, len(ranks), _BLOCK_ROWS):
        shared = (telling[start : start + _BLOCK_ROWS] @ across).tocoo()
        left, right = shared.row + start, shared.col
        kept = (shared.data >= _SHARED) & (right < left)
        left, right = left[kept], right[kept]
        close = np.minimum(sizes[left], sizes[right]) >= NEAR * np.maximum(sizes[left], sizes[right]) - 1e-9
        left, right = left[close], right[close]
        both = np.asarray(every[left].multiply(every[right]).sum(axis=1)).ravel()
        near = both >= NEAR * (sizes[left] + sizes[right] - both) - 1e-9
        yield from zip(left[near].tolist(), right[near].tolist(), strict=True)


def _matrix(rows: Sequence[Sequence[int]], width: int) -> Any:
    """Return a sparse matrix with a 1 for each word of a row: (rows, width)."""
    from scipy import sparse

    ends = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter((column for row in rows for column in row), dtype=np.int32, count=int(ends[-1]))
    return sparse.csr_matrix((np.ones_like(columns), columns, ends), shape=(len(rows), width))
