"""What one evaluation does, stated before it begins."""

from dataclasses import dataclass, field

from medx_core.evaluation.paper_arm import PaperRecipe
from medx_core.evaluation.request import DECLARED, DRAWS


@dataclass(frozen=True)
class EvaluationPlan:
    """What is run. `declared` is the arm that is judged; the others are exploratory.

    `prompt` names the prompt of every arm; empty: the best ones are chosen on the training part.
    """

    declared: str = DECLARED
    extra: tuple[str, ...] = ()
    fit_on: str = "auto"
    prompt: str = ""
    seed: int = 1
    draws: int = DRAWS
    batch_rows: int = 32
    paper: PaperRecipe = field(default_factory=PaperRecipe)
