"""Sentences about a result: the conclusion of an evaluation, and the line below a steered answer.

All of them are made from typed results; verdicts and reasons have their own sentences in `verdicts`.
"""

from collections.abc import Sequence

from medx_core.evaluation.number_format import ascii_points, count, percent, plain, points
from medx_core.evaluation.result import UNSTEERED, ArmResult, EvaluationResult, Judgement, Metric
from medx_core.evaluation.verdicts import Verdict

NOT_EVALUATED = "Whether this vector helps: not evaluated."
WORDING = "wording cannot be ruled out"
PLAUSIBILITY = "plausibility cannot be told from truth"
IN_TEXT = {
    "unsteered": "the unsteered model",
    "prompt_only": "the best prompt alone",
    "prior": "a moved threshold",
    "paper": "the paper's vector",
    "random": "random directions",
    "shuffled": "shuffled labels",
    "gated_random": "random directions",
    "gated_shuffled": "shuffled labels",
    "matched": "the wording-free part",
    "matched_unsteered": "the unsteered model where wording gives nothing away",
    "matched_prior": "a moved threshold where wording gives nothing away",
    "association": "plausibility (swaps of false statements)",
    "association_gain": "the unsteered model beyond plausibility",
    "lexical": "wording alone",
}
"""Arms and controls for the middle of a sentence."""


def arm_in_text(name: str) -> str:
    """Return the name of an arm or control for the middle of a sentence."""
    return IN_TEXT.get(name, name.replace("_", " ")) if name.isidentifier() else name


def steering_in_text(name: str) -> str:
    """Return how a steered arm is spoken of: "gated steering"."""
    return IN_TEXT[name] if name in IN_TEXT else f"{name.replace('_', '-')} steering"


def controls_in_text(names: Sequence[str]) -> str:
    """Return controls as "a", "a or b", "a, b or c"."""
    *others, last = map(arm_in_text, names)
    return f"{', '.join(others)} or {last}" if others else last


def capital(text: str) -> str:
    """Return a text with its first letter capital and the rest unchanged."""
    return text[:1].upper() + text[1:]


def reason_in_text(reason: str) -> str:
    """Return a reason as the end of a sentence: no capital at the start unless it is an acronym, no full stop."""
    text = reason.strip().rstrip(".")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def conclusion(judgement: Judgement, unsteered: ArmResult | None, arm: ArmResult | None) -> str:
    """Return the verdict in one sentence, with false acceptance before and after steering.

    It begins with false acceptance when that rose significantly. `unsteered` and `arm`, the judged one, are None when
    they were not run.
    """
    plausibility = "" if arm is None else _plausibility_of(judgement, arm)
    finding = f"{_gain(judgement)}{_verdict(judgement)}{plausibility}"
    if unsteered is None or arm is None:
        return f"{capital(finding)}; false acceptance before and after is not known."
    before, after = unsteered.false_acceptance_rate, arm.false_acceptance_rate
    if before is None or after is None:
        return f"{capital(finding)}; how many false statements are accepted is not known, since no test statement is FALSE."
    rise = None if arm.vs_unsteered is None else arm.vs_unsteered.false_acceptance_difference
    if rise and rise.above_zero:
        return (
            f"False statements are accepted more often, {_percent(after.value)} after steering and "
            f"{_percent(before.value)} before; {finding}."
        )
    return f"{capital(finding)}; false statements accepted go from {_percent(before.value)} to {_percent(after.value)}."


def _gain(judgement: Judgement) -> str:
    gain = judgement.differences.get(UNSTEERED)
    if gain is None:
        return f"{judgement.arm} "
    return f"{judgement.arm} changes balanced accuracy by {_interval(gain, n=True)} and "


def _verdict(judgement: Judgement) -> str:
    if judgement.helps:
        return "helps: it beats every control, also where wording gives nothing away"
    if judgement.helps is None:
        beaten = "beats the controls that were run but " if judgement.differences else ""
        return f"{beaten}cannot be said to help: {judgement.reason}"
    return f"is not shown to help: it does not beat {controls_in_text(judgement.failed_controls)}"


