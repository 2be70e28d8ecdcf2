"""What a person submits: reading the choices, checking the question, and the submission as a value."""

import re
from dataclasses import dataclass

from medx_core.categories import Category, as_category
from medx_core.data.question_files import FileRow, QuestionFile
from medx_core.errors import BadInput
from medx_core.jobs.status import JobKind
from medx_core.questions import ARM_CHOICES, Arm, Exploration, Mode, Question

TITLE_CHARACTERS = 120
AUTO = "auto"
OPEN_QUESTION = re.compile(
    r"(what|which|who|whom|whose|when|where|why|how)(['’]s)?\b(?!ever)[^.!]*$", re.IGNORECASE
)
# One sentence that begins with an auxiliary verb: "Is chest pain an emergency?", but not "Is it? What should I do?".
YES_NO_QUESTION = re.compile(
    r"(is|are|was|were|am|do|does|did|has|have|had|can|could|may|might|must|should|will|would|shall)(n['’]t)?\b[^.?!]*\?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Submission:
    """A job before it is stored: committed with its items and outbox rows in one transaction.

    `category` is the submitter's choice for all items; with None the row's own category or the router decides.
    """

    kind: JobKind
    mode: Mode
    arms: tuple[Arm, ...]
    items: tuple[FileRow, ...]
    person_id: int | None = None
    category: Category | None = None
    title: str = ""
    file_sha256: str = ""
    exploration: Exploration | None = None


def read_question(text: str, *, mode: str, category: str, arm: str, max_characters: int) -> Question:
    """Read a question and its choices as typed on a page or a command line.

    Raises:
        BadInput: the text is empty or too long, or a choice is not known.
    """
    question = read_question_text(text, max_characters=max_characters)
    return Question(
        text=question,
        mode=read_mode(mode, question=question),
        category=read_category(category),
        arms=read_arms(arm),
    )


def read_question_text(text: str, *, max_characters: int) -> str:
    """Return the text without outer spaces; BadInput is raised where it is empty, too long or no text."""
    question = text.strip()
    if any("\ud800" <= character <= "\udfff" for character in question):  # half a pair, which JSON can hold
        raise BadInput("The question contains invalid characters; remove them.")
    if not question:
        raise BadInput("The question is empty; write a question or a statement.")
    if len(question) > max_characters:
        raise BadInput(
            f"The question has {len(question):,} characters; at most {max_characters:,} are accepted. Shorten it."
        )
    return question


def read_mode(text: str, *, question: str | None = None) -> Mode:
    """Read the form of the answer; `auto` lets the question decide. BadInput is raised where there is no such form."""
    if text == AUTO and question is not None:
        return mode_of(question)
    try:
        return Mode(text)
    except ValueError:
        choices = "verdict or text" if question is None else "auto, verdict or text"
        raise BadInput(f"There is no mode {text!r}; choose {choices}.") from None


def mode_of(question: str) -> Mode:
    """Return the form of answer that a text asks for: a verdict on a statement or yes/no question, text on any other."""
    if OPEN_QUESTION.match(question):
        return Mode.TEXT
    sentence = question.rstrip("\"'”’) ")
    return Mode.TEXT if sentence.endswith("?") and not YES_NO_QUESTION.fullmatch(sentence) else Mode.VERDICT


def read_arms(text: str) -> tuple[Arm, ...]:
    """Read which arms to answer in; BadInput is raised where there is no such choice."""
    if text not in ARM_CHOICES:
        raise BadInput(f"There is no arm {text!r}; choose steered, unsteered or both.")
    return ARM_CHOICES[text]


def read_category(text: str) -> Category | None:
    """Read the category; None (`auto`) leaves the decision to the router. BadInput is raised for any other word."""
    try:
        return as_category(text)
    except ValueError:
        raise BadInput(f"There is no category {text!r}; choose auto, {', '.join(Category)}.") from None


def question_submission(question: Question, *, person_id: int | None = None) -> Submission:
    """Return the submission of one question, or of one exploration."""
    return Submission(
        kind=JobKind.EXPLORATION if question.exploration else JobKind.QUESTION,
        mode=question.mode,
        arms=question.arms,
        items=(FileRow(1, "", question.text.replace("\x00", "")),),
        person_id=person_id,
        category=question.category,
        title=question.text[:TITLE_CHARACTERS],
        exploration=question.exploration,
    )


def file_submission(
    file: QuestionFile,
    *,
    mode: Mode,
    arms: tuple[Arm, ...],
    category: Category | None = None,
    person_id: int | None = None,
) -> Submission:
    """Return the submission of all accepted rows of a file; `category` applies to all of them."""
    return Submission(
        kind=JobKind.BATCH,
        mode=mode,
        arms=arms,
        items=file.rows,
        person_id=person_id,
        category=category,
        title=file.name,
        file_sha256=file.sha256,
    )
