"""A question, the arms it is answered in, and its answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from medx_core import __version__
from medx_core.categories import Category, Route
from medx_core.errors import VectorRefused


class Mode(StrEnum):
    """The form of an answer."""

    VERDICT = "verdict"
    TEXT = "text"


class Arm(StrEnum):
    """One way of answering a question. An evaluation adds its controls as further arms."""

    STEERED = "steered"
    UNSTEERED = "unsteered"


class Verdict(StrEnum):
    """The verdict on a statement. `UNCERTAIN` is shown when the recipe says that the answer is not to be trusted."""

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
class Exploration:
    """Vectors tried on one question: versions by the hash of their file, each `strength` times as strong as it is.

    What comes of it is not an answer by a recipe: it carries no recipe's id, and nobody rates it.
    """

    vectors: tuple[str, ...]
    strength: float


@dataclass(frozen=True)
class Question:
    """One question as it was asked, with the category that its asker chose, if any.

    With an `exploration`, the steered arm is steered by that in place of the recipe in use. `recipe` is the id of the one that
    its job is bound to; None goes by the one in use.
    """

    text: str
    mode: Mode = Mode.VERDICT
    category: Category | None = None
    category_from_file: bool = False
    arms: tuple[Arm, ...] = (Arm.STEERED,)
    exploration: Exploration | None = None
    recipe: str | None = None


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
    that the score lies on, `verdict` is what is shown. `probability` is the probability of TRUE by the recipe's
    calibration, None where a test does not allow to call it so. `recipe` is the id of the recipe that answered, None in
    explorations, and in answers that are older than recipes. `vector` names the steering vector version that was added; None when there was none.
    `dose` is the largest |shift| / |h| that any of its layers gave any token (see `steering.dose`). `note` says why a
    steered arm was answered unsteered. Written explorations have two signs of damage: `perplexity` is that of the text
    under the unsteered model, after the same prompt, `repetition` the share of its runs of four words that were there
    before.
    """

    arm: Arm
    model: str
    model_sha256: str
    prompt_version: str
    seconds: float
    verdict: Verdict | None = None
    raw_verdict: Verdict | None = None
    score: float | None = None
    probability: float | None = None
    text: str | None = None
    recipe: str | None = None
    vector: str | None = None
    layer: int | None = None
    alpha: float | None = None
    dose: float | None = None
    perplexity: float | None = None
    repetition: float | None = None
    tokens: int | None = None
    finish: str = "done"
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the answer as `medx ask --json` shows it."""
        return asdict(self)


@dataclass(frozen=True)
class Answered:
    """A question with its route and the answers of its arms, in the order of `question.arms`.

    An arm that was refused has none, and `refusal` says why; the others have theirs all the same.
    """

    question: Question
    route: Route
    answers: tuple[Answer, ...] = ()
    refusal: str = ""

    @property
    def is_cut_short(self) -> bool:
        """Whether a text ended early because its question was cancelled."""
        return any(answer.finish == CANCELLED for answer in self.answers)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `medx ask --json` prints."""
        return {
            "question": self.question.text,
            "mode": self.question.mode,
            "route": self.route.as_json(),
            "answers": [answer.as_json() for answer in self.answers],
            "reason": self.refusal,
            "recipe": next((answer.recipe for answer in self.answers), None),
            "emergency": self.route.red_flag,
            "medx_version": __version__,
        }


def answered(question: Question, route: Route, arms: Sequence[Answer | VectorRefused]) -> Answered:
    """Return a question with what came of its arms: their answers, and why others were refused."""
    refusal = next((str(each) for each in arms if isinstance(each, VectorRefused)), "")
    return Answered(question, route, tuple(each for each in arms if isinstance(each, Answer)), refusal)
