"""Arms of an evaluation that are off unless asked for: `likelihood_gated` is experimental, `fine_tuned` is slow.

`likelihood_gated` is pushed by how plausible a statement is compared with alternatives made from it. One word of a known
kind is exchanged for others of its kind; the gate is the statement's log-likelihood minus the mean of its alternatives'.
Each word's mean effect over unlabelled statements is taken off first, or the gate would prefer some words wherever they
appear. No label is used, except that strength and offset come from the gated arm.

It measures plausibility (does this word go with this context), not truth: it prefers the original word of a FALSE
statement too, which the association control shows.

`fine_tuned` is what steering claims to replace: low-rank adapters trained on the same statements.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from medx_core.accuracy import Values
from medx_core.data.entities import Alternatives, EntityKinds
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.arms import ArmScores
from medx_core.evaluation.fit import FittedArms
from medx_core.evaluation.prompt_selection import OnStage
from medx_core.evaluation.request import EvaluationRequest
from medx_core.evaluation.runner import ExtraArm
from medx_core.fitting.fitted import FittedLayer
from medx_core.lab.fine_tuning import FineTuningSpec, fine_tuned_scores
from medx_core.models.loading import LoadedModel
from medx_core.steering.hooks import ShiftsByText, SteeringPlan, SteeringStep
from medx_core.traces.likelihoods import TextLikelihoods
from medx_core.traces.running import OnProgress, silent

ALTERNATIVES = 4
PSEUDO_COUNTS = 3.0
FIELD = (
    "The heart pumps blood through the body. The kidneys make urine. The lungs take up oxygen from the air. "
    "The skin helps to regulate body temperature."
)
"""Plain sentences of the field in front make a small model read what follows as such; their truth does not matter."""


@dataclass(frozen=True)
class LikelihoodGate:
    """The gate's values (statements,), standardised; 0 where a statement has no word of a known kind."""

    values: Tensor

    def condition(self, gated: FittedLayer) -> SteeringPlan:
        """Return what steers: layer, strength and push of the gated arm, gated by likelihood."""
        push = gated.direction / gated.direction.double().square().sum().float()
        amounts = gated.alpha * torch.tanh(self.values) - gated.b0
        rows = amounts.float()[:, None] * push.float()[None, :]
        return SteeringPlan((SteeringStep(gated.layer, ShiftsByText(rows)),))


def likelihood_gate(
    model: LoadedModel,
    fitted: Sequence[LabelledStatement],
    asked: Sequence[LabelledStatement],
    on_progress: OnProgress = silent,
) -> LikelihoodGate:
    """Compute the gate for `asked`; kinds, words' effects, centre and scale come from `fitted` alone, without labels."""
    statements = [*fitted, *asked]
    kinds = EntityKinds.from_texts([statement.text for statement in fitted])
    alternatives = [kinds.alternatives(statement.text, k=ALTERNATIVES, seed=0) for statement in statements]
    likelihoods = _likelihoods(model, statements, alternatives, on_progress)
    effects = _word_effects(alternatives[: len(fitted)], likelihoods)
    values = np.full(len(statements), np.nan)
    for place, made in enumerate(alternatives):
        if made is not None:
            own, *others = (
                value - effects.get(word, 0.0)
                for word, value in zip(made.words, likelihoods[place], strict=True)
            )
            values[place] = own - float(np.mean(others))
    known = values[: len(fitted)][~np.isnan(values[: len(fitted)])]
    centre = float(np.median(known)) if len(known) else 0.0
    spread = float(known.std()) if len(known) > 1 else 1.0
    scaled = np.nan_to_num((values - centre) / (spread or 1.0), nan=0.0)[len(fitted) :]
    return LikelihoodGate(torch.tensor(scaled, dtype=torch.float32))


def _likelihoods(
    model: LoadedModel,
    statements: Sequence[LabelledStatement],
    alternatives: Sequence[Alternatives | None],
    on_progress: OnProgress,
) -> list[Values]:
    """Return, for each statement that has alternatives, its own log-likelihood and then theirs."""
    texts, owners = [], []
    for place, made in enumerate(alternatives):
        if made is not None:
            texts += [statements[place].text, *made.texts]
            owners += [place] * (1 + len(made.texts))
    totals = TextLikelihoods(model, FIELD).totals(texts, on_progress) if texts else np.zeros(0)
    owner = np.array(owners, dtype=np.intp)
    return [totals[owner == place] for place in range(len(statements))]


def _word_effects(
    alternatives: Sequence[Alternatives | None], likelihoods: Sequence[Values]
) -> Mapping[str, float]:
    """Return each word's mean likelihood above its rivals' in the same statements, shrunk where it appears seldom."""
    effects: dict[str, list[float]] = defaultdict(list)
    # The likelihoods of the test statements follow those of the training statements and are left out.
    for made, totals in zip(alternatives, likelihoods, strict=False):
        if made is not None:
            for word, value in zip(made.words, totals, strict=True):
                effects[word].append(float(value - totals.mean()))
    return {word: sum(values) / (len(values) + PSEUDO_COUNTS) for word, values in effects.items()}


def likelihood_gated(
    fitted: FittedArms,
    statements: Sequence[LabelledStatement],
    _request: EvaluationRequest,
    on_stage: OnStage,
) -> ArmScores:
    """Run the arm `likelihood_gated` on `statements`."""
    gate = likelihood_gate(
        fitted.runner.model,
        fitted.train,
        statements,
        partial(on_stage, "likelihoods of alternatives"),
    )
    condition = gate.condition(fitted.gated.chosen)
    [run] = fitted.runner.steered([statement.text for statement in statements], [condition])
    return ArmScores("likelihood_gated", run.scores, run.answer_words)


def fine_tuned(
    fitted: FittedArms,
    statements: Sequence[LabelledStatement],
    request: EvaluationRequest,
    on_stage: OnStage,
) -> ArmScores:
    """Run the arm `fine_tuned` on `statements`."""
    on_stage("fine-tuning", 0, 1)
    runner, texts = fitted.runner, [statement.text for statement in statements]
    tuned = fine_tuned_scores(
        runner.model, runner.prompt, fitted.train, texts, FineTuningSpec(seed=request.seed)
    )
    return ArmScores("fine_tuned", tuned.scores.double().numpy(), fine_tuning=tuned.training)


ARMS: dict[str, ExtraArm] = {"likelihood_gated": likelihood_gated, "fine_tuned": fine_tuned}
