"""How well a router routes: forced best class, calibration, abstention, and texts outside its field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medx_core.data.routing_texts import RoutingText
from medx_core.routing.router import (
    CATEGORIES,
    NONE_ROW,
    Floats,
    Labels,
    ScoringRouter,
    category_probabilities,
    in_scope_scores,
)

COVERAGES = tuple(round(0.05 * step, 2) for step in range(20, 0, -1))
MISTAKES = 10
BINS = 15
OWN_TEXTS_LOST = 0.03
"""The share of held-out texts that do belong to a category and may be abstained from: it sets the threshold."""
_TEMPERATURES = np.geomspace(0.2, 10.0, 300)

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """How a router's logits are read, and how right its categories then are on the held-out texts that have one."""

    temperature: float
    threshold: float
    accuracy: float
    error: float


def calibrated(logits: Floats, scope_logits: Floats, labels: Labels) -> Calibration:
    """Set temperature and threshold by held-out texts.

    Args:
        logits: (n, 4), what categories are decided by.
        scope_logits: (n, 4), what is decided by whether a text is in scope.
        labels: (n,), places in LABELS.
    """
    own = labels != NONE_ROW
    logits, labels = logits[own], labels[own]
    temperature = fitted_temperature(np.delete(logits, NONE_ROW, axis=1), labels)
    probabilities = category_probabilities(logits, temperature)
    return Calibration(
        temperature=temperature,
        threshold=float(np.quantile(in_scope_scores(scope_logits[own]), OWN_TEXTS_LOST)),
        accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
        error=expected_calibration_error(probabilities, labels),
    )


def fitted_temperature(logits: Floats, labels: Labels) -> float:
    """Return the temperature under which held-out logits (n, classes) give the labels the greatest likelihood."""
    losses = [log_loss(logits / temperature, labels) for temperature in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def log_loss(logits: NDArray[np.floating], labels: Labels) -> float:
    """Return the mean negative log-likelihood of labels (n,) under logits (n, classes)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    return float((total - logits[np.arange(len(labels)), labels]).mean())


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = BINS) -> float:
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


def evaluate(router: ScoringRouter, texts: Sequence[RoutingText]) -> dict[str, Any]:
    """Measure a router on texts with their categories; the keys are those of `medx router evaluate --json`.

    Texts that belong to no category measure only how well the router knows what is out of scope.
    """
    inside = [text for text in texts if text.category is not None]
    probabilities, in_scope = router.scores([text.text for text in inside])
    outside = router.scores([text.text for text in texts if text.category is None])[1]
    labels = np.array([CATEGORIES.index(text.category) for text in inside if text.category], dtype=np.int64)
    best = probabilities.argmax(axis=1)
    right, kept = best == labels, in_scope >= router.threshold
    confusion = np.zeros((len(CATEGORIES), len(CATEGORIES)), dtype=np.int64)
    np.add.at(confusion, (labels, best), 1)
    by_class = {category.value: _class_figures(confusion, place) for place, category in enumerate(CATEGORIES)}
    return {
        "router": router.name,
        "n": len(inside),
        "accuracy": float(right.mean()),
        "macro_f1": float(np.mean([row["f1"] for row in by_class.values() if row["n"]])),
        "by_class": by_class,
        "by_source": _by_source(right, [text.source for text in inside]),
        "confusion": {
            "labels": [category.value for category in CATEGORIES],
            "rows_are": "the data's category",
            "matrix": confusion.tolist(),
        },
        "ece": expected_calibration_error(probabilities, labels),
        "coverage": _coverage_curve(probabilities, right),
        "threshold": router.threshold,
        "abstained": float((~kept).mean()),
        "routed": {
            "n": int(kept.sum()),
            "share": float(kept.mean()),
            "accuracy": float(right[kept].mean()) if kept.any() else None,
        },
        "out_of_scope": {
            "n": int(outside.size),
            "auroc": auroc(in_scope, outside),
            "abstained": float((outside < router.threshold).mean()) if outside.size else None,
        },
        "confident_mistakes": _confident_mistakes(probabilities, right, inside),
    }


def auroc(inside: Floats, outside: Floats) -> float | None:
    """Return how often a text from inside scores higher than a text from outside, ties half; None without either."""
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


def _by_source(right: Flags, sources: Sequence[str]) -> dict[str, dict[str, float | int]]:
    names = np.array(sources)
    return {
        str(name): {"n": int((names == name).sum()), "accuracy": float(right[names == name].mean())}
        for name in np.unique(names)
        if name
    }


def _coverage_curve(probabilities: Floats, right: Flags) -> list[dict[str, float]]:
    """Return the accuracy among the surest share of questions, for shares from all to one in twenty."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    shares = {coverage: order[: max(1, round(coverage * len(order)))] for coverage in COVERAGES}
    return [
        {
            "coverage": coverage,
            "accuracy": float(right[taken].mean()),
            "confidence_from": float(confidence[taken[-1]]),
        }
        for coverage, taken in shares.items()
    ]


def _confident_mistakes(
    probabilities: Floats, right: Flags, inside: Sequence[RoutingText]
) -> list[dict[str, Any]]:
    best, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(~right)
    surest = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return [
        {
            "question": inside[index].text[:300],
            "category": str(inside[index].category),
            "routed": CATEGORIES[int(best[index])].value,
            "probability": float(confidence[index]),
            "source": inside[index].source,
        }
        for index in surest.tolist()
    ]
