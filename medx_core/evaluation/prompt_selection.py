"""Choosing the prompts on the training part: one for every steered arm, one for `prompt_only`.

A prompt may also be given, for example the one that answers in use. Then no other is tried: there is no `prompt_only`,
so that nothing can be said to help, and an evaluation costs about half.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, ModelUnavailable
from medx_core.evaluation.arms import Flags
from medx_core.models.prompting import QUESTION_SHOTS, STATEMENT_SHOTS, VerdictPrompt
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import RunScores, StatementRunner

MORE_STATEMENTS = (
    ("The lungs take up oxygen from the air.", True),
    ("The liver lies in the chest, above the diaphragm.", False),
    ("The skin helps to regulate body temperature.", True),
    ("Red blood cells are the body's main defence against infection.", False),
)
MORE_QUESTIONS = (
    ("Do the lungs take up oxygen from the air?", True),
    ("Does the liver lie in the chest, above the diaphragm?", False),
    ("Does the skin help to regulate body temperature?", True),
    ("Are red blood cells the body's main defence against infection?", False),
)
INSTRUCTIONS: dict[Category | None, str] = {
    None: "You are a careful clinician. Judge each of the following by established medical knowledge.",
    Category.TRIAGE: "You are an experienced triage nurse. Judge each of the following by how urgently care is needed and by what is safe.",
    Category.LITERATURE: "You are an expert in reading medical research. Judge each of the following by the published evidence.",
    Category.PATIENT_FACING: "You are a clinician who advises patients. Judge each of the following by whether a patient may rely on it.",
}
_WORDS = {
    "yes-no": (" Yes", " No", "Is the statement correct? Answer:"),
    "true-false": (" True", " False", "True or False? Answer:"),
    "correct-incorrect": (" Correct", " Incorrect", "Is this correct or incorrect? Answer:"),
}
_SHOTS = {"yes-no": (0, 2, 4, 8), "true-false": (0, 2, 4, 8), "correct-incorrect": (4,)}
_INSTRUCTED = (("yes-no", 4), ("true-false", 4))


@dataclass(frozen=True)
class PromptCandidate:
    """What is tried as one: one prompt for all statements, or one for each category.

    The prompt under None serves every category that has none of its own.
    """

    version: str
    prompts: Mapping[Category | None, VerdictPrompt]

    @classmethod
    def of(cls, prompt: VerdictPrompt) -> "PromptCandidate":
        """Make a candidate that asks every statement with the same prompt."""
        return cls(prompt.version, {None: prompt})

    @property
    def prompt(self) -> VerdictPrompt:
        """The prompt of statements without a category; of most candidates the only one."""
        return self.prompts[None]

    def prompt_for(self, category: Category | None) -> VerdictPrompt:
        """Return the prompt that statements of `category` are asked with."""
        return self.prompts.get(category, self.prompt)


def plain_candidates(*, questions: bool) -> tuple[PromptCandidate, ...]:
    """Return answer words x shots, for statements or for yes/no questions."""
    return tuple(
        PromptCandidate.of(_prompt(words, shots, questions=questions))
        for words, counts in _SHOTS.items()
        for shots in counts
    )


def instructed_candidates(
    categories: Iterable[Category | None], *, questions: bool
) -> tuple[PromptCandidate, ...]:
    """Return the candidates that begin with an instruction.

    With categories, each statement gets its own category's instruction; where several categories are mixed, a general
    instruction for all of them is tried too.
    """
    found = set(categories)
    named = sorted(category for category in found if category is not None)
    kinds: list[tuple[str, list[Category | None]]] = []
    if named:
        kinds.append((named[0].value if len(found) == 1 else "by-category", [None, *named]))
    if len(found) != 1 or not named:
        kinds.append(("clinician", [None]))
    return tuple(
        _instructed(words, shots, name, chosen, questions=questions)
        for name, chosen in kinds
        for words, shots in _INSTRUCTED
    )


def _instructed(
    words: str, shots: int, name: str, categories: Iterable[Category | None], *, questions: bool
) -> PromptCandidate:
    version = f"{_version(words, shots, questions=questions)}-{name}"
    plain = _prompt(words, shots, questions=questions)
    return PromptCandidate(
        version,
        {
            category: replace(plain, version=version, instruction=INSTRUCTIONS[category])
            for category in categories
        },
    )


def _prompt(words: str, shots: int, *, questions: bool) -> VerdictPrompt:
    true_word, false_word, ask = _WORDS[words]
    known = QUESTION_SHOTS + MORE_QUESTIONS if questions else STATEMENT_SHOTS + MORE_STATEMENTS
    return VerdictPrompt(
        version=_version(words, shots, questions=questions),
        frame="Question: {}\nAnswer:" if questions else f"Statement: {{}}\n{ask}",
        true_word=true_word,
        false_word=false_word,
        shots=known[:shots],
    )


def _version(words: str, shots: int, *, questions: bool) -> str:
    return f"verdict-{'question' if questions else 'statement'}-{words}-{shots}shot-v1"


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
