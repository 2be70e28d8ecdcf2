"""The rule by which MedX says that steering helps. The evaluation and its self-test use this one function.

One arm is declared beforehand and judged on balanced accuracy. It beats a control when the lower end of the 95 %
paired bootstrap interval of the difference is above zero; it beats random or shuffled draws when this holds against
the median draw and it lies above every draw. It helps when it beats `unsteered`, `prompt_only`, `prior` and its own
random and shuffled draws on all test items, and `unsteered` and `prior` on a valid wording-free part. Without such a
part nobody can say: wording cannot be ruled out.

Where that part is made of twins there are two controls more. What is merely plausible is preferred in swaps of FALSE
statements too, whose versions are both false; so the share of twins ranked right must lie above the share of originals
preferred there, and further above it than it does without steering: what the model brings along is no gain of steering.
Of the twins only those count there whose kind of word was exchanged in the control too.
A gate that reads plausibility alone would otherwise be said to help nearly every time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medx_core.evaluation.arms import ArmScores, ControlDraws, TestItems
from medx_core.evaluation.bootstrap import Estimate, Resamples, balanced_accuracies
from medx_core.evaluation.wording_free import NO_CONTROL, Association, Twins, WordingFree

UNSTEERED = "unsteered"
CONTROLS = (UNSTEERED, "prompt_only", "prior")
WORDING_FREE_CONTROLS = (UNSTEERED, "prior")
DRAWN_CONTROLS = ("random", "shuffled")
LEAST_DRAWS = 20
REFERENCES = frozenset({UNSTEERED, "prompt_only", "prior", "probe", "lexical", "fine_tuned"})
"""Arms that others are compared with; they are never judged themselves."""
LEVEL = 0.05

ASSOCIATION, ASSOCIATION_GAIN = "association", "association_gain"

_CANNOT_TELL = "wording cannot be ruled out"
_PLAUSIBILITY = "plausibility cannot be told from truth"


def no_association(_name: str) -> Association | None:
    """Say that there is no association control."""
    return None


@dataclass(frozen=True)
class Contest:
    """Everything an arm is judged by; `wording_free` is asked at most when the rule needs it.

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


@dataclass(frozen=True)
class Judgement:
    """The verdict on one arm.

    `differences` are the arm minus each control in balanced accuracy, on the wording-free part under `matched_...`;
    for drawn controls minus the median draw; under `association` the excess of twins over their control, under
    `association_gain` that excess minus the one of `unsteered`. `reason` says in words why `helps` is None.
    """

    arm: str
    helps: bool | None
    failed: tuple[str, ...]
    differences: Mapping[str, Estimate] = field(default_factory=dict)
    reason: str = ""

    @property
    def p(self) -> float:
        """The largest p of its comparisons: what must hold all together is as sure as its least sure part."""
        return max((one.p for one in self.differences.values()), default=1.0)


