"""What an evaluation found that a recipe's steering mends and breaks, to stand beside what it changed in a file.

A file's own counts need expected answers and have no control. Beside them stand those of the evaluation, with what random
directions of the same length did to the same statements.
"""

from pydantic import Field

from medx_core.evaluation.number_format import count
from medx_core.evaluation.result import Changes, DrawnMetric, EvaluationResult
from medx_core.evaluation.sentences import changes_in_words
from medx_core.metric import Value

RANDOM = ("random", "gated_random")


class Band(Value):
    """The fewest and the most answers that any draw of random directions changed."""

    fewest: int = Field(description="in the draw with the fewest")
    most: int = Field(description="in the draw with the most")


class RandomChanges(Value):
    """What random directions changed against unsteered, over all draws."""

    draws: int = Field(description="number of random directions")
    helped: Band = Field(description="items wrong unsteered and right in the draw")
    harmed: Band = Field(description="items right unsteered and wrong in the draw")


class MeasuredChanges(Changes):
    """What a recipe changed against unsteered in an evaluation; `random` is null where no control was drawn for its arm."""

    data: str = Field(description="name of the evaluation's data")
    arm: str = Field(description="the arm that the recipe was there")
    random: RandomChanges | None = Field(description="what random directions changed there")

    @property
    def in_words(self) -> str:
        """The same as a sentence."""
        measured = f"In its evaluation on {self.data} this recipe changed: {changes_in_words(self)} of {count(self.n)}"
        if self.random is None:
            return f"{measured}; no random directions were drawn for it there."
        return (
            f"{measured}; {self.random.draws} random directions: {_span(self.random.helped)} mended, "
            f"{_span(self.random.harmed)} broken."
        )


def measured_changes(result: EvaluationResult, arm: str) -> MeasuredChanges | None:
    """Return what an arm of an evaluation changed against unsteered; None where it was not run, or is the unsteered one."""
    figures = result.arm(arm)
    if figures is None or figures.vs_unsteered is None:
        return None
    against = figures.vs_unsteered
    return MeasuredChanges(
        n=result.n_test,
        helped=against.helped,
        harmed=against.harmed,
        mcnemar_p=against.mcnemar_p,
        data=result.data,
        arm=arm,
        random=_random_changes(result, arm),
    )


def _random_changes(result: EvaluationResult, arm: str) -> RandomChanges | None:
    drawn = next((each for name, each in result.controls_of(arm).items() if name in RANDOM), None)
    if drawn is None or drawn.vs_unsteered is None or drawn.vs_unsteered.changes is None:
        return None
    changes = drawn.vs_unsteered.changes
    return RandomChanges(
        draws=len(changes.helped.draws), helped=_band(changes.helped), harmed=_band(changes.harmed)
    )


def _band(drawn: DrawnMetric) -> Band:
    return Band(fewest=round(min(drawn.draws)), most=round(max(drawn.draws)))


def _span(band: Band) -> str:
    return count(band.most) if band.fewest == band.most else f"{count(band.fewest)} to {count(band.most)}"
