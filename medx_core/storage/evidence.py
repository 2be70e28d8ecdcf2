"""The evidence for a recipe: the latest evaluation that measured that very recipe, in a sentence or two.

An evaluation names the recipes it measured, by id: the one in use, and the one it saved. Any other recipe was not evaluated,
however alike it is.
"""

import logging
from dataclasses import dataclass, field

from medx_core.errors import BadInput
from medx_core.evaluation.result import read_result
from medx_core.evaluation.sentences import NOT_EVALUATED, evidence_line
from medx_core.questions import Answer
from medx_core.storage.runs import Run, RunStore

log = logging.getLogger(__name__)

REMEMBERED = 256
OF_VERDICTS = "It was measured on TRUE/FALSE verdicts, not on written answers."


@dataclass(frozen=True)
class KnownEvidence:
    """What is known of a recipe, and the id of the evaluation behind it; empty where there is none."""

    line: str = NOT_EVALUATED
    run: str = ""


@dataclass
class Evidence:
    """The evidence lines of one installation. A finished evaluation never changes, so a line is made once."""

    runs: RunStore
    _made: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, recipe_id: str | None, model_sha256: str) -> KnownEvidence:
        """Return what is known of a recipe of that model."""
        run = self.runs.latest_of_recipe(recipe_id, model_sha256) if recipe_id else None
        if run is None or recipe_id is None:
            return KnownEvidence()
        key = (run.public_id, run.summary.recipes[recipe_id])
        if key not in self._made:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            self._made[key] = self._line(run, key[1])
        return (
            KnownEvidence(self._made[key], run.public_id)
            if self._made[key] != NOT_EVALUATED
            else KnownEvidence()
        )

    def of_answer(self, answer: Answer) -> KnownEvidence:
        """Return what is known of the recipe that an answer came from."""
        known = self.of(answer.recipe, answer.model_sha256)
        return (
            KnownEvidence(f"{known.line} {OF_VERDICTS}", known.run)
            if known.run and answer.text is not None
            else known
        )

    def _line(self, run: Run, arm: str) -> str:
        """Return the line on an arm of a run; a result that this version of MedX cannot read counts as none."""
        try:
            return evidence_line(read_result(self.runs.get(run.public_id).result), arm)
        except BadInput as fault:
            log.warning("the evaluation %s counts as none: %s", run.public_id, fault)
            return NOT_EVALUATED
