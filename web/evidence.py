"""What is known of the vector that steered an answer: the latest evaluation of its strategy on its model, in words."""

from dataclasses import dataclass, field

from medx_core.evaluation.evidence_line import NOT_EVALUATED, evidence_line
from medx_core.questions import Answer
from medx_core.storage.run_store import RunStore
from medx_core.storage.vector_store import VectorRecord, VectorStore

ARM_OF = {"mean_difference": "paper", "gated": "gated"}
"""The arm of an evaluation that stands for a strategy; the others are not evaluated."""
REMEMBERED = 256


@dataclass
class Evidence:
    """The evidence lines of one installation. A finished evaluation never changes, so a line is made once."""

    runs: RunStore
    vectors: VectorStore
    _made: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, vector: VectorRecord) -> tuple[str, str]:
        """Return one or two sentences, and the id of the evaluation behind them, empty where there is none."""
        arm, run = ARM_OF.get(vector.strategy), self.runs.latest_for_model(vector.model_sha256)
        if arm is None or run is None:
            return NOT_EVALUATED, ""
        key = (run.public_id, arm)
        if key not in self._made:
            if len(self._made) >= REMEMBERED:
                self._made.clear()
            self._made[key] = evidence_line(self.runs.get(run.public_id).result, arm=arm)
        line = self._made[key]
        return line, "" if line == NOT_EVALUATED else run.public_id

    def of_answer(self, answer: Answer) -> tuple[str, str]:
        """Return the same for the vector that steered an answer; without one nothing was evaluated."""
        versions = self.vectors.list(answer.model_sha256) if answer.vector else ()
        used = next((one for one in versions if one.name == answer.vector), None)
        return (NOT_EVALUATED, "") if used is None else self.of(used)
