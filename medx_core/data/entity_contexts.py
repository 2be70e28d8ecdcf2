"""Which entities are spoken of in similar words: the femoral artery is nearer to the popliteal than to the lingual."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import sparse

from medx_core.data.entity_mentions import Words

NEIGHBOURS = 12


def nearest(
    contexts: Mapping[Words, Counter[str]], kinds: Mapping[str, Sequence[Words]]
) -> dict[Words, tuple[Words, ...]]:
    """Return for each entity up to `NEIGHBOURS` others of its kind, those with the most similar contexts first.

    Args:
        contexts: how often which word stands in a text with the entity, its own words left out.
        kinds: the entities of each kind, the most frequent first, which also decides between equals.
    """
    spread = Counter(word for counted in contexts.values() for word in counted)
    columns = {word: column for column, word in enumerate(spread)}
    near: dict[Words, tuple[Words, ...]] = {}
    for entities in kinds.values():
        rows, places, weights = [], [], []
        for row, entity in enumerate(entities):
            for word, count in contexts[entity].items():
                rows.append(row)
                places.append(columns[word])
                weights.append((1 + math.log(count)) * math.log(len(contexts) / spread[word] + 1))
        matrix = sparse.csr_matrix((weights, (rows, places)), shape=(len(entities), len(columns)))
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel()) + 1e-12
        likeness = (matrix @ matrix.T).toarray() / lengths[:, None] / lengths[None, :]
        np.fill_diagonal(likeness, -1.0)
        order = np.argsort(-likeness, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(entities) - 1)]
        near.update(
            (entity, tuple(entities[place] for place in order[row])) for row, entity in enumerate(entities)
        )
    return near
