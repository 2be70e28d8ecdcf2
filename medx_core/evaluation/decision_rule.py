"""The rule by which MedX says that steering helps. The evaluation and its self-test use this one function.

One arm is declared beforehand and judged on balanced accuracy. It beats a control when the lower end of the 95 %
paired bootstrap interval of the difference is above zero; it beats random or shuffled draws when this holds against
the median draw and it lies above every draw. It helps when it beats `unsteered`, `prompt_only`, `prior` and its own
random and shuffled draws on all test items, and `unsteered` and `prior` on a valid wording-free part. Without such a
part nobody can say: wording cannot be ruled out.

Where that part is made of twins there are two more controls. What is merely plausible is preferred in swaps of FALSE
statements too, whose versions are both false; so the share of twins ranked right must lie above the share of originals
preferred there, and further above it than without steering, since what the model brings along is no gain of steering.
Only twins whose kind of word was exchanged in the control too count there. Without these controls a gate that reads
plausibility alone would be said to help nearly every time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems, Values
from medx_core.evaluation.bootstrap import Estimate, Resamples, balanced_accuracies
from medx_core.evaluation.result import UNSTEERED, Judgement
from medx_core.evaluation.verdicts import Reason, Verdict
from medx_core.evaluation.wording_free import Association, Twins, WordingFree

CONTROLS = (UNSTEERED, "prompt_only", "prior")
WORDING_FREE_CONTROLS = (UNSTEERED, "prior")
DRAWN_CONTROLS = ("random", "shuffled")
LEAST_DRAWS = 20
REFERENCES = frozenset({UNSTEERED, "prompt_only", "prior", "probe", "lexical", "fine_tuned"})
"""Arms that others are compared with; they are never judged themselves."""
LEVEL = 0.05

ASSOCIATION, ASSOCIATION_GAIN = "association", "association_gain"


def no_association(_name: str) -> Association | None:
    """Say that there is no association control."""
    return None


@dataclass(frozen=True)
class Comparison:
    """Everything that an arm is judged by; `wording_free` is called at most when the rule needs it.

    `shared` counts test items whose twin or near copy was fitted on: with any, nobody can say that an arm helps.
    `association` returns what the control of twins makes of an arm, None without twins or without their control.
    """

    items: TestItems
    arms: Mapping[str, ArmScores]
    controls: Sequence[ControlDraws]
    resamples: Resamples
    wording_free: Callable[[], WordingFree | str]
    shared: int = 0
    association: Callable[[str], Association | None] = no_association


def judged(comparison: Comparison, name: str, *, thorough: bool = True) -> Judgement:
    """Judge the arm `name`; unless `thorough`, the wording-free part is left out once a control is not beaten.

    `differences` are the arm minus each control in balanced accuracy, on the wording-free part under `matched_...`;
    for drawn controls minus the median draw; under `association` the excess of twins over their control, under
    `association_gain` that excess minus the one of `unsteered`.
    """
    gold = comparison.items.gold
    if name not in comparison.arms:
        return _judgement(name, Verdict.NOT_RUN, arm=name)
    if gold.all() or not gold.any():
        return _judgement(name, Verdict.ONE_ANSWER_ONLY)
    differences, failed = _on_all_items(comparison, name)
    if thorough or not failed:
        part = comparison.wording_free()
        if not isinstance(part, str):
            more = _on_part(comparison, name, part)
            differences |= more
            failed += [control for control, gain in more.items() if part.valid and not gain.above_zero]
    verdict, details = _verdict(comparison, name, failed)
    return _judgement(name, verdict, failed, differences, **details)


def _judgement(
    arm: str,
    verdict: Verdict,
    failed: Sequence[str] = (),
    differences: Mapping[str, Estimate] | None = None,
    /,
    **details: object,
) -> Judgement:
    differences = differences or {}
    return Judgement(
        arm=arm,
        verdict=verdict,
        helps=verdict.helps,
        failed_controls=tuple(failed),
        differences={control: difference.metric for control, difference in differences.items()},
        # what must hold all together is as sure as its least sure part
        p=max((difference.p for difference in differences.values()), default=1.0),
        reason=verdict.because(**details) if verdict.helps is None else None,
    )


def _verdict(comparison: Comparison, name: str, failed: Sequence[str]) -> tuple[Verdict, dict[str, object]]:
    """Return the verdict and what its reason tells."""
    if failed:
        return Verdict.CONTROL_NOT_BEATEN, {}
    return next(_left_open(comparison, name), (Verdict.HELPS, {}))


def _left_open(comparison: Comparison, name: str) -> Iterator[tuple[Verdict, dict[str, object]]]:
    """Yield what leaves the question open, the weightiest first."""
    missing = _missing(comparison, name)
    if missing:
        yield Verdict.CONTROLS_NOT_RUN, {"controls": ", ".join(missing)}
    part = comparison.wording_free()
    leaks = part if isinstance(part, str) else part.reason
    if leaks:
        yield Verdict.WORDING_NOT_RULED_OUT, {"why": leaks}
    plausible = plausibility_left(comparison, name)
    if plausible:
        yield Verdict.PLAUSIBILITY_NOT_RULED_OUT, {"why": plausible}
    if comparison.shared:
        yield Verdict.FITTED_ON_TEST_ITEMS, {"shared": comparison.shared, "items": len(comparison.items)}


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p of each name: below .05 where it holds although so many were tried."""
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in ps}


