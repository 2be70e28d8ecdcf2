"""The evidence for a recipe: the latest evaluation that measured that very recipe, in a sentence or two.

An evaluation names the recipes it measured, by id: the one in use, and the one it saved. Any other recipe was not evaluated,
however alike it is. Until one was, what its vectors' own validation found stands in its place. The line on the model itself
is made here too.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from medx_core.calibration import shows_probability
from medx_core.errors import BadInput, NotFound, StorageFault
from medx_core.evaluation.measured_changes import MeasuredChanges, measured_changes
from medx_core.evaluation.model_accuracy import (
    MODEL_ACCURACY,
    ModelAccuracy,
    model_line,
    shipped_accuracy,
)
from medx_core.evaluation.result import EvaluationResult, read_result
from medx_core.evaluation.sentences import NOT_EVALUATED, evidence_in_short, evidence_line, refused_for_dose
from medx_core.evaluation.vector_findings import gain_sentence
from medx_core.questions import Answer, Arm
from medx_core.recipes import Recipe, dose_limit
from medx_core.settings import settings
from medx_core.storage.engine import Database
from medx_core.storage.recipes import RecipeStore
from medx_core.storage.runs import Run, RunStore
from medx_core.storage.vectors import VectorStore

log = logging.getLogger(__name__)

REMEMBERED = 256
NO_PROBABILITY = "Its calibration did not hold there, so its answers carry a score, which is not called a probability any more."
NO_PROMISE = (
    "Its promise did not hold there: {broken}, so that none of its answers is marked as trusted any more."
)
OF_VERDICTS = "It was measured on TRUE/FALSE verdicts, not on written answers."


@dataclass(frozen=True)
class KnownEvidence:
    """What is known of a recipe, and the id of the evaluation behind it; empty where there is none.

    `short` is the same for a table: the verdict or the accuracy, with false acceptance, and what would be refused.
    """

    line: str = NOT_EVALUATED
    run: str = ""
    short: str = NOT_EVALUATED


@dataclass(frozen=True)
class Held:
    """What newer evidence left of what a recipe says of its own answers.

    `probability` is whether its mapped scores may be called probabilities, `broken_promise` how its promise was broken, as a
    part of a sentence; empty where it was not.
    """

    probability: bool = True
    broken_promise: str = ""


@dataclass
class Evidence:
    """The evidence lines of one installation, in which `max_dose` is the setting.

    A finished evaluation never changes, so a line is made once.
    """

    database: Database
    max_dose: float = field(default_factory=lambda: settings().max_dose)
    _made: dict[tuple[str, str], KnownEvidence] = field(default_factory=dict)
    _held: dict[tuple[str, str], Held] = field(default_factory=dict)

    @property
    def runs(self) -> RunStore:
        """The runs, evaluations and measurements of models among them."""
        return RunStore(self.database)

    def of(self, recipe_id: str | None, model_sha256: str) -> KnownEvidence:
        """Return what is known of a recipe of that model."""
        if recipe_id is None:
            return KnownEvidence()
        run = self.runs.latest_of_recipe(recipe_id, model_sha256)
        if run is None:
            return self._of_validation(recipe_id)
        key = (run.public_id, recipe_id)
        if key not in self._made:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            arm, refusals = run.summary.recipes[recipe_id], self.refusals_of(recipe_id)
            line, short = self._line(run, arm)
            whole, brief = (
                " ".join(filter(None, (part.strip() for part in (told, self._revoked(recipe_id), refusals))))
                for told in (line, short)
            )
            self._made[key] = KnownEvidence(whole, run.public_id, brief)
        made = self._made[key]
        return made if made.line != NOT_EVALUATED else self._of_validation(recipe_id)

    def held(self, recipe: Recipe) -> Held:
        """Return what is left of a recipe's probability and of its promise.

        The recipe says so of the statements that it was fitted on; the latest evaluation that measured that very recipe, and
        tested its map and its rule, may revoke each, or restore it.
        """
        if recipe.calibration is None:
            return Held()
        run = self.runs.latest_of_recipe(recipe.id, recipe.model_sha256)
        if run is None:
            return Held()
        key = (run.public_id, recipe.id)
        if key not in self._held:
            if len(self._held) >= REMEMBERED:
                self._held.clear()
            self._held[key] = self._held_in(run, recipe)
        return self._held[key]

    def refusals_of(self, recipe_id: str | None) -> str:
        """Say how many of the statements that a recipe was measured on would be refused here for their dose; empty for none."""
        measured = self._measured(recipe_id)
        if measured is None:
            return ""
        recipe, result, arm = measured
        limit, limited_by = dose_limit(recipe.max_dose, by_setting=self.max_dose)
        return refused_for_dose(result.doses.get(arm), result.n_test, limit=limit, limited_by=limited_by)

    def changes_of(self, recipe_id: str | None) -> MeasuredChanges | None:
        """Return what the latest evaluation of a recipe found that it mends and breaks; None where there is none."""
        measured = self._measured(recipe_id)
        return None if measured is None else measured_changes(*measured[1:])

    def _measured(self, recipe_id: str | None) -> tuple[Recipe, EvaluationResult, str] | None:
        """Return a recipe with the latest evaluation of it and the arm that it is there; None where there is none."""
        try:
            recipe = RecipeStore(self.database).get(recipe_id or "").recipe
            run = self.runs.latest_of_recipe(recipe.id, recipe.model_sha256)
            if run is None:
                return None
            result = read_result(self.runs.get(run.public_id).result)
        except (BadInput, NotFound, StorageFault):
            return None
        return recipe, result, run.summary.recipes[recipe.id]

    def of_answer(self, answer: Answer) -> KnownEvidence:
        """Return what is known of the recipe that an answer came from; without an evaluation, of the vector that steered it."""
        known = self.of(answer.recipe, answer.model_sha256)
        if answer.recipe is not None and not known.run:
            return self._of_validation(answer.recipe, answer.vector) if answer.vector else KnownEvidence()
        return (
            replace(known, line=f"{known.line} {OF_VERDICTS}")
            if known.run and answer.text is not None
            else known
        )

    def of_model(self, report: Mapping[str, Any]) -> str:
        """Return the line on a model by itself, from what its engine reports (`EngineDescription.report`)."""
        recipe, model = str(report.get("unsteered_recipe") or ""), str(report.get("weight_sha256") or "")
        accuracy = self._accuracy(recipe, model) if recipe else None
        return model_line(str(report.get("model_name") or ""), int(report.get("parameters") or 0), accuracy)

    def keep_accuracy(self, accuracy: ModelAccuracy, *, owner: str) -> None:
        """Store the measurement of a model by itself."""
        leased = self.runs.begin(MODEL_ACCURACY, {}, owner=owner, seconds=60.0)
        recipes = {accuracy.recipe: Arm.UNSTEERED.value}
        self.runs.finish(leased, {**accuracy.model_dump(mode="json"), "recipes": recipes})

    def _accuracy(self, recipe_id: str, model_sha256: str) -> ModelAccuracy | None:
        """Return what was measured of a recipe without steering on the statements bundled now: here, else before shipping."""
        run = self.runs.latest_of_recipe(recipe_id, model_sha256, kind=MODEL_ACCURACY)
        stored = {} if run is None else dict(self.runs.get(run.public_id).result or {})
        stored.pop("recipes", None)
        try:
            measured = [ModelAccuracy.model_validate(stored)] if stored else []
        except ValidationError as fault:
            log.warning("a stored measurement of the model counts as none: %s", fault)
            measured = []
        return next((each for each in (*measured, shipped_accuracy()) if each.is_of(recipe_id)), None)

    def _of_validation(self, recipe_id: str, vector: str = "") -> KnownEvidence:
        """Return what the vectors' own validation found, where no evaluation says how well a recipe answers.

        With the name of a vector, what was found of that one alone.
        """
        return KnownEvidence(" ".join((NOT_EVALUATED, *self._validated(recipe_id, vector))))

    def _validated(self, recipe_id: str, named: str) -> Iterator[str]:
        try:
            recipe = RecipeStore(self.database).get(recipe_id).recipe
        except (NotFound, StorageFault):  # a built-in one is stored once it answers
            return
        vectors = {each.file_sha256: each for each in VectorStore(self.database).list(recipe.model_sha256)}
        of_sentence: dict[str, list[str]] = {}  # the same finding is told once
        for key, entry in recipe.steering.items():
            if (vector := vectors.get(entry.file_sha256)) is not None and named in ("", vector.name):
                of_sentence.setdefault(gain_sentence(vector.diagnostics), []).append(key)
        for sentence, keys in of_sentence.items():
            yield f"Its {'vector' if len(keys) == 1 else 'vectors'} for {', '.join(keys)}: {sentence}"

    def _revoked(self, recipe_id: str) -> str:
        try:
            recipe = RecipeStore(self.database).get(recipe_id).recipe
        except (NotFound, StorageFault):
            return ""
        held, was = self.held(recipe), recipe.calibration is not None and recipe.calibration.is_probability
        lost = f" {NO_PROBABILITY}" if was and not held.probability else ""
        return f"{lost} {NO_PROMISE.format(broken=held.broken_promise)}" if held.broken_promise else lost

    def _held_in(self, run: Run, recipe: Recipe) -> Held:
        """Return what a run left of a recipe's probability and promise; one without such a test revokes neither.

        A promise is revoked where more of the trusted answers were wrong than it allows: not only where so many cannot be
        chance, since nobody should go by a promise that the newest answers do not keep.
        """
        try:
            figures = read_result(self.runs.get(run.public_id).result).arm(run.summary.recipes[recipe.id])
        except BadInput:
            return Held()
        if figures is None:
            return Held()
        error = None if figures.calibrated is None else figures.calibrated.ece
        wrong = None if figures.abstention is None else figures.abstention.error
        rule, broken = recipe.abstention, ""
        if rule is not None and rule.promised and wrong is not None and wrong.value > rule.max_error:
            broken = (
                f"{100 * wrong.value:.3g} % of the {wrong.n} answers that it stood by were wrong, where it promises at most "
                f"{100 * rule.max_error:g} %"
            )
        return Held(error is None or shows_probability(error), broken)

    def _line(self, run: Run, arm: str) -> tuple[str, str]:
        """Return the line on an arm of a run, whole and short; a result that this version cannot read counts as none."""
        try:
            result = read_result(self.runs.get(run.public_id).result)
            return evidence_line(result, arm), evidence_in_short(result, arm)
        except BadInput as fault:
            log.warning("the evaluation %s counts as none: %s", run.public_id, fault)
            return NOT_EVALUATED, NOT_EVALUATED
