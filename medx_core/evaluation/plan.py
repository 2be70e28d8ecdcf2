"""What one evaluation does, stated before it begins."""

from dataclasses import dataclass, field

from medx_core.evaluation.paper_arm import PaperRecipe
from medx_core.evaluation.parts import PartSizes

DRAWS = 20
DECLARED = "gated"
LIKELIHOOD_GATED, FINE_TUNED = "likelihood_gated", "fine_tuned"
ARMS = (
    "unsteered",
    "prompt_only",
    "prior",
    "paper",
    "gated",
    "random",
    "shuffled",
    "gated_random",
    "gated_shuffled",
    "probe",
    "lexical",
)
EXTRA_ARMS = (LIKELIHOOD_GATED, FINE_TUNED)
"""Arms that are off unless asked for: one is experimental, the other slow."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What is run. `declared` is the arm that is judged; the others are exploratory."""

    declared: str = DECLARED
    extra: tuple[str, ...] = ()
    fit_on: str = "auto"
    seed: int = 1
    draws: int = DRAWS
    batch_rows: int = 32
    paper: PaperRecipe = field(default_factory=PaperRecipe)


PRESETS: dict[str, PartSizes] = {"paper": PartSizes(sample=1_077, split=(861, 216))}
"""The paper's protocol (MEDASSESS-X, arXiv 2601.12812): 1,077 statements, 861 to train and 216 to test."""
