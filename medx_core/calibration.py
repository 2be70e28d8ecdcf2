"""What a score is worth: the map from score to probability, and the rule by which MedX stays silent.

Both are plain values that travel in results and recipes; `medx_core.fitting` fits them. A score is logit(TRUE word) -
logit(FALSE word). Needs no numerical library, so that pages and commands can apply them.
"""

import math
from bisect import bisect_right
from enum import StrEnum
from itertools import pairwise

from pydantic import Field, model_validator

from medx_core.metric import Metric, Value

LARGEST_ERROR = 0.05
"""A mapped score is called a probability while the whole interval of its calibration error lies below this."""


def shows_probability(error: Metric | None) -> bool:
    """Return whether a test with this calibration error allows to call mapped scores probabilities."""
    return error is not None and error.high < LARGEST_ERROR


class CalibrationKind(StrEnum):
    """How scores are mapped to probabilities, the simplest first."""

    TEMPERATURE = "temperature"
    PLATT = "platt"
    ISOTONIC = "isotonic"


class Knot(Value):
    """One corner of an isotonic map."""

    score: float = Field(description="the score")
    probability: float = Field(ge=0, le=1, description="the probability of TRUE there")


class Calibration(Value):
    """A map from score to probability of TRUE, fitted on training statements, and what a test said of it.

    Temperature (Guo et al., 2017) and Platt's map (Platt, 1999) are 1 / (1 + exp(-(slope * score + intercept))), the
    first without an intercept. An isotonic map (Zadrozny and Elkan, 2002) runs straight between its knots and is level
    beyond them. No map falls as the score rises.
    """

    kind: CalibrationKind = Field(description="how scores are mapped")
    slope: float = Field(1.0, ge=0, description="factor of the score, in temperature and platt")
    intercept: float = Field(0.0, description="what is added to it, in platt")
    knots: tuple[Knot, ...] = Field((), description="corners of an isotonic map, by rising score")
    n: int = Field(description="training statements that it was fitted on")
    error: Metric | None = Field(None, description="expected calibration error on statements not fitted on")
    is_probability: bool = Field(False, description="whether a test allows to call the number a probability")

    @model_validator(mode="after")
    def _is_whole(self) -> "Calibration":
        if self.is_probability is not shows_probability(self.error):
            raise ValueError(f"is_probability is {self.is_probability} and the error {self.error}")
        if bool(self.knots) is not (self.kind is CalibrationKind.ISOTONIC):
            raise ValueError("an isotonic map has knots, and no other has")
        if any(
            here.score >= there.score or here.probability > there.probability
            for here, there in pairwise(self.knots)
        ):
            raise ValueError("the knots do not rise")
        return self

    def tested(self, error: Metric | None) -> "Calibration":
        """Return the map with the calibration error that a test found, None where there was no test."""
        return self.model_copy(update={"error": error, "is_probability": shows_probability(error)})

    def probability(self, score: float) -> float:
        """Return the mapped score: what MedX gives as the probability that the statement is true."""
        if self.kind is CalibrationKind.ISOTONIC:
            return self._between_knots(score)
        margin = self.slope * score + self.intercept
        if margin >= 0:
            return 1 / (1 + math.exp(-margin))
        return math.exp(margin) / (1 + math.exp(margin))

    def confidence(self, score: float, *, said_true: bool) -> float:
        """Return the probability that a verdict is right, below one half where the map contradicts it.

        That happens where verdicts turn at another score than the map's one half.
        """
        probability = self.probability(score)
        return probability if said_true else 1 - probability

    def _between_knots(self, score: float) -> float:
        place = bisect_right([knot.score for knot in self.knots], score)
        if place in (0, len(self.knots)):
            return self.knots[max(0, place - 1)].probability
        before, after = self.knots[place - 1], self.knots[place]
        share = (score - before.score) / (after.score - before.score)
        return before.probability + share * (after.probability - before.probability)


class AbstentionRule(Value):
    """When MedX says "do not trust this answer", so that few of the answers it stands by are wrong.

    An answer is trusted where its confidence (`Calibration.confidence`) lies above `threshold`. Without a promise there
    is no threshold, no answer is trusted, and `reason` says why.
    """

    max_error: float = Field(
        gt=0, lt=1, description="the largest share of wrong answers among the trusted ones"
    )
    level: float = Field(0.95, gt=0, lt=1, description="how sure it is that the share is no larger")
    promised: bool = Field(description="whether that can be promised")
    threshold: float | None = Field(
        None, ge=0, le=1, description="an answer is trusted above this confidence"
    )
    coverage: float | None = Field(
        None, description="share of the statements it was chosen on that is trusted"
    )
    error: float | None = Field(None, description="share of wrong answers among these")
    n: int = Field(description="independent training statements that it was chosen on")
    reason: str | None = Field(None, description="why nothing can be promised, as the end of a sentence")

    @model_validator(mode="after")
    def _is_whole(self) -> "AbstentionRule":
        if self.promised is not (self.threshold is not None) or self.promised is (self.reason is not None):
            raise ValueError("a promise has a threshold, and none has a reason")
        return self

    def trusts(self, confidence: float) -> bool:
        """Return whether an answer of this confidence is trusted."""
        return self.threshold is not None and confidence > self.threshold
