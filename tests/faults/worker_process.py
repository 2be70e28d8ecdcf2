"""A worker process as it really is, around an engine that tests can direct by what the questions say.

Every row costs `FAKE_ROW_SECONDS`. The words `kill the worker` in a question kill the process at once, `break` makes
the pass fail, and `hold NAME` keeps the pass from ending until there is a file `NAME.go` in the worker's home; a file
`NAME.held` says that it has come to that. While there is a file `no-model` in its home, the worker finds no model.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Sequence

from medx_core.categories import Category, Route
from medx_core.errors import ModelUnavailable, RecipeUnusable, VectorRefused
from medx_core.jobs.engine import EngineDescription
from medx_core.models.model_files import model_identity_sha256, model_weight_sha256
from medx_core.questions import Answer, ArmRow, Question, Verdict
from medx_core.recipes import ModelIdentity
from medx_core.settings import Settings, settings
from medx_core.storage.engine import Database
from medx_core.storage.recipes import RecipeStore
from tests.faults.orders import BREAKS, HOLDS, KILLS, NO_MODEL
from workers.celery_app import log_to_standard_error
from workers.process import work
from workers.runtime import LoadEngine


class DirectedWriting:
    """Writes the words of the question back, one a step."""

    def __init__(self, rows: Sequence[ArmRow], seconds: float) -> None:
        self._rows = rows
        self._seconds = seconds
        self._words = [row.question.text.split() for row in rows]
        self._written = [0 for _ in rows]

    @property
    def finished(self) -> bool:
        return all(self.row_finished(index) for index in range(len(self._rows)))

    def refusal(self, index: int) -> VectorRefused | None:
        return None

    def row_finished(self, index: int) -> bool:
        return self._written[index] >= len(self._words[index])

    def cancel(self, index: int) -> None:
        self._words[index] = self._words[index][: self._written[index]]

    def step(self) -> tuple[str, ...]:
        time.sleep(self._seconds)
        pieces = []
        for index, words in enumerate(self._words):
            pieces.append("" if self.row_finished(index) else f"{words[self._written[index]]} ")
            self._written[index] += bool(pieces[-1])
        return tuple(pieces)

    def answers(self) -> tuple[Answer, ...]:
        return tuple(
            answer_to(row, text=" ".join(words[:written]))
            for row, words, written in zip(self._rows, self._words, self._written, strict=True)
        )


class DirectedEngine:
    """Answers TRUE to everything, in the time it was given."""

    def __init__(self, settings: Settings, row_seconds: float, recipes: RecipeStore) -> None:
        weights, identity = _hashes(settings)
        self._model = ModelIdentity("directed", weights, "float32", identity)
        self._settings = settings
        self._recipes = recipes
        self._home = settings.home
        self._row_seconds = row_seconds
        self.refresh_recipe()

    def route(self, questions: Sequence[Question]) -> tuple[Route, ...]:
        return tuple(Route(question.category or Category.LITERATURE) for question in questions)

    def verdicts(self, rows: Sequence[ArmRow]) -> tuple[Answer, ...]:
        for row in rows:
            time.sleep(self._row_seconds)
            if KILLS in row.question.text:
                os.kill(os.getpid(), signal.SIGKILL)
            if BREAKS in row.question.text:
                raise RuntimeError(f"told to break by {row.question.text}")
            if held := re.search(rf"{HOLDS} (\w+)", row.question.text):
                self._wait_for(held[1])
        return tuple(answer_to(row, score=0.75) for row in rows)

    def write(self, rows: Sequence[ArmRow]) -> DirectedWriting:
        return DirectedWriting(rows, self._row_seconds)

    def refresh_recipe(self) -> None:
        model, refused = self._model, ""
        try:
            record = self._recipes.answering(model, self._settings)
            recipe, name = record.id, record.name
        except RecipeUnusable as unusable:
            recipe, name, refused = unusable.recipe, unusable.name, str(unusable)
        self.description = EngineDescription(
            *("directed", model.sha256, "none", model.number_type, recipe, name, model.identity_sha256),
            refused=refused,
        )

    def _wait_for(self, name: str) -> None:
        (self._home / f"{name}.held").touch()
        while not (self._home / f"{name}.go").exists():
            time.sleep(0.005)


def answer_to(row: ArmRow, *, score: float | None = None, text: str | None = None) -> Answer:
    return Answer(
        arm=row.arm,
        model="directed",
        model_sha256="0" * 64,
        prompt_version="none",
        seconds=0.0,
        verdict=None if score is None else Verdict.TRUE,
        raw_verdict=None if score is None else Verdict.TRUE,
        score=score,
        text=text,
    )


def load_directed(settings: Settings, database: Database) -> LoadEngine:
    seconds = float(os.environ.get("FAKE_ROW_SECONDS", "0"))

    def load() -> DirectedEngine:
        if (settings.home / NO_MODEL).exists():
            raise ModelUnavailable("The model is not on this machine yet.")
        return DirectedEngine(settings, seconds, RecipeStore(database))

    return load


def _hashes(settings: Settings) -> tuple[str, str]:
    """The hashes of whatever file a test left in the place of the model's weights, and of the whole model."""
    try:
        return (
            model_weight_sha256(settings.model, settings.models_folder),
            model_identity_sha256(settings.model, settings.models_folder),
        )
    except ModelUnavailable:
        return "0" * 64, "0" * 64


def main() -> int:
    log_to_standard_error()
    name = sys.argv[sys.argv.index("--name") + 1] if "--name" in sys.argv else ""
    return work(settings(), name=name, engine_loader=load_directed)


if __name__ == "__main__":
    sys.exit(main())