def judged(contest: Contest, name: str, *, thorough: bool = True) -> Judgement:
    """Judge the arm `name`; unless `thorough`, the wording-free part is left alone once a control has not been beaten."""
    if not _judgeable(contest, name):
        return Judgement(name, None, (), reason=_not_judgeable(contest, name))
    differences, failed = _on_all_items(contest, name)
    missing = _missing(contest, name)
    part: WordingFree | str = ""
    if thorough or not failed:
        part = contest.wording_free()
        if not isinstance(part, str):
            found = _on_part(contest, name, part)
            differences |= found
            failed += [one for one, what in found.items() if part.valid and not what.above_zero]
    helps, reason = _verdict(failed, missing, part, "" if failed else untold(contest, name))
    if helps and contest.shared:
        helps, reason = None, _fitted_on(contest)
    return Judgement(name, helps, tuple(failed), differences, reason)


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p of each name: below .05 where it holds although so many were tried."""
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(ps, key=lambda one: ps[one])):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in ps}


def _fitted_on(contest: Contest) -> str:
    return f"{contest.shared:,} of {len(contest.items):,} test statements have a twin or a near copy in the training part"


def _judgeable(contest: Contest, name: str) -> bool:
    return name in contest.arms and bool(contest.items.gold.any()) and not bool(contest.items.gold.all())


def _not_judgeable(contest: Contest, name: str) -> str:
    if name not in contest.arms:
        return f"the declared arm {name} was not run"
    return "the test set holds TRUE or FALSE statements only; both are needed"


def _verdict(
    failed: Sequence[str], missing: Sequence[str], part: WordingFree | str, untold: str
) -> tuple[bool | None, str]:
    if failed:
        return False, ""
    if missing:
        return None, f"needed to judge it and not run: {', '.join(missing)}"
    unread = part if isinstance(part, str) else part.reason
    if unread:
        return None, f"{_CANNOT_TELL}: {unread}"
    return (None, f"{_PLAUSIBILITY}: {untold}") if untold else (True, "")


def untold(contest: Contest, name: str) -> str:
    """Say why twins leave open what of an arm's is plausibility; empty where they do not, and without twins."""
    if not isinstance(contest.wording_free(), Twins):
        return ""
    found = contest.association(name)
    return NO_CONTROL if found is None else found.untold


def _on_all_items(contest: Contest, name: str) -> tuple[dict[str, Estimate], list[str]]:
    items, resamples = contest.items, contest.resamples
    right = (contest.arms[name].scores >= 0) == items.gold
    ours = resamples.balanced(right)
    differences, failed = {}, []
    for control in CONTROLS:
        if control in contest.arms and control != name:
            theirs = resamples.balanced((contest.arms[control].scores >= 0) == items.gold)
            differences[control] = ours.minus(theirs)
            failed += [control] if not differences[control].above_zero else []
    for drawn in _own(contest, name):
        rights = (drawn.scores >= 0) == items.gold
        values = balanced_accuracies(rights, items.gold)
        differences[drawn.name] = ours.minus(resamples.balanced(rights[_median(values)]))
        beaten = differences[drawn.name].above_zero and ours.value > values.max()
        failed += [] if beaten else [drawn.name]
    return differences, failed


