"""What the command line says about an answer. Calm, plain, and never without the research line."""

from medx_core.categories import Route, RouteSource
from medx_core.questions import Answer, Verdict

RESEARCH_ONLY = "Research use only - not for patient care."
EMERGENCY_LINE = "If this may be an emergency, call your local emergency number now."
# As the plain prompt for models without a chat template writes it.
NEXT_QUESTION = "\nQuestion:"
WENT_ON = (
    "The model went on with questions of its own, as models without a chat template do; "
    "only what stands before the first of them answers yours."
)

_CHOSEN_BY = {
    RouteSource.ROUTER: "",
    RouteSource.USER: " (your choice)",
    RouteSource.FILE: " (from the file)",
}


def route_line(route: Route) -> str:
    """Say which category was decided and how probable the router finds each."""
    shares = sorted(route.probabilities.items(), key=lambda pair: -pair[1])
    shown = " · ".join(f"{category.value} {share:.2f}" for category, share in shares)
    decided = route.category.value if route.category else "none decided, answered unsteered"
    return f"Category: {decided}{_CHOSEN_BY[route.source]}   [{shown}]"


def answer_lines(answer: Answer) -> list[str]:
    """Describe one arm's answer in a few lines."""
    made_with = (
        f"{answer.vector}, layer {answer.layer}, alpha {answer.alpha:g}" if answer.vector else "no vector"
    )
    lines = [
        f"{answer.arm.value.capitalize()}: {verdict_in_words(answer) if answer.verdict else answer.text}",
        f"  {answer.model} · {made_with} · {answer.seconds:.2f} s",
    ]
    if answer.finish == "length":
        lines.append("  The answer was cut at its longest allowed length.")
    if NEXT_QUESTION in (answer.text or ""):
        lines.append(f"  {WENT_ON}")
    if answer.note:
        lines.append(f"  {answer.note}")
    return lines


def verdict_in_words(answer: Answer) -> str:
    """Return the verdict with its score, called a probability only where it was calibrated."""
    kind = "probability" if answer.calibrated else "score (uncalibrated)"
    shown = answer.verdict.value if answer.verdict else ""
    if answer.verdict is Verdict.UNCERTAIN and answer.raw_verdict:
        shown += f", leaning {answer.raw_verdict.value}"
    return f"{shown}   {kind} of TRUE {answer.score:.2f}"
