"""All figures of an evaluation, as the JSON of `medx evaluate` has them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.bootstrap import Resamples, resamples
from medx_core.evaluation.decision_rule import (
    LEVEL,
    REFERENCES,
    Contest,
    FalseAcceptance,
    Judgement,
    conclusion,
    excess_gained,
    holm,
    judged,
    untold,
)
from medx_core.evaluation.metrics import against, arm_figures, checked, draws_figures, draws_json
from medx_core.evaluation.wording_free import (
    NO_TWINS,
    Association,
    AssociationControl,
    Twins,
    WordingFree,
    arm_among,
    as_json,
    association_control,
    counted,
    items_among,
    wording_free_part,
)


def evaluated(  # noqa: PLR0913 - what was run, and what it is judged beside
    items: TestItems,
    arms: Sequence[ArmScores],
    controls: Sequence[ControlDraws],
    *,
    declared: str,
    wording: Sequence[LabelledStatement],
    seed: int,
    shared: int = 0,
) -> dict[str, Any]:
    """Measure all arms on the test items and judge the declared one.

    Swaps of FALSE statements among `items` are the association control of twins and count in no other figure; the
    draws of `controls` are on the other items alone.
    `wording` are the labelled statements of the file outside the test set, which readers of wording are fitted on.
    `shared` counts test items whose twin or near copy was fitted on.

    Returns:
        `arms`, `matched`, `helps`, `failed_controls`, `conclusion`, and `judged` and `exploratory` with the
        differences they rest on.

    Raises:
        BadInput: there are no items, two arms of one name, or scores that do not belong to the items.
    """
    contest = contest_of(items, arms, controls, wording=wording, seed=seed, shared=shared)
    with threadpool_limits(1, user_api="blas"):  # many small products: threads cost more than they bring
        return _measured(contest, declared)


def contest_of(
    items: TestItems,
    arms: Sequence[ArmScores],
    controls: Sequence[ControlDraws],
    *,
    wording: Sequence[LabelledStatement],
    seed: int,
    shared: int = 0,
) -> Contest:
    """Return what arms are judged by, with the association control of twins; for the arguments see `evaluated`.

    Raises:
        BadInput: there are no items, two arms of one name, or scores that do not belong to the items.
    """
    kept = counted(items.statements)
    tested = items_among(items, kept)
    if not len(tested):
        raise BadInput(
            "There is no test statement besides swaps of FALSE statements; there is nothing to measure."
        )
    everything = _named(items, arms, tested, controls)
    contest = Contest(
        tested,
        {name: arm_among(arm, kept) for name, arm in everything.items()},
        controls,
        resamples(tested.gold, tested.groups, seed=seed),
        cache(lambda: wording_free_part(tested, wording, seed=seed)),
        shared,
    )
    control = association_control(items.statements, seed=seed + 1)
    return replace(contest, association=cache(partial(_association, contest, control, everything)))


def _association(
    contest: Contest, control: AssociationControl, everything: Mapping[str, ArmScores], name: str
) -> Association | None:
    """Return what the control of twins makes of the arm `name`; None without twins, or without their control."""
    twins = contest.wording_free()
    if not isinstance(twins, Twins):
        return None
    scores, weights = contest.arms[name].scores, contest.resamples
    alike = control.of_its_kinds(contest.items.statements, twins.pairs)
    some = 0 < len(alike) < twins.n
    of_these = twins.score(scores, weights, alike) if some else None
    return control.beside(everything[name].scores, twins.score(scores, weights), len(alike), of_these)


def _measured(contest: Contest, declared: str) -> dict[str, Any]:
    judgement = judged(contest, declared)
    found = _all_figures(contest)
    of_twins = isinstance(contest.wording_free(), Twins)
    for name in contest.arms:
        found[name]["matched"] |= as_json(contest.association(name)) if of_twins else NO_TWINS
        gained = excess_gained(contest, name) if of_twins else None
        if gained is not None:
            found[name]["matched"]["vs_unsteered"]["excess_difference"] = gained.as_json()
    return {
        "arms": found,
        "matched": _about(contest.wording_free()),
        "helps": judgement.helps,
        "failed_controls": list(judgement.failed),
        "conclusion": conclusion(judgement, _acceptance(contest, declared), _beside(contest, judgement)),
        "judged": {"arm": declared, **_judgement_json(judgement)},
        "exploratory": _exploratory(contest, declared),
    }


def _beside(contest: Contest, judgement: Judgement) -> Association | str | None:
    """Return what the conclusion tells of plausibility: figures, why there are none, or nothing."""
    if judgement.arm not in contest.arms:
        return None
    why = untold(contest, judgement.arm)
    if why:
        return None if judgement.reason.endswith(why) else why
    return contest.association(judgement.arm)


def _named(
    items: TestItems, arms: Sequence[ArmScores], tested: TestItems, controls: Sequence[ControlDraws]
) -> Mapping[str, ArmScores]:
    everything: list[ArmScores | ControlDraws] = [*arms, *controls]
    names = [one.name for one in everything]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"Two arms have the same name: {', '.join(twice)}.")
    for arm in arms:
        checked(items, arm)
    for control in controls:
        checked(tested, control)
    return {one.name: one for one in arms}


def _all_figures(contest: Contest) -> dict[str, Any]:
    unsteered = contest.arms.get("unsteered")
    part = contest.wording_free()
    found: dict[str, Any] = {}
    for name, arm in contest.arms.items():
        figures = arm_figures(contest.items, arm, contest.resamples)
        figures["vs_unsteered"] = None
        if unsteered is None or name == "unsteered":
            why = "unsteered was not run" if unsteered is None else "this is the unsteered arm"
            figures["reasons"]["vs_unsteered"] = why
        else:
            figures["vs_unsteered"] = against(contest.items, arm, unsteered, contest.resamples)
        found[name] = {**figures, "matched": _on_part(part, arm, unsteered, contest.resamples)}
    for control in contest.controls:
        figures = draws_figures(contest.items, control, unsteered)
        found[control.name] = {**figures, "matched": _draws_on_part(part, control, contest.items)}
    return found


def _about(part: WordingFree | str) -> dict[str, Any]:
    if isinstance(part, str):
        return {"kind": None, "n": 0, "valid": False, "residual_auc": {}, "reason": part}
    return part.about()


def _on_part(
    part: WordingFree | str, arm: ArmScores, unsteered: ArmScores | None, weights: Resamples
) -> dict[str, Any]:
    """Return an arm's figures on the wording-free part; for twins, `accuracy` is the share of pairs ranked right."""
    if isinstance(part, str):
        return {**_about(part), "accuracy": None, "auroc": None, "vs_unsteered": None}
    ours = part.score(arm.scores, weights)
    gain = None
    if unsteered is not None and unsteered.name != arm.name:
        gain = {"accuracy_difference": ours.minus(part.score(unsteered.scores, weights)).as_json()}
    return {
        **part.about(),
        "accuracy": ours.as_json(),
        "auroc": weights.auroc(arm.scores, part.members(len(arm.scores))).as_json(),
        "vs_unsteered": gain,
    }


