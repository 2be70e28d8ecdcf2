"""All figures of one model, made from the scores of the test items alone: by an evaluation and by a recheck."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.bootstrap import resamples
from medx_core.evaluation.decision_rule import Comparison, excess_gained, exploratory, judged
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.metrics import (
    against,
    arm_figures,
    by_label,
    calibration,
    checked,
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
    Figures,
    Metric,
    ModelComparison,
    PairedDifference,
    Recheck,
    WordingFreeDraws,
    WordingFreeFigures,
    WordingFreeGain,
    WordingFreePart,
)
from medx_core.evaluation.sentences import conclusion
from medx_core.evaluation.verdicts import Reason
from medx_core.evaluation.wording_free import (
    Association,
    AssociationControl,
    Twins,
    WordingReading,
    association_control,
    wording_free_part,
)

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
        return _measured(comparison, scores)


def comparison_of(
    items: TestItems,
    arms: Sequence[ArmScores],
    controls: Sequence[ControlDraws],
    *,
    wording: Callable[[TestItems], WordingReading],
    seed: int,
    shared: int = 0,
) -> Comparison:
    """Return what arms are judged by, with the association control of twins.

    `wording` reads the test statements for wording, when the rule needs it; `shared` counts test items whose twin or near
    copy was fitted on.

    Raises:
        BadInput: there are no items, two arms of one name, or scores that do not belong to the items.
    """
    kept = items.counted
    tested = items.among(kept)
    if not len(tested):
        raise BadInput(
            "There is no test statement besides swaps of FALSE statements; there is nothing to measure."
        )
    by_name = _by_name(items, arms, tested, controls)
    comparison = Comparison(
        tested,
        {name: arm.among(kept) for name, arm in by_name.items()},
        controls,
        resamples(tested.gold, tested.groups, seed=seed),
        cache(lambda: wording_free_part(tested, wording(tested))),
        shared,
    )
    control = association_control(items.statements, seed=seed + 1)
    return replace(comparison, association=cache(partial(_association, comparison, control, by_name)))


def rechecked(runs: Sequence[TestScores]) -> Recheck:
    """Make all figures again from the items of an evaluation, the first model's at the top.

    Raises:
        BadInput: the items cannot be measured.
    """
    first, *others = runs
    tested = first.items.counted
    missing = (
        "choices",
        "sweep",
        "seconds",
        "n_train",
        "n_outside",
        "notes",
        "settings",
        "environment",
        "data",
    )
    return Recheck.model_validate(
        {
            **dict(figures_of(first)),
            "medx_version": __version__,
            "data_sha256": first.data_sha256,
            "seed": first.seed,
            "n_test": int(tested.sum()),
            "n_association": int((~tested).sum()),
            "models": {scores.model: figures_of(scores) for scores in others},
            "comparisons": model_comparisons(runs),
            "reasons": dict.fromkeys(missing, Reason.NOT_IN_ITEMS.value),
        }
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


def _by_name(
    items: TestItems, arms: Sequence[ArmScores], tested: TestItems, controls: Sequence[ControlDraws]
) -> Mapping[str, ArmScores]:
    names = [*(arm.name for arm in arms), *(control.name for control in controls)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"Two arms have the same name: {', '.join(twice)}.")
    for arm in arms:
        checked(items, arm)
    for control in controls:
        checked(tested, control)
    return {arm.name: arm for arm in arms}


def _association(
    comparison: Comparison, control: AssociationControl, arms: Mapping[str, ArmScores], name: str
) -> Association | None:
    """Return what the control of twins makes of the arm `name`; None without twins, or without their control."""
    twins = comparison.wording_free()
    if not isinstance(twins, Twins):
        return None
    scores, weights = comparison.arms[name].scores, comparison.resamples
    alike = control.of_its_kinds(comparison.items.statements, twins.pairs)
    some = 0 < len(alike) < len(twins.pairs)
    of_these = twins.score(scores, weights, alike) if some else None
    return control.of(arms[name].scores, twins.score(scores, weights), len(alike), of_these)


def _measured(comparison: Comparison, scores: TestScores) -> Figures:
    judgement = judged(comparison, scores.declared)
    arms: dict[str, ArmResult | ControlResult] = {name: _arm(comparison, name) for name in comparison.arms}
    unsteered, declared = (
        arm if isinstance(arm, ArmResult) else None for arm in map(arms.get, (UNSTEERED, scores.declared))
    )
    return Figures(
        model=scores.model,
        model_sha256=scores.model_sha256,
        device=scores.device,
        helps=judgement.helps,
        failed_controls=judgement.failed_controls,
        conclusion=conclusion(judgement, unsteered, declared),
        judged=judgement,
        exploratory=exploratory(comparison, scores.declared),
        arms=arms | {control.name: _control(comparison, control) for control in comparison.controls},
        matched=_part(comparison),
        near_ties={
            arm.name: near_ties(arm, scores.device) for arm in scores.arms if arm.answer_words is not None
        },
    )


def _part(comparison: Comparison) -> WordingFreePart:
    part = comparison.wording_free()
    if isinstance(part, str):
        return WordingFreePart(kind=None, n=0, valid=False, reason=part, residual_auc={})
    return part.about()


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
    unsteered = comparison.arms.get(UNSTEERED)
    if unsteered is None or name == UNSTEERED:
        return None
    return against(comparison.items, comparison.arms[name], unsteered, comparison.resamples)


def _control(comparison: Comparison, control: ControlDraws) -> ControlResult:
    items, unsteered, part = comparison.items, comparison.arms.get(UNSTEERED), comparison.wording_free()
    figures = control_figures(items, control)
    accuracy = None if isinstance(part, str) else drawn(part.values(control.scores, items.gold))
    return ControlResult(
        of=control.of,
        **figures,
        vs_unsteered=None if unsteered is None else control_against(items, control, unsteered),
        matched=WordingFreeDraws(**dict(_part(comparison)), accuracy=accuracy),
        reasons=reasons_for(figures),
    )


def _on_part(comparison: Comparison, name: str) -> WordingFreeFigures:
    """Return an arm's figures on the wording-free part; for twins, `accuracy` is the share of pairs ranked right."""
    part, arm, weights = comparison.wording_free(), comparison.arms[name], comparison.resamples
    about = dict(_part(comparison))
    if isinstance(part, str):
        reasons = dict.fromkeys(("accuracy", "auroc", "vs_unsteered"), Reason.NO_WORDING_FREE_PART.value)
        reasons |= dict.fromkeys(_ON_TWINS, Reason.NOT_TWINS.value)
        return WordingFreeFigures(**about, accuracy=None, auroc=None, vs_unsteered=None, reasons=reasons)
    ours, gain, reasons = part.score(arm.scores, weights), None, _no_difference(comparison, name)
    if not reasons:
        theirs = part.score(comparison.arms[UNSTEERED].scores, weights)
        gained = excess_gained(comparison, name) if isinstance(part, Twins) else None
        gain = WordingFreeGain(
            accuracy_difference=ours.minus(theirs).metric,
            excess_difference=None if gained is None else gained.metric,
        )
    plausibility, more = _plausibility(comparison, name)
    return WordingFreeFigures.model_validate(
        {
            **about,
            "accuracy": ours.metric,
            "auroc": weights.auroc(arm.scores, part.members(len(arm.scores))).metric,
            "vs_unsteered": gain,
            **plausibility,
            "reasons": reasons | more,
        }
    )


def _plausibility(
    comparison: Comparison, name: str
) -> tuple[dict[str, Metric | bool | None], dict[str, str]]:
    """Return what the association control of twins says of an arm, and why what is missing is missing."""
    if not isinstance(comparison.wording_free(), Twins):
        return {}, dict.fromkeys(_ON_TWINS, Reason.NOT_TWINS.value)
    association = comparison.association(name)
    if association is None:
        missing = dict.fromkeys((*_ON_TWINS, "excess_valid"), Reason.NO_ASSOCIATION_CONTROL.value)
        return {"excess_valid": False}, missing
    same, left = association.same_kinds, association.plausibility_left
    figures: dict[str, Metric | bool | None] = {
        "association": association.control.metric,
        "excess": association.excess.metric,
        "excess_same_kinds": None if same is None else same.metric,
        "excess_valid": not left,
    }
    reasons = {} if same else {"excess_same_kinds": Reason.ALL_OF_SAME_KINDS.value}
    return figures, reasons | ({"excess_valid": left} if left else {})
