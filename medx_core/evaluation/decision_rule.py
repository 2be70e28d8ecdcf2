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
from functools import cached_property

import numpy as np

from medx_core.errors import BadInput
from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems, Values
from medx_core.evaluation.bootstrap import Estimate, Resamples, balanced_accuracies, resamples
from medx_core.evaluation.result import UNSTEERED, Judgement
from medx_core.evaluation.verdicts import Reason, Verdict
from medx_core.evaluation.wording_free import (
    Association,
    AssociationControl,
    WordingFree,
    WordingReading,
    association,
    association_control,
    wording_free_part,
)

CONTROLS = (UNSTEERED, "prompt_only", "prior")
WORDING_FREE_CONTROLS = (UNSTEERED, "prior")
DRAWN_CONTROLS = ("random", "shuffled")
LEAST_DRAWS = 20
REFERENCES = frozenset({UNSTEERED, "prompt_only", "prior", "probe", "lexical", "fine_tuned", "recipe"})
"""Arms that are measured and never judged: others are compared with them, or no controls of their own are drawn."""
LEVEL = 0.05

ASSOCIATION, ASSOCIATION_GAIN = "association", "association_gain"


@dataclass(frozen=True)
class Comparison:
    """Everything that an arm is judged by; `find_part` is called at most when the rule needs the wording-free part.

    `shared` counts test items whose twin or near copy was fitted on: with any, nobody can say that an arm helps.
    `control` is the association control of twins.
    """

    items: TestItems
    arms: Mapping[str, ArmScores]
    controls: Sequence[ControlDraws]
    resamples: Resamples
    find_part: Callable[[], WordingFree]
    shared: int = 0
    control: AssociationControl | None = None

    @cached_property
    def part(self) -> WordingFree:
        """The wording-free part of the items."""
        return self.find_part()

    def association(self, name: str) -> Association | None:
        """Return what the association control makes of an arm; None without twins or without their control."""
        if self.control is None:
            return None
        return association(self.part, self.control, self.items, self.arms[name], self.resamples)

    def excess_gained(self, name: str) -> Estimate | None:
        """Return an arm's excess, like against like, minus that of `unsteered`, paired; None where one has none."""
        if name == UNSTEERED or UNSTEERED not in self.arms:
            return None
        ours, theirs = self.association(name), self.association(UNSTEERED)
        return None if ours is None or theirs is None else ours.judged.minus(theirs.judged)

    def plausibility_left(self, name: str) -> str:
        """Say why twins cannot tell plausibility from truth in an arm; empty where they can, and without twins."""
        if self.part.pairs is None:
            return ""
        excess = self.association(name)
        return Reason.NO_ASSOCIATION_CONTROL.value if excess is None else excess.plausibility_left

    def drawn_controls(self, name: str) -> list[ControlDraws]:
        """Return the random and shuffled draws of an arm itself."""
        return [control for control in self.controls if control.of == name]


def comparison_of(
    items: TestItems,
    arms: Sequence[ArmScores],
    controls: Sequence[ControlDraws],
    *,
    wording: Callable[[TestItems], WordingReading],
    seed: int,
    shared: int = 0,
) -> Comparison:
    """Return what arms are judged by: `arms` have scores of all `items`, `controls` of the counted ones alone.

    `wording` reads the counted items for wording, when the rule needs it.

    Raises:
        BadInput: there are no items, two arms of one name, or scores that do not belong to the items.
    """
    kept = items.counted
    tested = items.among(kept)
    if not len(tested):
        raise BadInput(
            "There is no test statement besides swaps of FALSE statements; there is nothing to measure."
        )
    names = [*(arm.name for arm in arms), *(control.name for control in controls)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"Two arms have the same name: {', '.join(twice)}.")
    for arm in arms:
        _check(arm, items)
    for control in controls:
        _check(control, tested)
    by_name = {arm.name: arm for arm in arms}
    return Comparison(
        tested,
        {name: arm.among(kept) for name, arm in by_name.items()},
        controls,
        resamples(tested.gold, tested.groups, seed=seed),
        lambda: wording_free_part(tested, wording(tested)),
        shared,
        association_control(items, by_name, seed=seed + 1),
    )


def _check(arm: ArmScores | ControlDraws, items: TestItems) -> None:
    if arm.scores.shape[-1] != len(items) or arm.scores.size == 0:
        raise BadInput(f"The arm {arm.name} has {arm.scores.shape} scores for {len(items)} test statements.")
    if not np.isfinite(arm.scores).all():
        raise BadInput(f"The arm {arm.name} has scores that are not finite numbers.")


