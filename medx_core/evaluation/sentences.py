"""Sentences about a result: the conclusion of an evaluation, and the line below a steered answer.

All of them are made from typed results; verdicts and reasons have their own sentences in `verdicts`.
"""

from collections.abc import Sequence

from medx_core.calibration import AbstentionRule
from medx_core.evaluation.number_format import ascii_points, count, p_value, percent, plain, points
from medx_core.evaluation.result import (
    UNSTEERED,
    ArmResult,
    Changes,
    DoseFigures,
    EvaluationResult,
    ExcludedStatement,
    Judgement,
    Metric,
    PairedDifference,
)
from medx_core.evaluation.verdicts import Verdict

NOT_EVALUATED = "How well this recipe answers: not evaluated."
SHOWN = 5
"""Of statements that were left out, so many are named in a sentence."""
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
    "recipe": "the recipe in use",
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


def promise_in_words(rule: AbstentionRule) -> str:
    """Return what a rule of abstention promises, or that it cannot, and why."""
    share = percent(rule.max_error)
    if rule.coverage is None or rule.error is None:
        return (
            f"MedX cannot promise for this model on these statements that at most {share} of the answers it trusts are "
            f"wrong, so no answer is marked as trusted: {rule.reason}."
        )
    return (
        f"With {percent(rule.level)} confidence at most {share} of the answers it trusts are wrong. Of the training "
        f"statements it trusts {percent(rule.coverage)}, and of these answers {percent(rule.error)} are wrong."
    )


def changes_in_words(changes: Changes | PairedDifference) -> str:
    """Return how many wrong unsteered answers an arm mends and how many right ones it breaks, as a clause."""
    return (
        f"{_counted(changes.helped, 'wrong answer')} mended, {_counted(changes.harmed, 'right answer')} broken "
        f"(exact McNemar p {p_value(changes.mcnemar_p)})"
    )


def _counted(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


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


def excluded_sentence(excluded: Sequence[ExcludedStatement]) -> str:
    """Say which statements the model could not be asked, and why; empty where it could be asked all."""
    if not excluded:
        return ""
    named = "; ".join(f"row {each.row} ({each.part}): {each.reason.rstrip('.')}" for each in excluded[:SHOWN])
    more = f"; and {len(excluded) - SHOWN:,} more, see `excluded`" if len(excluded) > SHOWN else ""
    count = "1 statement" if len(excluded) == 1 else f"{len(excluded):,} statements"
    return f"{count} could not be asked and {'is' if len(excluded) == 1 else 'are'} left out for all arms: {named}{more}."


def refused_for_dose(doses: DoseFigures | None, n: int, *, limit: float, limited_by: str) -> str:
    """Say how many of the `n` statements that an arm was measured on would be refused under a limit; empty for none."""
    if doses is None or doses.largest <= limit:
        return ""
    refused = sum(dose > limit for dose in doses.values)
    half = "More than half" if doses.median > limit else "Some"
    many = f"{refused:,} of the {n:,}" if doses.values else f"{half} of the {n:,}"
    return (
        f"{many} statements that it was measured on would be refused here: their doses reach {doses.largest:.3g}, and "
        f"{limited_by} allows {limit:g}."
    )


def evidence_line(result: EvaluationResult, arm: str) -> str:
    """Return a few sentences on a recipe's worth, from the arm of an evaluation that measured it.

    A steered arm with controls of its own has a verdict, and its gain is in balanced accuracy against the unsteered model;
    of any other arm the line gives the accuracy. Where the evaluation has no such arm, it says so.
    """
    figures, judgement = result.arm(arm), result.judgement(arm)
    if figures is None:
        return NOT_EVALUATED
    if judgement is None or not result.controls_of(arm):
        sentences = [_right(figures)]
        accepted = figures.false_acceptance_rate
        sentences.append(f"False statements accepted: {percent(accepted.value)}." if accepted else "")
    else:
        sentences = [f"This recipe {_worth(judgement, figures)}."]
        if judgement.verdict is not Verdict.PLAUSIBILITY_NOT_RULED_OUT:
            sentences.append(_on_twins(figures))
        sentences.append(_accepted(result.arm(UNSTEERED), figures))
    sentences.append(f"Measured on {result.data}." if result.data else "")
    return " ".join(sentence for sentence in sentences if sentence)


def _right(arm: ArmResult) -> str:
    accuracy = arm.accuracy
    if accuracy is None:
        return ""
    ends = f"{plain(100 * accuracy.low)} to {plain(100 * accuracy.high)}"
    return f"This recipe answers {percent(accuracy.value)} right ({ends}, n {count(accuracy.n)})."


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
