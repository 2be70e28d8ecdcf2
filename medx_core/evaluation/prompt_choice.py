"""Choosing the prompts on the training part: one for every steered arm, one for `prompt_only`.

A prompt may also be given, for example the one that answers in use. Then no other is tried: there is no `prompt_only`,
so that nothing can be said to help, and an evaluation costs about half.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, ModelUnavailable
from medx_core.evaluation.arms import Flags
from medx_core.evaluation.prompt_candidates import PromptCandidate, instructed_candidates, plain_candidates
from medx_core.models.prompting import VerdictPrompt
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import RunScores, StatementRunner

RunnerFor = Callable[[VerdictPrompt], StatementRunner]
OnStage = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class TriedPrompt:
    """One candidate as it did on the training part, unsteered."""

    candidate: PromptCandidate
    run: RunScores
    auroc: float
    accuracy: float

    def as_json(self) -> dict[str, Any]:
        """Return the figures of this candidate."""
        words = self.run.answer_words
        return {
            "prompt": self.candidate.version,
            "auroc": self.auroc,
            "accuracy": self.accuracy,
            "predicted_true_rate": float((self.run.scores >= 0).mean()),
            "answer_word_rate": None if words is None else float(words.mean()),
            "n": len(self.run.scores),
        }


@dataclass(frozen=True)
class PromptChoice:
    """`unsteered` has the best AUROC of the plain candidates, `prompt_only` the best accuracy of all.

    `prompt_only` is None where the prompt was given.
    """

    unsteered: TriedPrompt
    prompt_only: TriedPrompt | None
    tried: tuple[TriedPrompt, ...]
    refused: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return what was chosen and from what."""
        return {
            "prompt": self.unsteered.candidate.version,
            "prompt_given": self.prompt_only is None,
            "prompt_only": self.prompt_only and self.prompt_only.candidate.version,
            "prompts_tried": [one.as_json() for one in self.tried],
            "prompts_refused": dict(self.refused),
        }


def choose_prompts(
    runner_for: RunnerFor, train: Sequence[LabelledStatement], on_stage: OnStage, given: str = ""
) -> PromptChoice:
    """Run every candidate, or the one that is given, on the whole training part and choose.

    Raises:
        BadInput: the training part holds one kind of answer only, no prompt works with this model, or there is none
            of the given name.
    """
    gold = np.array([one.answer for one in train], dtype=bool)
    if len(np.unique(gold)) < 2:
        raise BadInput("The training part holds TRUE or FALSE statements only; an evaluation needs both.")
    questions = sum(one.text.rstrip().endswith("?") for one in train) * 2 > len(train)
    plain = plain_candidates(questions=questions)
    more = instructed_candidates({one.category for one in train}, questions=questions)
    candidates = (_named(given, plain),) if given else plain + more
    tried, refused = [], {}
    for number, candidate in enumerate(candidates):
        told = partial(_told, on_stage, number * len(train), len(candidates) * len(train))
        try:
            tried.append(_tried(candidate_scores(runner_for, candidate, train, told), candidate, gold))
        except ModelUnavailable as error:
            if given:
                raise BadInput(f"The prompt {given!r} does not work with this model: {error}") from error
            refused[candidate.version] = str(error)
    usable = [one for one in tried if one.candidate in plain]
    if not usable:
        raise BadInput("No prompt works with this model: its tokenizer tells none of the answer words apart.")
    return PromptChoice(
        unsteered=max(usable, key=lambda one: one.auroc),
        prompt_only=None if given else max(tried, key=lambda one: one.accuracy),
        tried=tuple(tried),
        refused=refused,
    )


def candidate_scores(
    runner_for: RunnerFor,
    candidate: PromptCandidate,
    statements: Sequence[LabelledStatement],
    on_progress: OnProgress = silent,
) -> RunScores:
    """Score the statements, unsteered, each with the prompt that the candidate has for its category.

    Raises:
        ModelUnavailable: the tokenizer cannot tell a prompt's answer words apart, or a batch does not fit.
    """
    scores, words = np.zeros(len(statements)), np.zeros(len(statements), dtype=bool)
    asked_with = [candidate.prompt_for(one.category) for one in statements]
    done = 0
    for prompt in dict.fromkeys(asked_with):
        rows = [row for row, one in enumerate(asked_with) if one == prompt]
        told = partial(_added, on_progress, done, len(statements))
        run = runner_for(prompt).scores([statements[row].text for row in rows], told)
        done += len(rows)
        scores[rows] = run.scores
        words[rows] = False if run.answer_words is None else run.answer_words
    return RunScores(scores, words)


def _named(name: str, candidates: Sequence[PromptCandidate]) -> PromptCandidate:
    found = [one for one in candidates if one.version == name]
    if not found:
        known = ", ".join(one.version for one in candidates)
        raise BadInput(f"There is no prompt {name!r} for these statements; there is: {known}.")
    return found[0]


def _told(on_stage: OnStage, before: int, total: int, done: int, _of_these: int) -> None:
    on_stage("trying prompts", before + done, total)


def _added(on_progress: OnProgress, before: int, total: int, done: int, _of_these: int) -> None:
    on_progress(before + done, total)


def _tried(run: RunScores, candidate: PromptCandidate, gold: Flags) -> TriedPrompt:
    return TriedPrompt(
        candidate=candidate,
        run=run,
        auroc=float(roc_auc_score(gold, run.scores)),
        accuracy=float(((run.scores >= 0) == gold).mean()),
    )
