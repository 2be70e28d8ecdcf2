"""All figures of one model, made from the scores of the test items alone: by an evaluation and by a recheck.

Each figure has its interval, or a reason why there is none.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.data.spellings import HARMS
from medx_core.evaluation.arms import ArmScores, ControlDraws, Flags, TestItems, Values
from medx_core.evaluation.bootstrap import (
    Resamples,
    aurocs,
    balanced_accuracies,
    changes,
    mcnemar_p,
    resamples,
)
from medx_core.evaluation.calibration_figures import abstention, calibrated, calibration, confidences
from medx_core.evaluation.decision_rule import Comparison, comparison_of, exploratory, judged
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.result import (
    CLASSIFIERS,
    PROBE,
    UNSTEERED,
    ArmResult,
    Breakdown,
    ControlResult,
    DrawnChanges,
    DrawnDifference,
    DrawnMetric,
    EvaluationResult,
    Example,
    Examples,
    Figures,
    Metric,
    ModelComparison,
    PairedDifference,
    Recheck,
    SafetyErrorRate,
    WordingFreeDraws,
    WordingFreeFigures,
    WordingFreeGain,
)
from medx_core.evaluation.sentences import conclusion
from medx_core.evaluation.verdicts import Reason

EXAMPLES = 10
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
_ON_TWINS = ("association", "excess", "excess_same_kinds")


def figures_of(scores: TestScores) -> Figures:
    """Measure all arms on the test items and judge the declared one.

    Swaps of FALSE statements among the items are the association control of twins and count in no other figure; the
    draws of controls are on the other items alone.

    Raises:
        BadInput: there are no items, two arms of one name, or scores that do not belong to the items.
    """
    with threadpool_limits(1, user_api="blas"):  # many small products: threads cost more than they gain
        comparison = comparison_of(
            scores.items,
            scores.arms,
            scores.controls,
            wording=lambda _tested: scores.wording,
            seed=scores.seed,
            shared=int(scores.fitted_on.sum()),
        )
        judgement = judged(comparison, scores.declared)
        arms = {name: _arm(comparison, name) for name in comparison.arms}
        controls = {control.name: _control(comparison, control) for control in comparison.controls}
        return Figures(
            model=scores.model,
            model_sha256=scores.model_sha256,
            device=scores.device,
            helps=judgement.helps,
            failed_controls=judgement.failed_controls,
            conclusion=conclusion(judgement, arms.get(UNSTEERED), arms.get(scores.declared)),
            judged=judgement,
            exploratory=exploratory(comparison, scores.declared),
            arms={**arms, **controls},
            matched=comparison.part.about,
            near_ties={
                arm.name: near_ties(arm, scores.device) for arm in scores.arms if arm.answer_words is not None
            },
        )


def rechecked(runs: Sequence[TestScores]) -> Recheck:
    """Make all figures again from the items of an evaluation, the first model's at the top.

    Raises:
        BadInput: the items cannot be measured.
    """
    first, *others = runs
    tested = first.items.counted
    missing = [name for name in EvaluationResult.model_fields if name not in Recheck.model_fields]
    return Recheck(
        **dict(figures_of(first)),
        medx_version=__version__,
        data_sha256=first.data_sha256,
        seed=first.seed,
        n_test=int(tested.sum()),
        n_association=int((~tested).sum()),
        models={scores.model: figures_of(scores) for scores in others},
        comparisons=model_comparisons(runs),
        reasons=dict.fromkeys(missing, Reason.NOT_IN_ITEMS.value),
    )


def model_comparisons(runs: Sequence[TestScores]) -> tuple[ModelComparison, ...]:
    """Return the paper's own question for each further model: the first, steered, minus that one, unsteered."""
    first, *others = runs
    return tuple(
        ModelComparison(
            **dict(_compared(first, other)), general=first.model, arm=first.declared, specialised=other.model
        )
        for other in others
    )


def _compared(first: TestScores, other: TestScores) -> PairedDifference:
    """Return the first model, steered, against another, unsteered, on the test statements that both could be asked."""
    asked = set(other.items.statements)
    kept = first.items.counted & np.array([each in asked for each in first.items.statements], dtype=bool)
    items = first.items.among(kept)
    both = set(items.statements)
    of_other = np.array([each in both for each in other.items.statements], dtype=bool)
    weights = resamples(items.gold, items.groups, seed=first.seed)
    unsteered = other.arm(UNSTEERED).among(of_other)
    return against(items, first.arm(first.declared).among(kept), unsteered, weights)