def _median(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> int:
    """Return the place of the median draw: of an even number, the better of the middle two."""
    return int(np.argsort(values, kind="stable")[len(values) // 2])


def _on_part(contest: Contest, name: str, part: WordingFree) -> dict[str, Estimate]:
    ours = part.score(contest.arms[name].scores, contest.resamples)
    found = {
        f"matched_{control}": ours.minus(part.score(contest.arms[control].scores, contest.resamples))
        for control in WORDING_FREE_CONTROLS
        if control in contest.arms
    }
    association = contest.association(name) if isinstance(part, Twins) else None
    if association is not None and not association.untold:
        found[ASSOCIATION] = association.judged
        gained = excess_gained(contest, name)
        found |= {} if gained is None else {ASSOCIATION_GAIN: gained}
    return found


def excess_gained(contest: Contest, name: str) -> Estimate | None:
    """Return an arm's excess, like against like, minus that of `unsteered`, paired; None where one of them has none."""
    if name == UNSTEERED or UNSTEERED not in contest.arms:
        return None
    ours, theirs = contest.association(name), contest.association(UNSTEERED)
    return None if ours is None or theirs is None else ours.judged.minus(theirs.judged)


def _own(contest: Contest, name: str) -> list[ControlDraws]:
    return [one for one in contest.controls if one.of == name]


def _missing(contest: Contest, name: str) -> list[str]:
    missing = [control for control in CONTROLS if control not in contest.arms]
    for kind in DRAWN_CONTROLS:
        draws = [len(one.scores) for one in _own(contest, name) if one.name.split("_")[-1] == kind]
        if not draws:
            missing.append(f"{kind} draws of {name}")
        elif max(draws) < LEAST_DRAWS:
            missing.append(f"{LEAST_DRAWS} {kind} draws of {name} (there are {max(draws)})")
    return missing


_BEATEN_BY = {
    "unsteered": "the unsteered model",
    "prompt_only": "a better prompt alone",
    "prior": "a shifted threshold",
    "matched_unsteered": "the unsteered model where wording gives nothing away",
    "matched_prior": "a shifted threshold where wording gives nothing away",
    "association": "plausibility, as swaps of false statements show it",
    "association_gain": "the unsteered model in what lies beyond plausibility",
}
_KINDS_OF_DRAW = {"random": "random directions", "shuffled": "vectors from shuffled answers"}


@dataclass(frozen=True)
class FalseAcceptance:
    """The share of FALSE statements answered TRUE: before steering, after, and the paired difference."""

    before: Estimate
    after: Estimate

    @property
    def rose(self) -> bool:
        """Whether it rose by more than chance explains: the paired interval lies above zero."""
        return self.after.minus(self.before).above_zero

    @property
    def in_words(self) -> str:
        """Before and after, as part of a sentence."""
        if not self.after.n:
            return "how many false statements are accepted is not known, since no test statement is FALSE"
        return (
            f"false statements accepted go from {_percent(self.before.value)} to {_percent(self.after.value)}"
        )


def conclusion(
    judgement: Judgement, acceptance: FalseAcceptance | None, association: Association | str | None = None
) -> str:
    """Return the sentence; it begins with false acceptance when that rose significantly.

    `acceptance` is None when the arm or `unsteered` was not run. `association` says how much of what twins show is
    plausibility, or why that is not known; without twins there is none.
    """
    finding = f"{_gain(judgement)}{_verdict_sentence(judgement)}{_plausibility(judgement, association)}"
    if acceptance is None:
        return f"{_capital(finding)}; false acceptance before and after is not known."
    if acceptance.rose:
        before, after = _percent(acceptance.before.value), _percent(acceptance.after.value)
        return f"False statements are accepted more often, {after} after steering and {before} before; {finding}."
    return f"{_capital(finding)}; {acceptance.in_words}."


def _gain(judgement: Judgement) -> str:
    gain = judgement.differences.get("unsteered")
    if gain is None:
        return f"{judgement.arm} "
    low, high = gain.interval
    return (
        f"{judgement.arm} changes balanced accuracy by {_points(gain.value)} points "
        f"({_points(low)} to {_points(high)}, n {gain.n:,}) and "
    )


def _verdict_sentence(judgement: Judgement) -> str:
    if judgement.helps:
        return "helps: it beats every control, also where wording gives nothing away"
    if judgement.helps is None:
        beaten = "beats the controls that were run but " if judgement.differences else ""
        return f"{beaten}cannot be said to help: {judgement.reason}"
    return f"is not shown to help: it does not beat {_listed([_control(one) for one in judgement.failed])}"


def _plausibility(judgement: Judgement, association: Association | str | None) -> str:
    """Say what the association control leaves of the twins: the original is preferred in false statements too."""
    if association is None:
        return ""
    if isinstance(association, str):
        return f"; how much of what its twins show is plausibility is not known, since {association}"
    twins, control, excess = association.twins, association.control, association.judged
    gained = judgement.differences.get("association_gain")
    beyond = excess.above_zero and (gained is None or gained.above_zero)
    left = "so plausibility alone does not explain it" if beyond else "so it may be plausibility, not truth"
    by_steering = "" if gained is None else f", of which {_interval(gained)} by steering"
    among = " among twins of the same kinds of word" if association.same_kinds else ""
    return (
        f"; it ranks {_percent(twins.value)} of twins right and prefers the original of {_percent(control.value)} of "
        f"false statements, an excess of {_interval(excess)}{among}{by_steering}, {left}"
    )


def _interval(found: Estimate) -> str:
    low, high = found.interval
    return f"{_points(found.value)} points ({_points(low)} to {_points(high)})"


def _control(name: str) -> str:
    return _BEATEN_BY.get(name) or _KINDS_OF_DRAW.get(name.split("_")[-1], name)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
