"""Wording: the words and word pairs of a text, weighted by how rare they are (TF-IDF).

Sentence embeddings say what a text is about; how it is asked ("how soon", "associated with", "what helps") tells the
kinds apart when the subject is the same. The vocabulary comes from the training texts alone.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from medx_core.routing.router import Floats

_TOKEN = re.compile(r"[a-z0-9']+|[?!:]")
MIN_TEXTS = 2
MAX_CHARACTERS = 2_000


@dataclass(frozen=True)
class Wording:
    """A vocabulary of words and word pairs with their rarity, idf (terms,)."""

    terms: tuple[str, ...]
    idf: Floats

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {term: column for column, term in enumerate(self.terms)}

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """Return a sparse (n, terms) matrix, rows of length 1; a row is zero where no term is known."""
        values: list[float] = []
        columns: list[int] = []
        ends = [0]
        for text in texts:
            row_columns, row_values = self._row(text)
            columns.extend(row_columns)
            values.extend(row_values)
            ends.append(len(columns))
        shape = (len(texts), len(self.terms))
        return csr_matrix(
            (np.array(values, dtype=np.float32), np.array(columns, dtype=np.int32), np.array(ends)),
            shape=shape,
        )

    def _row(self, text: str) -> tuple[list[int], list[float]]:
        known = {
            self._columns[term]: times
            for term, times in Counter(terms_of(text)).items()
            if term in self._columns
        }
        columns = sorted(known)
        weighted = np.array([(1.0 + np.log(known[c])) * self.idf[c] for c in columns], dtype=np.float64)
        length = float(np.linalg.norm(weighted)) or 1.0
        return columns, (weighted / length).tolist()


def terms_of(text: str) -> list[str]:
    """Return the words, the signs ?, ! and :, and the pairs of neighbours of a text."""
    tokens = _TOKEN.findall(text[:MAX_CHARACTERS].lower().replace("’", "'"))
    return tokens + [f"{first} {second}" for first, second in pairwise(tokens)]


def learn_wording(texts: Sequence[str]) -> Wording:
    """Collect the terms that occur in MIN_TEXTS texts or more."""
    counts = Counter(term for text in texts for term in set(terms_of(text)))
    terms = tuple(sorted(term for term, count in counts.items() if count >= MIN_TEXTS))
    idf = [np.log((1 + len(texts)) / (1 + counts[term])) + 1.0 for term in terms]
    return Wording(terms, np.array(idf, dtype=np.float32))
