"""The words and word pairs of a text, weighted by how rare they are (TF-IDF).

Sentence embeddings say what a text is about; how it is asked ("how soon", "associated with", "what helps") separates
the categories when the subject is the same. The vocabulary comes from the training texts alone.

The weights are those of scikit-learn's TfidfVectorizer with `sublinear_tf=True`; a test compares the two. It is not
used itself because importing it takes four CPU seconds or more (it loads scipy.stats and pandas), more than all else
that `medx router explain` does.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix

from medx_core.routing.encoder_files import MAX_CHARACTERS
from medx_core.routing.router import Floats

_TOKEN = re.compile(r"[a-z0-9']+|[?!:]")
MIN_TEXTS = 2
"""A term of fewer training texts is left out."""


@dataclass(frozen=True)
class Vocabulary:
    """Words and word pairs with their inverse document frequencies, idf (terms,)."""

    terms: tuple[str, ...]
    idf: Floats

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {term: column for column, term in enumerate(self.terms)}

    def features(self, texts: Sequence[str]) -> csr_matrix:
        """Return a sparse (n, terms) matrix, rows of length 1; a row is zero where no term is known."""
        rows = [self._row(text) for text in texts]
        ends = np.cumsum([0, *(len(columns) for columns, _ in rows)])
        columns = np.concatenate([np.zeros(0, np.int32), *(columns for columns, _ in rows)])
        values = np.concatenate([np.zeros(0, np.float32), *(values for _, values in rows)])
        return csr_matrix((values, columns, ends), shape=(len(texts), len(self.terms)))

    def _row(self, text: str) -> tuple[np.ndarray, Floats]:
        """Return the columns of a text's known terms in order, int32, and their weights."""
        counts = Counter(self._columns[term] for term in terms_of(text) if term in self._columns)
        columns = np.array(sorted(counts), dtype=np.int32)
        weights = (1.0 + np.log([float(counts[column]) for column in columns.tolist()])) * self.idf[columns]
        return columns, (weights / (np.linalg.norm(weights) or 1.0)).astype(np.float32)


def terms_of(text: str) -> list[str]:
    """Return the words, the signs ?, ! and :, and the pairs of neighbours of a text."""
    tokens = _TOKEN.findall(text[:MAX_CHARACTERS].lower().replace("’", "'"))
    return tokens + [f"{first} {second}" for first, second in pairwise(tokens)]


def learn_vocabulary(texts: Sequence[str]) -> Vocabulary:
    """Collect the terms that occur in MIN_TEXTS texts or more."""
    counts = Counter(term for text in texts for term in set(terms_of(text)))
    terms = tuple(sorted(term for term, count in counts.items() if count >= MIN_TEXTS))
    idf = [np.log((1 + len(texts)) / (1 + counts[term])) + 1.0 for term in terms]
    return Vocabulary(terms, np.array(idf, dtype=np.float32))
