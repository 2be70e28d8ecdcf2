"""The sentences around the conclusion: what `helps` means, and how much the wording-free part is worth."""

from collections.abc import Mapping, Sequence

from medx_core.evaluation.number_format import count, fraction
from medx_core.evaluation.report.arm_words import arm_in_text, capital, reason_in_text, steering_in_text
from medx_core.evaluation.report.readings import Evaluation, Json, figure, part, sequence, wording_free

VALID_UP_TO = 0.55
WORDING = "wording cannot be ruled out"
PLAUSIBILITY = "plausibility cannot be told from truth"


def verdict(evaluated: Evaluation) -> tuple[str, str]:
    """Return the verdict as a tone (`yes`, `no`, `open`) and in words."""
    helps = evaluated.result.get("helps")
    if helps is True:
        return "yes", "Helps"
    if helps is False:
        return "no", "Not shown to help"
    return "open", f"Open: {WORDING}" if _why_open(evaluated).startswith(WORDING) else "Open"


def verdict_meaning(evaluated: Evaluation) -> str:
    """Say in one sentence what the verdict rests on; what the conclusion itself says is not said again."""
    declared = steering_in_text(evaluated.declared)
    if part(evaluated.result, "judged"):
        return f"Judged by a rule fixed beforehand: {declared} against every control, in balanced accuracy and where wording gives nothing away."
    failed = failed_controls(evaluated.result)
    if failed:
        return f"{capital(declared)} does not beat {listed(failed)}."
    if evaluated.result.get("helps") is None:
        return f"It stays open whether {declared} helps: {reason_in_text(_why_open(evaluated))}."
    return ""


def failed_controls(result: Json) -> list[str]:
    """Return the controls that were not beaten, in words."""
    return [_failed(one) for one in sequence(result, "failed_controls")]


def listed(names: Sequence[str]) -> str:
    """Return names as "a", "a or b", "a, b or c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def wording_free_meaning(evaluated: Evaluation) -> tuple[str, bool]:
    """Say what the wording-free part is and whether it is valid."""
    found = wording_free(evaluated.result, evaluated.arm(evaluated.declared))
    if not found or not found.get("kind"):
        stated = found.get("reason") or part(evaluated.result, "reasons").get("matched")
        why = f" ({reason_in_text(str(stated))})" if stated else ""
        return f"This evaluation has no wording-free part{why}, so wording cannot be ruled out.", False
    kind = str(found["kind"])
    n = figure(found.get("n"))
    size = f"{count(int(n.value))} " if n else ""
    what = {
        "twins": f"{size}pairs of twins, a true statement and its minimally edited false one: the figure is the share of pairs in which the true one scores higher.",
        "matched": f"{size}test items on which what wording alone suggests is balanced between TRUE and FALSE.",
    }.get(kind, f"{size}{kind}.")
    notice = f" {capital(str(found['notice']).rstrip('.'))}." if found.get("notice") else ""
    residual = _residual(part(found, "residual_auc"))
    if found.get("valid") is False:
        stated = found.get("reason")
        why = f" {capital(str(stated).rstrip('.'))}." if stated else ""
        left = (
            f" AUROC of readers of wording alone: {residual}; {VALID_UP_TO:.2f} is allowed."
            if residual
            else ""
        )
        return f"Not valid, so wording cannot be ruled out. {capital(what)}{why}{left}", False
    left = f" AUROC of readers of wording alone there: {residual}." if residual else ""
    return f"{capital(what)}{left}{notice}", not notice


def _failed(control: object) -> str:
    if isinstance(control, Mapping):
        name = str(control.get("name") or control.get("control") or "a control")
        reason = control.get("reason")
        return f"{arm_in_text(name)} ({reason_in_text(str(reason))})" if reason else arm_in_text(name)
    return arm_in_text(str(control))


def _residual(readers: Json) -> str:
    said = [
        f"{name.replace('_', ' ')} {fraction(shown.value)}"
        for name, auc in readers.items()
        if (shown := figure(auc))
    ]
    return ", ".join(said)


def _why_open(evaluated: Evaluation) -> str:
    return str(part(evaluated.result, "judged").get("reason") or WORDING)
