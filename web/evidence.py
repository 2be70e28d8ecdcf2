"""The evidence for the vector that steered an answer: the latest evaluation of vectors built with the same recipe.

The same recipe means: on its model, by its strategy, and by the paper's recipe where it is the paper's arm, at the layer
and strength that the evaluation chose where it is the gated one. Anything else was not evaluated. An evaluation reads
verdicts, by a prompt that it chose for itself unless one was given; where the answer is a written one, or came from
another prompt, the line says so.
"""

import logging
from dataclasses import dataclass, field

from medx_core.errors import BadInput
from medx_core.evaluation.result import Choices, EvaluationResult, read_result
from medx_core.evaluation.sentences import NOT_EVALUATED, evidence_line
from medx_core.questions import Answer
from medx_core.storage.runs import RunStore
from medx_core.storage.vectors import PAPER_PRESET, VectorRecord, VectorStore

log = logging.getLogger(__name__)

PAPER, GATED = "paper", "gated"
ARM_OF = {"mean_difference": PAPER, "gated": GATED}
"""The arm of an evaluation that stands for a strategy; the others are not evaluated."""
REMEMBERED = 256
OF_VERDICTS = "It was measured on TRUE/FALSE verdicts, not on written answers."
OTHER_PROMPT = "It was measured with another prompt than the one that answered here."


@dataclass
class Evidence:
    """The evidence lines of one installation. A finished evaluation never changes, so a line is made once."""

    runs: RunStore
    vectors: VectorStore
    _made: dict[tuple[str, str, int, float], tuple[str, str]] = field(default_factory=dict)

    def of(self, vector: VectorRecord) -> tuple[str, str]:
        """Return one or two sentences, and the id of the evaluation behind them, empty where there is none."""
        line, run, _prompt = self._known(vector)
        return line, run

    def of_answer(self, answer: Answer) -> tuple[str, str]:
        """Return the same for the vector that steered an answer; without one nothing was evaluated."""
        versions = self.vectors.list(answer.model_sha256) if answer.vector else ()
        used = next((vector for vector in versions if vector.name == answer.vector), None)
        if used is None:
            return NOT_EVALUATED, ""
        line, run, prompt = self._known(used)
        if not run:
            return line, run
        other = "" if answer.prompt_version == prompt else OTHER_PROMPT
        return " ".join(part for part in (line, other if answer.text is None else OF_VERDICTS) if part), run

    def _known(self, vector: VectorRecord) -> tuple[str, str, str]:
        """Return the line, the evaluation behind it, and the prompt it was measured with."""
        arm, run = ARM_OF.get(vector.strategy), self.runs.latest_for_model(vector.model_sha256)
        if arm is None or run is None or (arm == PAPER and vector.preset != PAPER_PRESET):
            return NOT_EVALUATED, "", ""
        key = (run.public_id, arm, vector.layer, vector.alpha)
        if key not in self._made:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            result = self._result(run.public_id)
            same = result is not None and _made_so(vector, arm, result.choices)
            self._made[key] = (
                evidence_line(result if same else None, arm),
                result.choices.prompt if result else "",
            )
        line, prompt = self._made[key]
        return line, "" if line == NOT_EVALUATED else run.public_id, prompt

    def _result(self, public_id: str) -> EvaluationResult | None:
        """Return the result of a run; None where this version of MedX cannot read it."""
        try:
            return read_result(self.runs.get(public_id).result)
        except BadInput as fault:
            log.warning("the evaluation %s counts as none: %s", public_id, fault)
            return None


def _made_so(vector: VectorRecord, arm: str, choices: Choices) -> bool:
    """Tell whether the evaluation's arm steered where and as strongly as the vector does."""
    return arm == PAPER or (choices.layer, choices.strength) == (vector.layer, vector.alpha)
