"""What is known of a vector's worth, in the words that stand below every steered answer."""

from collections.abc import Mapping
from typing import Any

from medx_core.evaluation.number_format import count, percent, plain, points
from medx_core.evaluation.report.arm_words import arm_in_text, capital, reason_in_text
from medx_core.evaluation.report.readings import (
    UNSTEERED,
    Evaluation,
    Figure,
    evaluation,
    figure,
    part,
    sequence,
)
from medx_core.evaluation.report.verdict_words import PLAUSIBILITY, WORDING, listed

NOT_EVALUATED = "Whether this vector helps: not evaluated."


def evidence_line(evaluated: Mapping[str, Any] | None, arm: str | None = None) -> str:
    """Return one or two sentences from the JSON of `medx evaluate`: verdict, gain with interval, false acceptance.

    `arm` is the arm that the vector stands for, the declared one by default; the gain is in balanced accuracy against
    the unsteered model. Without an evaluation, or one that did not judge this arm, the line says so.
    """
    if not evaluated:
        return NOT_EVALUATED
    read = evaluation(evaluated)
    name = arm or read.declared
    judged = _judgement(read, name)
    if "helps" not in judged or read.arm(name) is None:
        return NOT_EVALUATED
    gain = _gain(read, name)
    said = f"A vector made this way {_verdict(judged, f' ({gain})' if gain else '')}."
    told = str(judged.get("reason") or "").startswith(PLAUSIBILITY)
    more = ("" if told else _plausibility(read, name), _false_acceptance(read, name), _measured_on(read))
    return " ".join(part for part in (said, *more) if part)


def _judgement(read: Evaluation, name: str) -> Mapping[str, Any]:
    if name != read.declared:
        return part(part(read.result, "exploratory"), name)
    keys = ("helps", "failed_controls")
    top = {key: read.result[key] for key in keys if key in read.result}
    return {**part(read.result, "judged"), **top}


def _verdict(judged: Mapping[str, Any], gain: str) -> str:
    if judged["helps"] is True:
        return f"helps{gain}, also where wording gives nothing away"
    failed = [arm_in_text(str(one)) for one in sequence(judged, "failed_controls")]
    if failed:
        return f"is not shown to help{gain}: it does not beat {listed(failed)}"
    reason = str(judged.get("reason") or "")
    if judged["helps"] is False:
        return f"is not shown to help{gain}: among so many arms this may be luck"
    why = WORDING if not reason or reason.startswith(WORDING) else reason_in_text(reason)
    return f"is not shown to help{gain}: {why}"


def _gain(read: Evaluation, name: str) -> str:
    arm = read.arm(name)
    against = _judgement(read, name)
    shown = figure(part(against, "differences").get(UNSTEERED))
    if shown is None and arm is not None:
        shown = arm.difference("balanced_accuracy") or arm.difference("accuracy")
    return _in_points(shown) if shown else ""


def _in_points(shown: Figure) -> str:
    said = [f"{points(shown.value)} points"]
    if shown.interval:
        low, high = shown.interval
        said.append(f"{plain(100 * low)} to {plain(100 * high)}")
    if shown.n:
        said.append(f"n {count(shown.n)}")
    return ", ".join(said)


def _plausibility(read: Evaluation, name: str) -> str:
    """Say what the association control leaves of what the twins show, or that there is no such control."""
    arm = read.arm(name)
    matched = part(arm.data, "matched") if arm else {}
    if matched.get("excess_valid") is False:
        why = str(part(matched, "reasons").get("excess_valid") or "")
        return f"{capital(PLAUSIBILITY)}: {reason_in_text(why)}."
    excess = figure(matched.get("excess_same_kinds")) or figure(matched.get("excess"))
    if excess is None or not excess.interval:
        return ""
    low, high = excess.interval
    gained = figure(part(matched, "vs_unsteered").get("excess_difference"))
    beyond = low > 0 and (gained is None or gained.interval is None or gained.interval[0] > 0)
    told = "more than plausibility explains" if beyond else "which may be plausibility, not truth"
    by_steering = f", {points(gained.value)} of them by steering" if gained else ""
    return (
        f"On twins: {points(excess.value)} points ({plain(100 * low)} to {plain(100 * high)}) above swaps of false "
        f"statements{by_steering}, {told}."
    )


def _measured_on(read: Evaluation) -> str:
    data = read.result.get("data")
    return f"Measured on {data}." if isinstance(data, str) and data else ""


def _false_acceptance(read: Evaluation, name: str) -> str:
    arms = (read.arm(UNSTEERED), read.arm(name))
    before, after = (one.figure("false_acceptance_rate") if one else None for one in arms)
    if not before or not after:
        return ""
    return f"False statements accepted: {percent(before.value)} without steering, {percent(after.value)} with it."
