"""Choosing the prompts on the training part: one for every steered arm, one for `prompt_only`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, ModelUnavailable
from medx_core.evaluation.arms import Flags
from medx_core.evaluation.prompt_candidates import instructed_candidates, plain_candidates
from medx_core.models.prompting import VerdictPrompt
from medx_core.traces.statement_runner import RunScores, StatementRunner

RunnerFor = Callable[[VerdictPrompt], StatementRunner]
OnStage = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class TriedPrompt:
    """One candidate as it did on the training part, unsteered."""

    prompt: VerdictPrompt
    run: RunScores
    auroc: float
    accuracy: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures of this candidate."""
        words = self.run.answer_words
        return {
            "prompt": self.prompt.version,
            "auroc": self.auroc,
            "accuracy": self.accuracy,
            "predicted_true_rate": float((self.run.scores >= 0).mean()),
            "answer_word_rate": None if words is None else float(words.mean()),
            "n": len(self.run.scores),
        }


@dataclass(frozen=True)
class PromptChoice:
    """`unsteered` has the best AUROC of the plain candidates, `prompt_only` the best accuracy of all."""

    unsteered: TriedPrompt
    prompt_only: TriedPrompt
    tried: tuple[TriedPrompt, ...]
    refused: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return what was chosen and from what."""
        return {
            "prompt": self.unsteered.prompt.version,
            "prompt_only": self.prompt_only.prompt.version,
            "prompts_tried": [one.as_json() for one in self.tried],
            "prompts_refused": dict(self.refused),
        }


def choose_prompts(
    runner_for: RunnerFor, train: Sequence[LabelledStatement], on_stage: OnStage
) -> PromptChoice:
    """Run every candidate on the whole training part and choose.

    Raises:
        BadInput: the training part holds one kind of answer only, or no prompt works with this model.
    """
    gold = np.array([one.answer for one in train], dtype=bool)
    if len(np.unique(gold)) < 2:
        raise BadInput("The training part holds TRUE or FALSE statements only; an evaluation needs both.")
    questions = sum(one.text.rstrip().endswith("?") for one in train) * 2 > len(train)
    plain = plain_candidates(questions=questions)
    candidates = plain + instructed_candidates({one.category for one in train}, questions=questions)
    tried, refused = [], {}
    for number, prompt in enumerate(candidates, start=1):
        on_stage("trying prompts", number, len(candidates))
        try:
            tried.append(_tried(runner_for(prompt), prompt, train, gold))
        except ModelUnavailable as error:
            refused[prompt.version] = str(error)
    usable = [one for one in tried if one.prompt in plain]
    if not usable:
        raise BadInput("No prompt works with this model: its tokenizer tells none of the answer words apart.")
    return PromptChoice(
        unsteered=max(usable, key=lambda one: one.auroc),
        prompt_only=max(tried, key=lambda one: one.accuracy),
        tried=tuple(tried),
        refused=refused,
    )


def _tried(
    runner: StatementRunner, prompt: VerdictPrompt, train: Sequence[LabelledStatement], gold: Flags
) -> TriedPrompt:
    run = runner.scores([one.text for one in train])
    return TriedPrompt(
        prompt=prompt,
        run=run,
        auroc=float(roc_auc_score(gold, run.scores)),
        accuracy=float(((run.scores >= 0) == gold).mean()),
    )
