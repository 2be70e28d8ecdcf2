"""What goes through MedX: a question, the arms it is answered in, and the answers."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from medx_core.categories import Category, Route


class Mode(StrEnum):
    """The form of an answer."""

    VERDICT = "verdict"
    TEXT = "text"


class Arm(StrEnum):
    """One way of answering the same question. Evaluation adds its controls as arms of its own."""

    STEERED = "steered"
    UNSTEERED = "unsteered"


class Verdict(StrEnum):
    """A judged statement. `UNCERTAIN` is shown when the score lies within the set margin of one half."""

    TRUE = "TRUE"
    FALSE = "FALSE"
    UNCERTAIN = "uncertain"


# How `Answer.finish` says that an answer was broken off where it stood, because nobody wanted it any more.
CANCELLED = "cancelled"

ARM_CHOICES: dict[str, tuple[Arm, ...]] = {
    "steered": (Arm.STEERED,),
    "unsteered": (Arm.UNSTEERED,),
    "both": (Arm.STEERED, Arm.UNSTEERED),
}


@dataclass(frozen=True)
class Question:
    """One question as it was asked, with the category its asker chose, if any."""

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
    """One arm's answer to one question, with everything needed to make it again.

    `score` is the model's share for TRUE between its two answer words, `sigmoid(logit_true - logit_false)` in float32;
    it is a probability only when `calibrated`. `raw_verdict` is the side of one half the score lies on, `verdict` what
    is shown. `vector` names the version that was added, None when nothing was.
    `note` says in words why a steered arm went unsteered.
    """

    arm: Arm
    model: str
    model_sha256: str
    prompt_version: str
    seconds: float
    verdict: Verdict | None = None
    raw_verdict: Verdict | None = None
    score: float | None = None
    calibrated: bool = False
    text: str | None = None
    vector: str | None = None
    layer: int | None = None
    alpha: float | None = None
    tokens: int | None = None
    finish: str = "done"
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the answer as `medx ask --json` shows it (design contract, commands)."""
        return {
            "arm": self.arm.value,
            "verdict": self.verdict.value if self.verdict else None,
            "raw_verdict": self.raw_verdict.value if self.raw_verdict else None,
            "score": self.score,
            "calibrated": self.calibrated,
            "text": self.text,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "vector": self.vector,
            "layer": self.layer,
            "alpha": self.alpha,
            "prompt_version": self.prompt_version,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "finish": self.finish,
            "note": self.note,
        }


@dataclass(frozen=True)
class Answered:
    """A question with its route and the answers of its arms, in the order of `question.arms`."""

    question: Question
    route: Route
    answers: tuple[Answer, ...] = field(default_factory=tuple)
