"""One sentence that says what the evaluation found, with what it cost in false statements accepted."""

from dataclasses import dataclass

from medx_core.evaluation.association import Association
from medx_core.evaluation.bootstrap import Estimate
from medx_core.evaluation.helps import Judgement

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
    finding = f"{_gain(judgement)}{_verdict(judgement)}{_plausibility(judgement, association)}"
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


def _verdict(judgement: Judgement) -> str:
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