def _arm(comparison: Comparison, name: str) -> ArmResult:
    items, arm, weights = comparison.items, comparison.arms[name], comparison.resamples
    figures = arm_figures(items, arm, weights)
    categories = [str(statement.category or "") for statement in items.statements]
    difficulties = [statement.difficulty for statement in items.statements]
    return ArmResult.model_validate(
        {
            **figures,
            "calibration": calibration(arm.scores, weights),
            "calibrated": calibrated(arm.probabilities, weights),
            "confidences": confidences(items, arm, comparison.arms.get(PROBE), weights),
            "abstention": abstention(items, arm, weights),
            "by_category": by_label(items, arm, weights, categories),
            "by_difficulty": by_label(items, arm, weights, difficulties),
            "vs_unsteered": _against_unsteered(comparison, name),
            "matched": _on_part(comparison, name),
            "reasons": reasons_for(figures, name) | _no_difference(comparison, name) | _no_map(arm),
        }
    )


def _no_map(arm: ArmScores) -> dict[str, str]:
    """Return why an arm has no mapped scores; empty where it has."""
    missing = {"calibrated": arm.probabilities, "abstention": arm.trusted}
    return {name: Reason.NO_MAP.value for name, values in missing.items() if values is None}


def _no_difference(comparison: Comparison, name: str) -> dict[str, str]:
    """Return why an arm has no difference from the unsteered one; empty where it has one."""
    if name == UNSTEERED:
        return {"vs_unsteered": Reason.IS_UNSTEERED.value}
    return {} if UNSTEERED in comparison.arms else {"vs_unsteered": Reason.UNSTEERED_NOT_RUN.value}


def _against_unsteered(comparison: Comparison, name: str) -> PairedDifference | None:
    if _no_difference(comparison, name):
        return None
    arms = comparison.arms
    return against(comparison.items, arms[name], arms[UNSTEERED], comparison.resamples)


def _control(comparison: Comparison, control: ControlDraws) -> ControlResult:
    items, unsteered, part = comparison.items, comparison.arms.get(UNSTEERED), comparison.part
    figures = control_figures(items, control)
    accuracy = None if part.about.kind is None else drawn(part.values(control.scores, items.gold))
    return ControlResult(
        of=control.of,
        **figures,
        vs_unsteered=None if unsteered is None else control_against(items, control, unsteered),
        matched=WordingFreeDraws(**dict(part.about), accuracy=accuracy),
        reasons=reasons_for(figures),
    )


def _on_part(comparison: Comparison, name: str) -> WordingFreeFigures:
    """Return an arm's figures on the wording-free part; for twins, `accuracy` is the share of pairs ranked right."""
    part, arms, weights = comparison.part, comparison.arms, comparison.resamples
    scores, reasons, gain = arms[name].scores, _no_difference(comparison, name), None
    ours = part.score(scores, weights)
    if part.about.kind is None:
        missing = ("accuracy", "auroc", "vs_unsteered")
        reasons = dict.fromkeys(missing, Reason.NO_WORDING_FREE_PART.value)
    elif not reasons:
        gained = comparison.excess_gained(name)
        gain = WordingFreeGain(
            accuracy_difference=ours.minus(part.score(arms[UNSTEERED].scores, weights)).metric,
            excess_difference=gained and gained.metric,
        )
    excess, left = comparison.association(name), comparison.plausibility_left(name)
    same_kinds = excess and excess.same_kinds
    if part.pairs is None:
        reasons |= dict.fromkeys(_ON_TWINS, Reason.NOT_TWINS.value)
    elif excess is None:
        reasons |= dict.fromkeys((*_ON_TWINS, "excess_valid"), left)
    else:
        reasons |= {} if same_kinds else {"excess_same_kinds": Reason.ALL_OF_SAME_KINDS.value}
        reasons |= {"excess_valid": left} if left else {}
    return WordingFreeFigures(
        **dict(part.about),
        accuracy=ours.metric,
        auroc=weights.auroc(scores, part.members).metric,
        vs_unsteered=gain,
        association=excess and excess.control.metric,
        excess=excess and excess.excess.metric,
        excess_same_kinds=same_kinds and same_kinds.metric,
        excess_valid=None if part.pairs is None else not left,
        reasons=reasons,
    )


def reasons_for(figures: Mapping[str, object], arm: str = "") -> dict[str, str]:
    """Return why each of the figures that are None is missing from those of the arm of this name."""
    reasons = _REASONS | ({"answer_word_rate": Reason.NO_LANGUAGE_MODEL} if arm in CLASSIFIERS else {})
    return {name: reasons[name].value for name, figure in figures.items() if figure is None}