def _draws_on_part(part: WordingFree | str, control: ControlDraws, items: TestItems) -> dict[str, Any]:
    if isinstance(part, str):
        return {**_about(part), "accuracy": None}
    return {**part.about(), "accuracy": draws_json(part.values(control.scores, items.gold))}


def _acceptance(contest: Contest, declared: str) -> FalseAcceptance | None:
    before, after = contest.arms.get("unsteered"), contest.arms.get(declared)
    if before is None or after is None:
        return None
    false = ~contest.items.gold
    shares = [contest.resamples.share(arm.scores >= 0, false) for arm in (before, after)]
    return FalseAcceptance(*shares)


def _judgement_json(judgement: Judgement) -> dict[str, Any]:
    return {
        "helps": judgement.helps,
        "failed_controls": list(judgement.failed),
        "differences": {name: one.as_json() for name, one in judgement.differences.items()},
        "p": judgement.p,
        **({"reason": judgement.reason} if judgement.reason else {}),
    }


def _exploratory(contest: Contest, declared: str) -> dict[str, Any]:
    """Judge the arms nobody declared; among so many one wins by luck, so they help only if Holm's p says so too."""
    judgements = {
        name: judged(contest, name) for name in contest.arms if name != declared and name not in REFERENCES
    }
    adjusted = holm({name: one.p for name, one in judgements.items()})
    found = {}
    for name, one in judgements.items():
        sure = one.helps is not True or adjusted[name] < LEVEL
        found[name] = {
            **_judgement_json(one),
            "helps": one.helps if sure else False,
            "p_holm": adjusted[name],
        }
    return found
