"""`medx ask`: one question, answered here and now, without the queue."""

import json
import sys
from typing import Annotated, Any

import typer

from medx_core import __version__
from medx_core.categories import Category, Route, RouteSource, as_category
from medx_core.errors import BadInput
from medx_core.questions import ARM_CHOICES, Answer, Answered, Mode, Question, Verdict
from medx_core.settings import settings

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


def ask(
    text: Annotated[str, typer.Argument(help="The question, or a statement to be judged TRUE or FALSE.")],
    mode: Annotated[Mode, typer.Option(help="The form of the answer.")] = Mode.VERDICT,
    category: Annotated[str, typer.Option(help="auto, or the category itself.")] = "auto",
    arm: Annotated[str, typer.Option(help="steered, unsteered or both.")] = "steered",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Answer one question, routed and steered."""
    question = read_question(text, mode=mode, category=category, arm=arm)
    # torch takes seconds to import: not before the input is known to be sound.
    from medx_core.assembly import build_engine

    answered = build_engine(settings()).answer(question)
    if as_json:
        print(json.dumps(as_contract(answered), ensure_ascii=False))
        return
    print_answered(answered)


def read_question(text: str, *, mode: Mode, category: str, arm: str) -> Question:
    """Check what was typed and make a question of it.

    Raises:
        BadInput: the text is empty or too long, or the category or arm is not known.
    """
    limit = settings().max_question_characters
    if not text.strip():
        raise BadInput("The question is empty; write one.")
    if len(text) > limit:
        raise BadInput(
            f"The question has {len(text)} characters; at most {limit} are taken (MEDX_MAX_QUESTION_CHARACTERS)."
        )
    if arm not in ARM_CHOICES:
        raise BadInput(f"There is no arm {arm!r}; choose steered, unsteered or both.")
    try:
        chosen = as_category(category)
    except ValueError:
        raise BadInput(f"There is no category {category!r}; choose auto, {', '.join(Category)}.") from None
    return Question(text=text.strip(), mode=mode, category=chosen, arms=ARM_CHOICES[arm])


def as_contract(answered: Answered) -> dict[str, Any]:
    """Return the JSON object of `medx ask --json`."""
    route = answered.route
    return {
        "question": answered.question.text,
        "mode": answered.question.mode.value,
        "route": {
            "category": route.category.value if route.category else None,
            "probabilities": {category.value: share for category, share in route.probabilities.items()},
            "abstained": route.abstained,
            "source": route.source.value,
            "red_flag": route.red_flag,
        },
        "answers": [answer.as_json() for answer in answered.answers],
        "medx_version": __version__,
    }


def print_answered(answered: Answered) -> None:
    """Print an answered question for a person."""
    print(route_line(answered.route))
    for answer in answered.answers:
        print()
        for line in answer_lines(answer):
            print(line)
    if answered.route.needs_emergency_line:
        print(f"\n{EMERGENCY_LINE}")
    print(f"\n{RESEARCH_ONLY}")
    sys.stdout.flush()
