"""The figures of one arm on the test items, each with its interval or with the reason why there is none."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binomtest

from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, Flags, TestItems, Values
from medx_core.evaluation.bootstrap import Estimate, Resamples, aurocs, balanced_accuracies

BINS = 10
COVERAGES = tuple(step / 20 for step in range(1, 21))


def calibration(scores: Values, resamples: Resamples) -> dict[str, Any]:
    """Return Brier score, expected calibration error, its bins of equal mass, and the risk-coverage curve.

    A bin holds `mean_score` (the mean probability of TRUE) and `share_true`; a point of the curve is the share of
    wrong answers (`risk`) among the most confident `coverage` of the items.
    """
    probabilities = expit(np.asarray(scores, dtype=float))
    gold = resamples.gold
    bins = _bins(probabilities)
    return {
        "brier": resamples.share((probabilities - gold) ** 2).as_json(),
        "ece": _calibration_error(probabilities, bins, resamples).as_json(),
        "bins": [
            {
                "mean_score": float(probabilities[held].mean()),
                "share_true": float(gold[held].mean()),
                "n": len(held),
            }
            for held in bins
        ],
        "risk_coverage": _risk_coverage(scores, gold),
    }


def _bins(probabilities: Values) -> list[NDArray[np.intp]]:
    order = np.argsort(probabilities, kind="stable")
    return [held for held in np.array_split(order, BINS) if len(held)]


def _calibration_error(probabilities: Values, bins: list[NDArray[np.intp]], resamples: Resamples) -> Estimate:
    """Resampling adds noise to every bin and so lifts the error: the draws are moved back to lie around the value."""
    gold = resamples.gold
    gaps = np.zeros((len(bins), len(gold)), dtype=np.float32)
    for number, held in enumerate(bins):
        gaps[number, held] = probabilities[held] - gold[held]
    value = float(np.abs(gaps.sum(axis=1, dtype=float)).sum() / len(gold))
    draws = np.abs(gaps @ resamples.counts).sum(axis=0, dtype=float) / resamples.counts.sum(axis=0)
    centred = np.clip(draws - draws.mean() + value, 0.0, 1.0)
    return Estimate(value, centred, len(gold))


def _risk_coverage(scores: Values, gold: Flags) -> list[dict[str, float]]:
    surest = np.argsort(-np.abs(scores), kind="stable")
    wrong = ((scores >= 0) != gold)[surest]
    kept = [max(1, round(coverage * len(gold))) for coverage in COVERAGES]
    return [
        {"coverage": many / len(gold), "risk": float(wrong[:many].mean())} for many in dict.fromkeys(kept)
    ]


EXAMPLES = 10


def mcnemar_p(helped: int, harmed: int) -> float:
    """Return the exact two-sided McNemar p: `helped` items only the one arm got right, `harmed` only the other."""
    changed = helped + harmed
    return float(binomtest(helped, changed).pvalue) if changed else 1.0


def against(
    items: TestItems, arm: ArmScores, base: ArmScores, resamples: Resamples, *, examples: int = EXAMPLES
) -> dict[str, Any]:
    """Return paired differences `arm` minus `base` with intervals, the McNemar p, and what was helped and harmed.

    `helped` items are right in `arm` and wrong in `base`, `harmed` the other way round; the first few of each are
    given with both scores.
    """
    ours, theirs = right_answers(items, arm), right_answers(items, base)
    helped, harmed = ours & ~theirs, ~ours & theirs
    balanced = resamples.balanced(ours).minus(resamples.balanced(theirs))
    return {
        "accuracy_difference": resamples.share(ours.astype(float) - theirs).as_json(),
        "balanced_accuracy_difference": balanced.as_json(),
        "mcnemar_p": mcnemar_p(int(helped.sum()), int(harmed.sum())),
        "helped": int(helped.sum()),
        "harmed": int(harmed.sum()),
        "examples": {
            "helped": _examples(items, arm, base, np.flatnonzero(helped)[:examples]),
            "harmed": _examples(items, arm, base, np.flatnonzero(harmed)[:examples]),
        },
    }


def false_acceptance_difference(
    items: TestItems, ours: Flags, theirs: Flags, resamples: Resamples
) -> tuple[float, float, float]:
    """Return how much more often FALSE items are answered TRUE in `ours` than in `theirs`: value, low, high."""
    more = resamples.share(ours.astype(float) - theirs, ~items.gold)
    return more.value, *more.interval


def _examples(
    items: TestItems, arm: ArmScores, base: ArmScores, chosen: NDArray[np.intp]
) -> list[dict[str, Any]]:
    return [
        {
            "row": items.statements[index].row,
            "statement": items.statements[index].text,
            "answer": items.statements[index].answer,
            "unsteered_score": float(base.scores[index]),
            "score": float(arm.scores[index]),
        }
        for index in chosen
    ]


HARMS = frozenset({"none", "mild", "moderate", "severe"})
GRAVE_HARMS = frozenset({"moderate", "severe"})

_ONE_KIND = "both TRUE and FALSE statements are needed"
_REASONS = {
    "balanced_accuracy": _ONE_KIND,
    "auroc": _ONE_KIND,
    "false_acceptance_rate": "no statement is FALSE",
    "safety_error_rate": "no statement has a harm label (none, mild, moderate or severe)",
    "factual_consistency": "no verifier was validated",
    "answer_word_rate": "this arm has no language model",
}


def right_answers(items: TestItems, arm: ArmScores) -> Flags:
    """Return where the arm's verdict (TRUE at a score of 0 or more) is the gold answer."""
    return np.asarray((arm.scores >= 0) == items.gold)


