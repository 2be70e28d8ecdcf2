"""What the model in use is worth by itself: how many of the bundled test statements it answers right without steering.

The figure is measured (`medx models measure`), never assumed: it belongs to one recipe without its steering, whose id names
the model's weights, tokenizer, template, number type and prompts, and to one version of the statements. Where any of them
differs there is no figure. That of the default model ships, as that command printed it.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files

from pydantic import Field

from medx_core.categories import Route, RouteSource
from medx_core.data.bundled_texts import bundled_statements
from medx_core.errors import ModelUnavailable, VectorRefused
from medx_core.evaluation.number_format import count, percent, plain
from medx_core.metric import Metric, Value
from medx_core.questions import Answer, Arm, ArmRow, Question, Verdict

MODEL_ACCURACY = "model_accuracy"
"""The kind of run that such a measurement is stored as."""
SHIPPED = "model_accuracy.json"
ROWS_AT_ONCE = 32
CHANCE = 0.5
ANOTHER_MODEL = "Another model: MEDX_MODEL (see medx models list)."
NOT_MEASURED = (
    "how many of the bundled test statements it answers right is not yet measured (`medx models measure`)."
)


class ModelAccuracy(Value):
    """The measurement of one model without steering; a `recipe` is an id, the hashes are SHA-256."""

    model: str = Field(description="name of the model, for people")
    model_sha256: str = Field(description="hash of its weights")
    identity_sha256: str = Field(description="hash of all of the model that changes an answer")
    recipe: str = Field(description="id of the recipe in use, without its steering")
    data_sha256: str = Field(description="hash of the bundled test statements with their answers")
    device: str = Field(description="what computed it")
    medx_version: str = Field(description="the version of MedX that measured it")
    accuracy: Metric = Field(description="share of statements answered right, resampled by facts and quads")

    def is_of(self, recipe: str) -> bool:
        """Whether this is the figure of that recipe on the statements that are bundled now."""
        return (self.recipe, self.data_sha256) == (recipe, bundled_test_sha256())


@lru_cache(maxsize=1)
def bundled_test_sha256() -> str:
    """Return the hash of the bundled test statements with their answers and with what is resampled together."""
    digest = hashlib.sha256()
    for each in bundled_statements():
        if each.split == "test":
            cells = (each.id, each.statement, str(each.answer), each.quad, each.fact)
            digest.update(("\x1f".join(cells) + "\x1e").encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def shipped_accuracy() -> ModelAccuracy:
    """Return the figure that ships, of the default model on the CPU."""
    return ModelAccuracy.model_validate_json((files("medx_core.evaluation") / SHIPPED).read_text("utf-8"))


def measured_accuracy(
    verdicts: Callable[[Sequence[ArmRow]], Sequence[Answer | VectorRefused]],
    *,
    on_progress: Callable[[int, int], None],
) -> Metric:
    """Answer all bundled test statements unsteered and return the share right with its 95 % interval.

    `verdicts` is that of an answering engine, so that what is measured is what answers. An answer counts by the side of the
    threshold it is on, also where it is not to be trusted. Statements of one fact or quad are resampled together.

    Raises:
        ModelUnavailable: the model gives no verdicts.
    """
    import numpy as np  # only where something is measured: the line itself is shown by commands that start at once

    from medx_core.data.labelled_files import load_bundled
    from medx_core.evaluation.bootstrap import resamples

    statements = [
        each for each in load_bundled().statements if each.split == "test" and each.source_answer is None
    ]
    rows = [
        ArmRow(Question(each.text), Route(each.category, source=RouteSource.FILE), Arm.UNSTEERED)
        for each in statements
    ]
    answers: list[Answer] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        on_progress(first, len(rows))
        given = verdicts(rows[first : first + ROWS_AT_ONCE])
        answers += [each for each in given if isinstance(each, Answer)]  # unsteered, so none is refused
    gold = np.array([each.answer for each in statements])
    right = np.array([answer.raw_verdict is Verdict.TRUE for answer in answers]) == gold
    _, groups = np.unique([each.group for each in statements], return_inverse=True)
    accuracy = resamples(gold, groups.astype(np.intp), seed=0).share(right).metric
    if accuracy is None:
        raise ModelUnavailable("The model's answers gave no figure; run `medx models check`.")
    return accuracy


def model_line(name: str, parameters: int, accuracy: ModelAccuracy | None) -> str:
    """Name a model for what it is: its size, what it is worth without steering, and the way to another one."""
    named = f"{name} ({_size(parameters)})" if parameters else name
    return f"{named}: {_in_words(accuracy.accuracy) if accuracy else NOT_MEASURED} {ANOTHER_MODEL}"


def _size(parameters: int) -> str:
    if parameters >= 1_000_000_000:
        return f"{plain(parameters / 1e9)} billion parameters"
    if parameters >= 1_000_000:
        return f"{plain(parameters / 1e6, 0)} million parameters"
    return f"{count(parameters)} parameters"


def _in_words(accuracy: Metric) -> str:
    """Return the figure with its interval, and how it stands to guessing: half of the statements are true."""
    ends = f"{plain(100 * accuracy.low)} to {plain(100 * accuracy.high)}"
    if accuracy.low > CHANCE:
        standing = "better than chance"
    elif accuracy.high < CHANCE:
        standing = "worse than chance"
    else:
        standing = "about chance"
    share = f"{percent(accuracy.value)} of the {count(accuracy.n)} bundled test statements right ({ends})"
    return f"without steering it answers {share}, {standing}."