def judged(comparison: Comparison, name: str, *, thorough: bool = True) -> Judgement:
    """Judge the arm `name`; unless `thorough`, the wording-free part is left out once a control is not beaten.

    `differences` are the arm minus each control in balanced accuracy, on the wording-free part under `matched_...`;
    for drawn controls minus the median draw; under `association` the excess of twins over their control, under
    `association_gain` that excess minus the one of `unsteered`.
    """
    gold = comparison.items.gold
    differences: dict[str, Estimate] = {}
    failed: list[str] = []
    details: dict[str, object] = {}
    if name not in comparison.arms:
        verdict, details = Verdict.NOT_RUN, {"arm": name}
    elif gold.all() or not gold.any():
        verdict = Verdict.ONE_ANSWER_ONLY
    else:
        differences, failed = _on_all_items(comparison, name)
        if thorough or not failed:
            on_part = _on_part(comparison, name)
            differences |= on_part
            if comparison.part.about.valid:
                failed += [control for control, gain in on_part.items() if not gain.above_zero]
        verdict = Verdict.CONTROL_NOT_BEATEN
        if not failed:
            verdict, details = next(_left_open(comparison, name), (Verdict.HELPS, details))
    return Judgement(
        arm=name,
        verdict=verdict,
        helps=verdict.helps,
        failed_controls=tuple(failed),
        differences={control: difference.metric for control, difference in differences.items()},
        # what must hold all together is as sure as its least sure part
        p=max((difference.p for difference in differences.values()), default=1.0),
        reason=verdict.because(**details) if verdict.helps is None else None,
    )


def _left_open(comparison: Comparison, name: str) -> Iterator[tuple[Verdict, dict[str, object]]]:
    """Yield what leaves the question open, the weightiest first, with what its reason tells."""
    missing = _missing(comparison, name)
    if missing:
        yield Verdict.CONTROLS_NOT_RUN, {"controls": ", ".join(missing)}
    if comparison.part.about.reason:
        yield Verdict.WORDING_NOT_RULED_OUT, {"why": comparison.part.about.reason}
    plausible = comparison.plausibility_left(name)
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


def _on_all_items(comparison: Comparison, name: str) -> tuple[dict[str, Estimate], list[str]]:
    """Return the arm minus each control in balanced accuracy, and the controls that it does not beat."""
    items, weights = comparison.items, comparison.resamples
    ours = weights.balanced(items.right(comparison.arms[name].scores))
    differences, failed = {}, []
    for control in CONTROLS:
        if control in comparison.arms and control != name:
            right = items.right(comparison.arms[control].scores)
            differences[control] = ours.minus(weights.balanced(right))
            failed += [] if differences[control].above_zero else [control]
    for drawn in comparison.drawn_controls(name):
        rights = items.right(drawn.scores)
        values = balanced_accuracies(rights, items.gold)
        differences[drawn.name] = ours.minus(weights.balanced(rights[_median(values)]))
        beaten = differences[drawn.name].above_zero and ours.value > values.max()
        failed += [] if beaten else [drawn.name]
    return differences, failed


def _median(values: Values) -> int:
    """Return the place of the median draw: of an even number, the better of the middle two."""
    return int(np.argsort(values, kind="stable")[len(values) // 2])


def _on_part(comparison: Comparison, name: str) -> dict[str, Estimate]:
    """Return the arm minus each control on the wording-free part; empty where there is none."""
    part, arms, weights = comparison.part, comparison.arms, comparison.resamples
    if part.about.kind is None:
        return {}
    ours = part.score(arms[name].scores, weights)
    differences = {
        f"matched_{control}": ours.minus(part.score(arms[control].scores, weights))
        for control in WORDING_FREE_CONTROLS
        if control in arms
    }
    excess = comparison.association(name)
    if excess is not None and not excess.plausibility_left:
        differences[ASSOCIATION] = excess.judged
        gained = comparison.excess_gained(name)
        if gained is not None:
            differences[ASSOCIATION_GAIN] = gained
    return differences


def _missing(comparison: Comparison, name: str) -> list[str]:
    missing = [control for control in CONTROLS if control not in comparison.arms]
    for kind in DRAWN_CONTROLS:
        drawn = comparison.drawn_controls(name)
        own = [len(control.scores) for control in drawn if control.name.split("_")[-1] == kind]
        most = max(own, default=0)
        if not most:
            missing.append(f"{kind} draws of {name}")
        elif most < LEAST_DRAWS:
            missing.append(f"{LEAST_DRAWS} {kind} draws of {name} (there are {most})")
    return missing
