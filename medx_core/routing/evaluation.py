"""How well a router routes: forced best class, calibration, abstention, and what lies out of its field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medx_core.categories import Category
from medx_core.routing.router import CATEGORIES, Floats, ScoringRouter

COVERAGES = tuple(round(0.05 * step, 2) for step in range(20, 0, -1))
MISTAKES = 10

Labels = NDArray[np.int64]


BINS = 15
_TEMPERATURES = np.geomspace(0.2, 10.0, 300)


def fitted_temperature(logits: Floats, labels: NDArray[np.int64]) -> float:
    """Return the temperature under which held-out logits (n, classes) give the labels the greatest likelihood."""
    losses = [log_loss(logits / temperature, labels) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def log_loss(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of labels (n,) under logits (n, classes)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def expected_calibration_error(probabilities: Floats, labels: NDArray[np.int64], bins: int = BINS) -> float:
    """Return the mean gap between confidence and accuracy, over equally wide bins weighted by their share of texts."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(float(confidence[places == place].mean()) - float(right[places == place].mean()))
        * float((places == place).mean())
        for place in np.unique(places)
    ]
    return float(sum(gaps))


@dataclass(frozen=True)
class Labelled:
    """Questions of the three categories with where they come from, and texts that belong to none."""

    texts: tuple[str, ...]
    categories: tuple[Category, ...]
    sources: tuple[str, ...]
    out_of_scope: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scored:
    """What a router made of labelled questions: probabilities (n, 3), in-scope scores (n,) and (outside,)."""

    probabilities: Floats
    in_scope: Floats
    outside: Floats


def evaluate(router: ScoringRouter, data: Labelled) -> dict[str, Any]:
    """Measure a router; the keys are those of `medx router evaluate --json`."""
    probabilities, in_scope = router.scores(data.texts)
    outside = router.scores(data.out_of_scope)[1]
    return {
        "router": router.name,
        "n": len(data.texts),
        **figures(Scored(probabilities, in_scope, outside), data, threshold=router.threshold),
    }


def figures(scored: Scored, data: Labelled, *, threshold: float) -> dict[str, Any]:
    """Return the figures for what a router made of `data`."""
    labels = np.array([CATEGORIES.index(category) for category in data.categories], dtype=np.int64)
    best = scored.probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, best)
    by_class = {category.value: _class_figures(confusion, place) for place, category in enumerate(CATEGORIES)}
    present = [row["f1"] for row in by_class.values() if row["n"]]
    return {
        "accuracy": float((best == labels).mean()),
        "macro_f1": float(np.mean(present)),
        "by_class": by_class,
        "by_source": _by_source(best == labels, data.sources),
        "confusion": {
            "labels": [category.value for category in CATEGORIES],
            "rows_are": "the data's category",
            "matrix": confusion.tolist(),
        },
        "ece": expected_calibration_error(scored.probabilities, labels),
        "coverage": _coverage_curve(scored.probabilities, best == labels),
        "threshold": threshold,
        "abstained": float((scored.in_scope < threshold).mean()),
        "routed": _routed(best == labels, scored.in_scope >= threshold),
        "out_of_scope": _out_of_scope(scored, threshold),
        "confident_mistakes": _confident_mistakes(scored.probabilities, labels, data),
    }


def confusion_matrix(labels: Labels, best: Labels) -> NDArray[np.int64]:
    """Return counts (3, 3): rows are the data's categories, columns the router's."""
    matrix = np.zeros((len(CATEGORIES), len(CATEGORIES)), dtype=np.int64)
    np.add.at(matrix, (labels, best), 1)
    return matrix


def auroc(inside: Floats, outside: Floats) -> float | None:
    """Return how often a text from inside scores higher than one from outside, ties half; None without either."""
    if not inside.size or not outside.size:
        return None
    order = np.sort(outside)
    below = np.searchsorted(order, inside, side="left")
    equal = np.searchsorted(order, inside, side="right") - below
    return float((below + equal / 2).mean() / outside.size)


def _class_figures(confusion: NDArray[np.int64], place: int) -> dict[str, float | int]:
    right = int(confusion[place, place])
    n, said = int(confusion[place].sum()), int(confusion[:, place].sum())
    return {
        "n": n,
        "precision": right / said if said else 0.0,
        "recall": right / n if n else 0.0,
        "f1": 2 * right / (n + said) if n + said else 0.0,
    }


def _by_source(right: NDArray[np.bool_], sources: Sequence[str]) -> dict[str, dict[str, float | int]]:
    names = np.array(sources)
    return {
        str(name): {"n": int((names == name).sum()), "accuracy": float(right[names == name].mean())}
        for name in np.unique(names)
        if name
    }


def _coverage_curve(probabilities: Floats, right: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return the accuracy among the surest share of questions, for shares from all to one in twenty."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    curve = []
    for coverage in COVERAGES:
        taken = order[: max(1, round(coverage * len(order)))]
        curve.append(
            {
                "coverage": coverage,
                "accuracy": float(right[taken].mean()),
                "confidence_from": float(confidence[taken[-1]]),
            }
        )
    return curve


def _routed(right: NDArray[np.bool_], kept: NDArray[np.bool_]) -> dict[str, float | int | None]:
    """Return how many questions the router does not abstain from, and how many of those it routes rightly."""
    n = int(kept.sum())
    return {"n": n, "share": float(kept.mean()), "accuracy": float(right[kept].mean()) if n else None}


def _out_of_scope(scored: Scored, threshold: float) -> dict[str, Any]:
    outside = scored.outside
    return {
        "n": int(outside.size),
        "auroc": auroc(scored.in_scope, outside),
        "abstained": float((outside < threshold).mean()) if outside.size else None,
    }


def _confident_mistakes(probabilities: Floats, labels: Labels, data: Labelled) -> list[Mapping[str, Any]]:
    best = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(best != labels)
    surest = wrong[np.argsort(-probabilities[wrong, best[wrong]], kind="stable")][:MISTAKES]
    return [
        {
            "question": data.texts[index][:300],
            "category": data.categories[index].value,
            "routed": CATEGORIES[int(best[index])].value,
            "probability": float(probabilities[index, best[index]]),
            "source": data.sources[index],
        }
        for index in surest.tolist()
    ]