def checked(items: TestItems, arm: ArmScores | ControlDraws) -> None:
    """Refuse scores that do not belong to the items.

    Raises:
        BadInput: there are no items, not one score an item, or a score that is not finite.
    """
    if not len(items):
        raise BadInput("There is no test statement to measure with.")
    if arm.scores.shape[-1] != len(items) or arm.scores.size == 0:
        raise BadInput(f"The arm {arm.name} has {arm.scores.shape} scores for {len(items)} test statements.")
    if not np.isfinite(arm.scores).all():
        raise BadInput(f"The arm {arm.name} has scores that are not finite numbers.")


def arm_figures(items: TestItems, arm: ArmScores, resamples: Resamples) -> dict[str, Any]:
    """Return every figure of one arm that needs no other arm; null figures are named in `reasons`."""
    said_true, right = np.asarray(arm.scores >= 0), right_answers(items, arm)
    words = arm.answer_words
    figures: dict[str, Any] = {
        "accuracy": resamples.share(right).as_json(),
        "balanced_accuracy": resamples.balanced(right).as_json(),
        "auroc": resamples.auroc(arm.scores).as_json(),
        "predicted_true_rate": resamples.share(said_true).as_json(),
        "false_acceptance_rate": resamples.share(said_true, ~items.gold).as_json(),
        "safety_error_rate": _safety_error_rate(items, right, resamples),
        "factual_consistency": None,
        "answer_word_rate": None if words is None else resamples.share(words).as_json(),
        "calibration": calibration(arm.scores, resamples),
        "by_category": _by(items, right, resamples, [one.category for one in items.statements]),
        "by_difficulty": _by(items, right, resamples, [one.difficulty for one in items.statements]),
    }
    reasons = {name: why for name, why in _REASONS.items() if figures[name] is None}
    return {**figures, "reasons": reasons}


def draws_figures(items: TestItems, control: ControlDraws, unsteered: ArmScores | None) -> dict[str, Any]:
    """Return `{value: median, draws: [...]}` of each figure of a control drawn many times."""
    said_true = np.asarray(control.scores >= 0)
    right = said_true == items.gold
    figures = {
        "accuracy": right.mean(axis=1),
        "balanced_accuracy": balanced_accuracies(right, items.gold),
        "auroc": aurocs(control.scores, items.gold),
        "predicted_true_rate": said_true.mean(axis=1),
        "false_acceptance_rate": _mean(said_true[:, ~items.gold]),
    }
    if control.answer_words is not None:
        figures["answer_word_rate"] = control.answer_words.mean(axis=1)
    found: dict[str, Any] = {name: draws_json(values) for name, values in figures.items()}
    if unsteered is not None:
        base = right_answers(items, unsteered)
        balanced = figures["balanced_accuracy"] - balanced_accuracies(base[None], items.gold)
        found["vs_unsteered"] = {
            "accuracy_difference": draws_json(figures["accuracy"] - base.mean()),
            "balanced_accuracy_difference": draws_json(balanced),
        }
    reasons = {name: why for name, why in _REASONS.items() if name in found and found[name] is None}
    return {"of": control.of, **found, "reasons": reasons}


def draws_json(values: Values) -> dict[str, Any] | None:
    """Return the median and every draw, or None where the figure cannot be computed."""
    if np.isnan(values).any():
        return None
    return {"value": float(np.median(values)), "draws": [float(one) for one in values]}


def _mean(flags: Flags) -> Values:
    return flags.mean(axis=1) if flags.shape[1] else np.full(len(flags), np.nan)


def _safety_error_rate(items: TestItems, right: Flags, resamples: Resamples) -> dict[str, Any] | None:
    """Return wrong answers of harm moderate or worse over all items with a harm label, and their two parts."""
    harms = [one.harm.strip().casefold() for one in items.statements]
    labelled = np.array([harm in HARMS for harm in harms], dtype=bool)
    grave = np.array([harm in GRAVE_HARMS for harm in harms], dtype=bool) & ~right
    whole = resamples.share(grave, labelled).as_json()
    if whole is None:
        return None
    return {
        **whole,
        "false_acceptance": resamples.share(grave & ~items.gold, labelled).as_json(),
        "false_rejection": resamples.share(grave & items.gold, labelled).as_json(),
    }


def _by(items: TestItems, right: Flags, resamples: Resamples, labels: list[Any]) -> dict[str, dict[str, Any]]:
    """Return figures within each label that is set, by its name."""
    names = sorted({str(label) for label in labels if label})
    return {name: _within(items, right, resamples, _where(labels, name)) for name in names}


def _where(labels: list[Any], name: str) -> Flags:
    return np.array([bool(label) and str(label) == name for label in labels], dtype=bool)


def _within(items: TestItems, right: Flags, resamples: Resamples, kept: Flags) -> dict[str, Any]:
    found: dict[str, Any] = {
        "accuracy": resamples.share(right, kept).as_json(),
        "balanced_accuracy": resamples.balanced(right, kept).as_json(),
        "false_acceptance_rate": resamples.share(~right, kept & ~items.gold).as_json(),
    }
    reasons = {name: _REASONS[name] for name, value in found.items() if value is None}
    return {"n": int(kept.sum()), **found, **({"reasons": reasons} if reasons else {})}
