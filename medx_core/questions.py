"""A question, the arms it is answered in, and its answers."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from medx_core import __version__
from medx_core.categories import Category, Route


class Mode(StrEnum):
    """The form of an answer."""

    VERDICT = "verdict"
    TEXT = "text"


class Arm(StrEnum):
    """One way of answering a question. An evaluation adds its controls as further arms."""

    STEERED = "steered"
    UNSTEERED = "unsteered"


class Verdict(StrEnum):
    """The verdict on a statement. `UNCERTAIN` is shown when the score lies within a margin of one half."""

    TRUE = "TRUE"
    FALSE = "FALSE"
    UNCERTAIN = "uncertain"


# `Answer.finish` of a text that was cut short because its question was cancelled.
CANCELLED = "cancelled"

ARM_CHOICES: dict[str, tuple[Arm, ...]] = {
    "steered": (Arm.STEERED,),
    "unsteered": (Arm.UNSTEERED,),
    "both": (Arm.STEERED, Arm.UNSTEERED),
}


@dataclass(frozen=True)
class Question:
    """One question as it was asked, with the category that its asker chose, if any."""

    text: str
    mode: Mode = Mode.VERDICT
    category: Category | None = None
    category_from_file: bool = False
    arms: tuple[Arm, ...] = (Arm.STEERED,)


@dataclass(frozen=True)
class ArmRow:
    """One arm of one routed question: one row of a forward pass."""

    question: Question
    route: Route
    arm: Arm


@dataclass(frozen=True)
class Answer:
    """One arm's answer to one question, with everything needed to reproduce it.

    `score` is the model's share for TRUE between its two answer words, `sigmoid(logit_true - logit_false - threshold)`
    in float32 with the threshold of the recipe; it is not a calibrated probability. `raw_verdict` is the side of one half
    that the score lies on, `verdict` is what is shown. `recipe` is the id of the recipe that answered, None in answers
    that are older than recipes. `vector` names the steering vector version that was added; None when there was none. `note` says why a
    steered arm was answered unsteered.
    """

    arm: Arm
    model: str
    model_sha256: str
    prompt_version: str
    seconds: float
    verdict: Verdict | None = None
    raw_verdict: Verdict | None = None
    score: float | None = None
    text: str | None = None
    recipe: str | None = None
    vector: str | None = None
    layer: int | None = None
    alpha: float | None = None
    tokens: int | None = None
    finish: str = "done"
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the answer as `medx ask --json` shows it."""
        return asdict(self)


@dataclass(frozen=True)
class Answered:
    """A question with its route and the answers of its arms, in the order of `question.arms`."""

    question: Question
    route: Route
    answers: tuple[Answer, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the object that `medx ask --json` prints."""
        return {
            "question": self.question.text,
            "mode": self.question.mode,
            "route": self.route.as_json(),
            "answers": [answer.as_json() for answer in self.answers],
            "recipe": next((answer.recipe for answer in self.answers), None),
            "emergency": self.route.red_flag,
            "medx_version": __version__,
        }
