"""The figures of one arm on the test items, each with its interval or with the reason why there is none."""

from typing import Any

import numpy as np

from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, Flags, TestItems, Values
from medx_core.evaluation.bootstrap import Resamples, aurocs, balanced_accuracies
from medx_core.evaluation.calibration import calibration

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