def arm_figures(items: TestItems, arm: ArmScores, resamples: Resamples) -> dict[str, Metric | None]:
    """Return the figures of one arm that need no other arm, by their names in `ArmResult`."""
    said_true, right = np.asarray(arm.scores >= 0), items.right(arm.scores)
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
    right, parts = items.right(arm.scores), {}
    for name in sorted({label for label in labels if label}):
        kept = np.asarray(labels) == name
        figures = {
            "accuracy": resamples.share(right, kept).metric,
            "balanced_accuracy": resamples.balanced(right, kept).metric,
            "false_acceptance_rate": resamples.share(~right, kept & ~items.gold).metric,
        }
        parts[name] = Breakdown(n=int(kept.sum()), **figures, reasons=reasons_for(figures))
    return parts


def near_ties(arm: ArmScores, device: str) -> int:
    """Count the answers that another batch size may change, by the number type that `device` ends with."""
    margin = NEAR_TIE if device.endswith("float32") else NEAR_TIE_HALF_PRECISION
    return int((np.abs(arm.scores) < margin).sum())


def against(items: TestItems, arm: ArmScores, base: ArmScores, resamples: Resamples) -> PairedDifference:
    """Return paired differences `arm` minus `base` with intervals, the McNemar p, and what was helped and harmed.

    `helped` items are right in `arm` and wrong in `base`, `harmed` the other way round; the first ten of each are given
    with both scores.
    """
    ours, theirs = items.right(arm.scores), items.right(base.scores)
    helped, harmed = ours & ~theirs, ~ours & theirs
    said_true = (arm.scores >= 0).astype(float) - (base.scores >= 0)
    return PairedDifference(
        accuracy_difference=resamples.share(ours.astype(float) - theirs).metric,
        balanced_accuracy_difference=resamples.balanced(ours).minus(resamples.balanced(theirs)).metric,
        false_acceptance_difference=resamples.share(said_true, ~items.gold).metric,
        mcnemar_p=mcnemar_p(int(helped.sum()), int(harmed.sum())),
        helped=int(helped.sum()),
        harmed=int(harmed.sum()),
        by_harm={
            harm: changes(int(kept.sum()), int(helped[kept].sum()), int(harmed[kept].sum()))
            for harm, kept in by_harm(items).items()
        },
        examples=Examples(
            helped=_examples(items, arm, base, helped), harmed=_examples(items, arm, base, harmed)
        ),
    )


def by_harm(items: TestItems) -> dict[str, Flags]:
    """Return where the items (items,) of each harm are, the least harm first; harms without an item are left out."""
    harms = np.array([statement.harm.strip().casefold() for statement in items.statements])
    return {harm: kept for harm in HARMS if (kept := harms == harm).any()}


def _examples(items: TestItems, arm: ArmScores, base: ArmScores, changed: Flags) -> tuple[Example, ...]:
    return tuple(
        Example(
            row=items.statements[place].row,
            statement=items.statements[place].text,
            answer=items.statements[place].answer,
            unsteered_score=float(base.scores[place]),
            score=float(arm.scores[place]),
        )
        for place in np.flatnonzero(changed)[:EXAMPLES]
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
    right, theirs = items.right(control.scores), items.right(base.scores)
    balanced = balanced_accuracies(right, items.gold) - balanced_accuracies(theirs[None], items.gold)
    helped, harmed = right & ~theirs, ~right & theirs
    return DrawnDifference(
        accuracy_difference=drawn(right.mean(axis=1) - theirs.mean()),
        balanced_accuracy_difference=drawn(balanced),
        changes=_drawn_changes(helped, harmed),
        by_harm={
            harm: _drawn_changes(helped[:, kept], harmed[:, kept]) for harm, kept in by_harm(items).items()
        },
    )


def _drawn_changes(helped: NDArray[np.bool_], harmed: NDArray[np.bool_]) -> DrawnChanges:
    """Return how many of each row of (draws, items) are set."""
    mended, broken = (drawn(changed.sum(axis=1).astype(float)) for changed in (helped, harmed))
    assert mended is not None and broken is not None  # noqa: S101, PT018 - counts are never NaN
    return DrawnChanges(helped=mended, harmed=broken)


def drawn(values: Values) -> DrawnMetric | None:
    """Return the median and every draw, or None where the figure cannot be computed."""
    if np.isnan(values).any():
        return None
    return DrawnMetric(value=float(np.median(values)), draws=tuple(map(float, values)))