def _plausibility_of(judgement: Judgement, arm: ArmResult) -> str:
    """Say what the association control leaves of the twins: the original is preferred in FALSE statements too."""
    matched = arm.matched
    if matched.kind != "twins" or judgement.verdict is Verdict.PLAUSIBILITY_NOT_RULED_OUT:
        return ""
    if not matched.excess_valid:
        why = matched.reasons.get("excess_valid", "")
        return f"; how much of what its twins show is plausibility is not known, since {why}"
    excess, control = matched.judged_excess, matched.association
    if matched.accuracy is None or excess is None or control is None:
        return ""
    gained = matched.excess_gained
    left = (
        "so plausibility alone does not explain it"
        if _beyond(arm)
        else "so it may be plausibility, not truth"
    )
    by_steering = f", of which {_interval(gained)} by steering" if gained else ""
    among = " among twins of the same kinds of word" if matched.excess_same_kinds else ""
    return (
        f"; it ranks {_percent(matched.accuracy.value)} of twins right and prefers the original of "
        f"{_percent(control.value)} of false statements, an excess of {_interval(excess)}{among}{by_steering}, {left}"
    )


def _beyond(arm: ArmResult) -> bool:
    """Whether an arm tells twins apart by more than plausibility, and steering adds to that."""
    excess = arm.matched.judged_excess
    gained = arm.matched.excess_gained
    return excess is not None and excess.above_zero and (gained is None or gained.above_zero)


def _interval(metric: Metric, *, n: bool = False) -> str:
    size = f", n {count(metric.n)}" if n else ""
    return f"{ascii_points(metric.value)} points ({ascii_points(metric.low)} to {ascii_points(metric.high)}{size})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"  # plain ASCII: the conclusion is read by programs and terminals too


def evidence_line(result: EvaluationResult | None, arm: str | None = None) -> str:
    """Return one or two sentences on a vector's worth: verdict, gain with interval, false acceptance.

    `arm` is the arm that the vector belongs to, the declared one by default; the gain is in balanced accuracy against
    the unsteered model. Without an evaluation, or with one that did not judge this arm, the line says so.
    """
    if result is None:
        return NOT_EVALUATED
    name = arm or result.judged.arm
    judgement, figures = result.judgement(name), result.arm(name)
    if judgement is None or figures is None:
        return NOT_EVALUATED
    sentences = [f"A vector made this way {_worth(judgement, figures)}."]
    if judgement.verdict is not Verdict.PLAUSIBILITY_NOT_RULED_OUT:
        sentences.append(_on_twins(figures))
    sentences += [
        _accepted(result.arm(UNSTEERED), figures),
        f"Measured on {result.data}." if result.data else "",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _worth(judgement: Judgement, arm: ArmResult) -> str:
    gain = None if arm.vs_unsteered is None else arm.vs_unsteered.balanced_accuracy_difference
    size = ""
    if gain:
        ends = f"{plain(100 * gain.low)} to {plain(100 * gain.high)}"
        size = f" ({points(gain.value)} points, {ends}, n {count(gain.n)})"
    if judgement.helps:
        return f"helps{size}, also where wording gives nothing away"
    if judgement.failed_controls:
        return f"is not shown to help{size}: it does not beat {controls_in_text(judgement.failed_controls)}"
    why = WORDING if judgement.verdict is Verdict.WORDING_NOT_RULED_OUT else judgement.reason or ""
    return f"is not shown to help{size}: {why}"


def _on_twins(arm: ArmResult) -> str:
    """Say what the association control leaves of what the twins show, or that there is no such control."""
    matched = arm.matched
    if matched.excess_valid is False:
        return f"{capital(PLAUSIBILITY)}: {reason_in_text(matched.reasons.get('excess_valid', ''))}."
    excess = matched.judged_excess
    if excess is None:
        return ""
    gained = matched.excess_gained
    by_steering = f", {points(gained.value)} of them by steering" if gained else ""
    left = "more than plausibility explains" if _beyond(arm) else "which may be plausibility, not truth"
    return (
        f"On twins: {points(excess.value)} points ({plain(100 * excess.low)} to {plain(100 * excess.high)}) above swaps "
        f"of false statements{by_steering}, {left}."
    )


def _accepted(unsteered: ArmResult | None, arm: ArmResult) -> str:
    before, after = None if unsteered is None else unsteered.false_acceptance_rate, arm.false_acceptance_rate
    if before is None or after is None:
        return ""
    return f"False statements accepted: {percent(before.value)} without steering, {percent(after.value)} with it."
