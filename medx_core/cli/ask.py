"""`medx ask`: one question, answered by a running worker or in this process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from medx_core.categories import Route, RouteSource
from medx_core.cli.database import note, opened_database
from medx_core.cli.outputs import EXIT_INTERRUPTED, AsJson, print_json, tell
from medx_core.data.emergency_lines import emergency_lines
from medx_core.data.patient_data import screened_text
from medx_core.errors import MedxError
from medx_core.job_execution.dispatch import End, choose, follow, refuse_unusable_recipe
from medx_core.jobs.snapshots import ItemSnapshot, JobSnapshot
from medx_core.jobs.status import ItemStatus
from medx_core.jobs.submission import AUTO, question_submission, read_question
from medx_core.models.catalog import refuse_missing
from medx_core.questions import Answer, Question, Verdict
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.evidence import Evidence
from medx_core.storage.jobs import JobStore

if TYPE_CHECKING:
    from medx_core.answering import AnsweringEngine

RESEARCH_ONLY = "Research use only - not for patient care."
WORKER_GONE = "The worker is gone: loading the model in this process."
# How the plain prompt, for models without a chat template, begins a question.
NEXT_QUESTION = "\nQuestion:"
WENT_ON = (
    "The model continued with questions of its own, as models without a chat template do; "
    "only the text before the first of them answers yours."
)

_CHOSEN_BY = {
    RouteSource.ROUTER: "",
    RouteSource.USER: " (your choice)",
    RouteSource.FILE: " (from the file)",
}

ArmOption = Annotated[str, typer.Option("--arm", help="steered, unsteered or both.")]
CategoryOption = Annotated[str, typer.Option("--category", help="auto, or the category itself.")]
Local = Annotated[
    bool,
    typer.Option("--local", help="Load the model in this process, whatever a running worker could answer."),
]


def ask(
    text: Annotated[str, typer.Argument(help="The question, or a statement to be judged TRUE or FALSE.")],
    mode: Annotated[
        str,
        typer.Option(
            "--mode", help="verdict, text, or auto: text for a question that is not of yes/no form."
        ),
    ] = AUTO,
    category: CategoryOption = "auto",
    arm: ArmOption = "steered",
    local: Local = False,
    as_json: AsJson = False,
) -> None:
    """Answer one question, routed and steered: by a running worker, else in this process."""
    limit = settings().max_question_characters
    question = read_question(text, mode=mode, category=category, arm=arm, max_characters=limit)
    text, screening = screened_text(question.text, settings().patient_data)
    if screening:
        tell(screening.sentence())
    question = replace(question, text=text)
    with opened_database() as database:
        choice = choose(settings(), database, local=local)
        tell(choice.sentence)
        asked = _by_worker(question, database) if choice.through_worker else None
        route: Route | None
        if asked is not None:
            job, item = asked
            route, answers = item.route, tuple(stored.answer for stored in item.answers)
            shown, report, refusal = item.as_json(job), choice.report, item.reason
        else:
            engine = load_engine(database)
            with _emergency_first(question, engine.route([question])[0]):
                answered = engine.answer(question)
            route, answers = answered.route, answered.answers
            shown, report, refusal = (
                answered.as_json(),
                engine.description.report(settings()),
                answered.refusal,
            )
        line = Evidence(database).of_model(report)
    if as_json:
        print_json(shown | {"model_line": line, "patient_data": screening.as_json()})
    else:
        _print_answers(question.text, route, answers)
        print(f"{line}\n{RESEARCH_ONLY}")
    if refusal:
        raise MedxError(refusal)


@contextmanager
def _emergency_first(question: Question, route: Route) -> Iterator[None]:
    """Tell the emergency lines of a question that cannot be answered, before its fault."""
    try:
        yield
    except MedxError:
        for line in emergency_lines(question.text, route):
            tell(line)
        raise


def _by_worker(question: Question, database: Database) -> tuple[JobSnapshot, ItemSnapshot] | None:
    """Return the question as a worker answered it; None where all workers went away."""
    jobs = JobStore(database)
    job = jobs.submit(question_submission(question), chunk_rows=1)
    note(database, "ask", f"job {job.public_id}")
    end = follow(settings(), database, job.public_id, on_progress=lambda _progress: None)
    if end is End.INTERRUPTED:
        raise typer.Exit(EXIT_INTERRUPTED)
    if end is End.WORKER_GONE:
        jobs.cancel(job.public_id)
        tell(WORKER_GONE)
        return None
    (item,) = jobs.every_item(job.public_id)
    if item.status is ItemStatus.CANCELLED:
        raise MedxError("The question was cancelled before it was answered.")
    return job, item


def load_engine(database: Database) -> "AnsweringEngine":
    """Load the engine of the settings into this process.

    Raises:
        ModelUnavailable: the model or the device is not there.
        RecipeUnusable: the recipe in use cannot answer.
        RouterUnavailable: no router was trained.
    """
    refuse_missing(settings().model, settings().models_folder)
    refuse_unusable_recipe(settings(), database)
    from medx_core.assembly import build_engine  # imports torch, which takes seconds

    return build_engine(settings(), database)


def _print_answers(text: str, route: Route | None, answers: Sequence[Answer]) -> None:
    for line in emergency_lines(text, route):
        print(line)
    if route is not None:
        print(route_line(route))
    for answer in answers:
        print("", *answer_lines(answer), sep="\n")
    print()


def route_line(route: Route) -> str:
    """Say which category was decided and how probable the router finds each."""
    shares = sorted(route.probabilities.items(), key=lambda pair: -pair[1])
    shown = " · ".join(f"{category.value} {share:.2f}" for category, share in shares)
    decided = route.category.value if route.category else "none decided, answered unsteered"
    return f"Category: {decided}{_CHOSEN_BY[route.source]}   [{shown}]"


def answer_lines(answer: Answer) -> list[str]:
    """Describe one arm's answer in a few lines."""
    steering = (
        f"{answer.vector}, layer {answer.layer}, alpha {answer.alpha:g}" if answer.vector else "no vector"
    )
    if answer.dose is not None:
        steering += f", dose {answer.dose:.2g}"
    recipe = f"recipe {answer.recipe}" if answer.recipe else "by no recipe"
    lines = [
        f"{answer.arm.value.capitalize()}: {verdict_in_words(answer) if answer.verdict else answer.text}",
        f"  {answer.model} · {recipe} · {steering} · {answer.seconds:.2f} s",
    ]
    if answer.finish == "length":
        lines.append("  The answer was cut at its longest allowed length.")
    if NEXT_QUESTION in (answer.text or ""):
        lines.append(f"  {WENT_ON}")
    if answer.note:
        lines.append(f"  {answer.note}")
    return lines


def verdict_in_words(answer: Answer) -> str:
    """Return the verdict with its score."""
    shown = answer.verdict.value if answer.verdict else ""
    if answer.verdict is Verdict.UNCERTAIN and answer.raw_verdict:
        shown += f", leaning {answer.raw_verdict.value}"
    if answer.probability is not None:
        return f"{shown}   probability of TRUE {answer.probability:.2f}"
    return f"{shown}   score (uncalibrated) of TRUE {answer.score:.2f}"
