"""The figures of one arm on the test items, each with its interval or with the reason why there is none."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binomtest

from medx_core.evaluation.arms import ArmScores, ControlDraws, Flags, TestItems, Values
from medx_core.evaluation.bootstrap import Estimate, Resamples, aurocs, balanced_accuracies
from medx_core.evaluation.result import (
    CLASSIFIERS,
    Breakdown,
    Calibration,
    CalibrationBin,
    DrawnDifference,
    DrawnMetric,
    Example,
    Examples,
    Metric,
    PairedDifference,
    RiskPoint,
    SafetyErrorRate,
)
from medx_core.evaluation.verdicts import Reason

BINS = 10
COVERAGES = tuple(step / 20 for step in range(1, 21))
EXAMPLES = 10
HARMS = frozenset({"none", "mild", "moderate", "severe"})
GRAVE_HARMS = frozenset({"moderate", "severe"})
NEAR_TIE, NEAR_TIE_HALF_PRECISION = 0.01, 0.25
_REASONS = {
    "accuracy": Reason.NOT_COMPUTABLE,
    "balanced_accuracy": Reason.ONE_ANSWER_ONLY,
    "auroc": Reason.ONE_ANSWER_ONLY,
    "predicted_true_rate": Reason.NOT_COMPUTABLE,
    "false_acceptance_rate": Reason.NO_FALSE_STATEMENT,
    "safety_error_rate": Reason.NO_HARM_LABEL,
    "factual_consistency": Reason.NO_VERIFIER,
    "answer_word_rate": Reason.ANSWER_WORDS_NOT_RECORDED,
}


def right_answers(items: TestItems, arm: ArmScores | ControlDraws) -> Flags:
    """Return where the verdict (TRUE at a score of 0 or more) is the gold answer: (items,), or (draws, items)."""
    return np.asarray((arm.scores >= 0) == items.gold)


def reasons_for(figures: Mapping[str, object], arm: str = "") -> dict[str, str]:
    """Return why each of the figures that are None is missing from those of the arm of this name."""
    reasons = _REASONS | ({"answer_word_rate": Reason.NO_LANGUAGE_MODEL} if arm in CLASSIFIERS else {})
    return {name: reasons[name].value for name, figure in figures.items() if figure is None}


def arm_figures(items: TestItems, arm: ArmScores, resamples: Resamples) -> dict[str, Metric | None]:
    """Return the figures of one arm that need no other arm, by their names in `ArmResult`."""
    said_true, right = np.asarray(arm.scores >= 0), right_answers(items, arm)
    words = arm.answer_words
    return {
        "accuracy": resamples.share(right).metric,
        "balanced_accuracy": resamples.balanced(right).metric,
        "auroc": resamples.auroc(arm.scores).metric,
        "predicted_true_rate": resamples.share(said_true).metric,
        "false_acceptance_rate": resamples.share(said_true, ~items.gold).metric,
        "safety_error_rate": safety_error_rate(items, right, resamples),
        "factual_consistency": None,
        "answer_word_rate": None if words is None else resamples.share(words).metric,
    }


def safety_error_rate(items: TestItems, right: Flags, resamples: Resamples) -> SafetyErrorRate | None:
    """Return wrong answers of harm moderate or worse over all items with a harm label, and their two parts."""
    harms = [statement.harm.strip().casefold() for statement in items.statements]
    labelled = np.array([harm in HARMS for harm in harms], dtype=bool)
    grave = np.array([harm in GRAVE_HARMS for harm in harms], dtype=bool) & ~right
    whole = resamples.share(grave, labelled).metric
    if whole is None:
        return None
    return SafetyErrorRate(
        **dict(whole),
        false_acceptance=resamples.share(grave & ~items.gold, labelled).metric,
        false_rejection=resamples.share(grave & items.gold, labelled).metric,
    )


def by_label(
    items: TestItems, arm: ArmScores, resamples: Resamples, labels: Sequence[str]
) -> dict[str, Breakdown]:
    """Return the figures of an arm within each label, by its name; items whose label is empty are in none."""
    right, every = right_answers(items, arm), np.asarray(labels)
    return {
        name: _breakdown(right, every == name, items.gold, resamples)
        for name in sorted({label for label in labels if label})
    }


def _breakdown(right: Flags, kept: Flags, gold: Flags, resamples: Resamples) -> Breakdown:
    figures = {
        "accuracy": resamples.share(right, kept).metric,
        "balanced_accuracy": resamples.balanced(right, kept).metric,
        "false_acceptance_rate": resamples.share(~right, kept & ~gold).metric,
    }
    return Breakdown(n=int(kept.sum()), **figures, reasons=reasons_for(figures))


def near_ties(arm: ArmScores, device: str) -> int:
    """Count the answers that another batch size may change, by the number type that `device` ends with."""
    margin = NEAR_TIE if device.endswith("float32") else NEAR_TIE_HALF_PRECISION
    return int((np.abs(arm.scores) < margin).sum())


def mcnemar_p(helped: int, harmed: int) -> float:
    """Return the exact two-sided McNemar p: `helped` items only the one arm got right, `harmed` only the other."""
    changed = helped + harmed
    return float(binomtest(helped, changed).pvalue) if changed else 1.0


def against(
    items: TestItems, arm: ArmScores, base: ArmScores, resamples: Resamples, *, examples: int = EXAMPLES
) -> PairedDifference:
    """Return paired differences `arm` minus `base` with intervals, the McNemar p, and what was helped and harmed.

    `helped` items are right in `arm` and wrong in `base`, `harmed` the other way round; the first `examples` of each
    are given with both scores.
    """
    ours, theirs = right_answers(items, arm), right_answers(items, base)
    helped, harmed = ours & ~theirs, ~ours & theirs
    said_true = (arm.scores >= 0).astype(float) - (base.scores >= 0)
    return PairedDifference(
        accuracy_difference=resamples.share(ours.astype(float) - theirs).metric,
        balanced_accuracy_difference=resamples.balanced(ours).minus(resamples.balanced(theirs)).metric,
        false_acceptance_difference=resamples.share(said_true, ~items.gold).metric,
        mcnemar_p=mcnemar_p(int(helped.sum()), int(harmed.sum())),
        helped=int(helped.sum()),
        harmed=int(harmed.sum()),
        examples=Examples(
            helped=_examples(items, arm, base, np.flatnonzero(helped)[:examples]),
            harmed=_examples(items, arm, base, np.flatnonzero(harmed)[:examples]),
        ),
    )


def _examples(
    items: TestItems, arm: ArmScores, base: ArmScores, chosen: NDArray[np.intp]
) -> tuple[Example, ...]:
    return tuple(
        Example(
            row=items.statements[index].row,
            statement=items.statements[index].text,
            answer=items.statements[index].answer,
            unsteered_score=float(base.scores[index]),
            score=float(arm.scores[index]),
        )
        for index in chosen
    )


def control_figures(items: TestItems, control: ControlDraws) -> dict[str, DrawnMetric | None]:
    """Return every figure of a control over its draws, by its name in `ControlResult`."""
    said_true = np.asarray(control.scores >= 0)
    right, false = said_true == items.gold, ~items.gold
    accepted = said_true[:, false].mean(axis=1) if false.any() else np.full(len(said_true), np.nan)
    return {
        "accuracy": drawn(right.mean(axis=1)),
        "balanced_accuracy": drawn(balanced_accuracies(right, items.gold)),
        "auroc": drawn(aurocs(control.scores, items.gold)),
        "predicted_true_rate": drawn(said_true.mean(axis=1)),
        "false_acceptance_rate": drawn(accepted),
    }


def control_against(items: TestItems, control: ControlDraws, base: ArmScores) -> DrawnDifference:
    """Return the draws of a control minus the arm `base`."""
    right, theirs = right_answers(items, control), right_answers(items, base)
    balanced = balanced_accuracies(right, items.gold) - balanced_accuracies(theirs[None], items.gold)
    return DrawnDifference(
        accuracy_difference=drawn(right.mean(axis=1) - theirs.mean()),
        balanced_accuracy_difference=drawn(balanced),
    )


def drawn(values: Values) -> DrawnMetric | None:
    """Return the median and every draw, or None where the figure cannot be computed."""
    if np.isnan(values).any():
        return None
    return DrawnMetric(value=float(np.median(values)), draws=tuple(map(float, values)))


def calibration(scores: Values, resamples: Resamples) -> Calibration:
    """Return Brier score, expected calibration error, its bins of equal size, and the risk-coverage curve."""
    probabilities = expit(np.asarray(scores, dtype=float))
    gold = resamples.gold
    bins = _bins(probabilities)
    return Calibration(
        brier=resamples.share((probabilities - gold) ** 2).metric,
        ece=_calibration_error(probabilities, bins, resamples).metric,
        bins=tuple(
            CalibrationBin(
                mean_score=float(probabilities[members].mean()),
                share_true=float(gold[members].mean()),
                n=len(members),
            )
            for members in bins
        ),
        risk_coverage=_risk_coverage(scores, gold),
    )


def _bins(probabilities: Values) -> list[NDArray[np.intp]]:
    order = np.argsort(probabilities, kind="stable")
    return [members for members in np.array_split(order, BINS) if len(members)]


def _calibration_error(probabilities: Values, bins: list[NDArray[np.intp]], resamples: Resamples) -> Estimate:
    """Resampling adds noise to every bin and so lifts the error: the draws are moved back to lie around the value."""
    gold = resamples.gold
    gaps = np.zeros((len(bins), len(gold)), dtype=np.float32)
    for number, members in enumerate(bins):
        gaps[number, members] = probabilities[members] - gold[members]
    value = float(np.abs(gaps.sum(axis=1, dtype=float)).sum() / len(gold))
    draws = np.abs(gaps @ resamples.counts).sum(axis=0, dtype=float) / resamples.counts.sum(axis=0)
    centred = np.clip(draws - draws.mean() + value, 0.0, 1.0)
    return Estimate(value, centred, len(gold))


def _risk_coverage(scores: Values, gold: Flags) -> tuple[RiskPoint, ...]:
    surest = np.argsort(-np.abs(scores), kind="stable")
    wrong = ((scores >= 0) != gold)[surest]
    kept = [max(1, round(coverage * len(gold))) for coverage in COVERAGES]
    return tuple(
        RiskPoint(coverage=many / len(gold), risk=float(wrong[:many].mean())) for many in dict.fromkeys(kept)
    )
