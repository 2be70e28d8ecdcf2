"""All figures of one model, made from the scores of the test items alone: by an evaluation and by a recheck."""

from collections.abc import Sequence

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.evaluation.arms import ControlDraws
from medx_core.evaluation.bootstrap import resamples
from medx_core.evaluation.decision_rule import Comparison, comparison_of, exploratory, judged
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.metrics import (
    against,
    arm_figures,
    by_label,
    calibration,
    control_against,
    control_figures,
    drawn,
    near_ties,
    reasons_for,
)
from medx_core.evaluation.result import (
    UNSTEERED,
    ArmResult,
    ControlResult,
    EvaluationResult,
    Figures,
    ModelComparison,
    PairedDifference,
    Recheck,
    WordingFreeDraws,
    WordingFreeFigures,
    WordingFreeGain,
)
from medx_core.evaluation.sentences import conclusion
from medx_core.evaluation.verdicts import Reason

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
    kept = first.items.counted
    items = first.items.among(kept)
    weights = resamples(items.gold, items.groups, seed=first.seed)
    steered = first.arm(first.declared).among(kept)
    return tuple(
        ModelComparison(
            **dict(against(items, steered, other.arm(UNSTEERED).among(kept), weights)),
            general=first.model,
            arm=first.declared,
            specialised=other.model,
        )
        for other in others
    )


def _arm(comparison: Comparison, name: str) -> ArmResult:
    items, arm, weights = comparison.items, comparison.arms[name], comparison.resamples
    figures = arm_figures(items, arm, weights)
    categories = [str(statement.category or "") for statement in items.statements]
    difficulties = [statement.difficulty for statement in items.statements]
    return ArmResult.model_validate(
        {
            **figures,
            "calibration": calibration(arm.scores, weights),
            "by_category": by_label(items, arm, weights, categories),
            "by_difficulty": by_label(items, arm, weights, difficulties),
            "vs_unsteered": _against_unsteered(comparison, name),
            "matched": _on_part(comparison, name),
            "reasons": reasons_for(figures, name) | _no_difference(comparison, name),
        }
    )


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