def exploratory(comparison: Comparison, declared: str) -> dict[str, Judgement]:
    """Judge the arms that were not declared. Among so many one wins by luck, so Holm's p must say that it helps too."""
    names = [name for name in comparison.arms if name != declared and name not in REFERENCES]
    judgements = {name: judged(comparison, name) for name in names}
    adjusted = holm({name: judgement.p for name, judgement in judgements.items()})
    return {name: _corrected(judgement, adjusted[name]) for name, judgement in judgements.items()}


def _corrected(judgement: Judgement, p_holm: float) -> Judgement:
    if judgement.helps and p_holm >= LEVEL:
        luck = Verdict.LUCK_AMONG_MANY
        judgement = judgement.model_copy(
            update={"verdict": luck, "helps": luck.helps, "reason": luck.because()}
        )
    return judgement.model_copy(update={"p_holm": p_holm})


def plausibility_left(comparison: Comparison, name: str) -> str:
    """Say why twins cannot tell plausibility from truth in an arm; empty where they can, and without twins."""
    if not isinstance(comparison.wording_free(), Twins):
        return ""
    association = comparison.association(name)
    return Reason.NO_ASSOCIATION_CONTROL.value if association is None else association.plausibility_left


def _on_all_items(comparison: Comparison, name: str) -> tuple[dict[str, Estimate], list[str]]:
    """Return the arm minus each control in balanced accuracy, and the controls that it does not beat."""
    gold, resamples = comparison.items.gold, comparison.resamples
    ours = resamples.balanced((comparison.arms[name].scores >= 0) == gold)
    differences, failed = {}, []
    for control in CONTROLS:
        if control in comparison.arms and control != name:
            right = (comparison.arms[control].scores >= 0) == gold
            differences[control] = ours.minus(resamples.balanced(right))
            failed += [] if differences[control].above_zero else [control]
    for drawn in _own(comparison, name):
        rights = (drawn.scores >= 0) == gold
        values = balanced_accuracies(rights, gold)
        differences[drawn.name] = ours.minus(resamples.balanced(rights[_median(values)]))
        beaten = differences[drawn.name].above_zero and ours.value > values.max()
        failed += [] if beaten else [drawn.name]
    return differences, failed


def _median(values: Values) -> int:
    """Return the place of the median draw: of an even number, the better of the middle two."""
    return int(np.argsort(values, kind="stable")[len(values) // 2])


def _on_part(comparison: Comparison, name: str, part: WordingFree) -> dict[str, Estimate]:
    ours = part.score(comparison.arms[name].scores, comparison.resamples)
    differences = {
        f"matched_{control}": ours.minus(part.score(comparison.arms[control].scores, comparison.resamples))
        for control in WORDING_FREE_CONTROLS
        if control in comparison.arms
    }
    association = comparison.association(name) if isinstance(part, Twins) else None
    if association is not None and not association.plausibility_left:
        differences[ASSOCIATION] = association.judged
        gained = excess_gained(comparison, name)
        if gained is not None:
            differences[ASSOCIATION_GAIN] = gained
    return differences


def excess_gained(comparison: Comparison, name: str) -> Estimate | None:
    """Return an arm's excess, like against like, minus that of `unsteered`, paired; None where one has none."""
    if name == UNSTEERED or UNSTEERED not in comparison.arms:
        return None
    ours, theirs = comparison.association(name), comparison.association(UNSTEERED)
    return None if ours is None or theirs is None else ours.judged.minus(theirs.judged)


def _own(comparison: Comparison, name: str) -> list[ControlDraws]:
    return [control for control in comparison.controls if control.of == name]


def _missing(comparison: Comparison, name: str) -> list[str]:
    missing = [control for control in CONTROLS if control not in comparison.arms]
    for kind in DRAWN_CONTROLS:
        own = [control for control in _own(comparison, name) if control.name.split("_")[-1] == kind]
        most = max((len(control.scores) for control in own), default=0)
        if not most:
            missing.append(f"{kind} draws of {name}")
        elif most < LEAST_DRAWS:
            missing.append(f"{LEAST_DRAWS} {kind} draws of {name} (there are {most})")
    return missing
