"""Choosing the prompts on the training part: one for every steered arm, one for `prompt_only`.

A prompt may also be given, for example the one that answers in use. Then no other is tried: there is no `prompt_only`,
so that nothing can be said to help, and an evaluation costs about half.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score

from medx_core.categories import Category
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput, ModelUnavailable
from medx_core.evaluation.result import TriedPrompt
from medx_core.prompts import ANSWER_WORDS, QUESTION_SHOTS, STATEMENT_SHOTS, VerdictPrompt
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
_SHOTS = {"yes-no": (0, 2, 4, 8), "true-false": (0, 2, 4, 8), "correct-incorrect": (4,)}
_INSTRUCTED = (("yes-no", 4), ("true-false", 4))
_IN_CHAT = (("yes-no", 0), ("yes-no", 4), ("true-false", 0), ("true-false", 4))


RunnerFor = Callable[[VerdictPrompt], StatementRunner]
OnStage = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class PromptCandidate:
    """One prompt for all statements, or one per category; that under None serves categories without one."""

    prompts: Mapping[Category | None, VerdictPrompt]

    @property
    def prompt(self) -> VerdictPrompt:
        """The prompt of statements without a category; of most candidates the only one."""
        return self.prompts[None]

    def prompt_for(self, category: Category | None) -> VerdictPrompt:
        """Return the prompt that statements of `category` are asked with."""
        return self.prompts.get(category, self.prompt)


@dataclass(frozen=True)
class PromptTrial:
    """One candidate on the training part, unsteered."""

    candidate: PromptCandidate
    run: RunScores
    figures: TriedPrompt


@dataclass(frozen=True)
class PromptChoice:
    """`unsteered` has the best AUROC of the candidates without a category's instruction, `prompt_only` the best accuracy.

    `prompt_only` is None where the prompt was given.
    """

    unsteered: PromptTrial
    prompt_only: PromptTrial | None
    tried: tuple[PromptTrial, ...]
    refused: Mapping[str, str]


def plain_candidates(*, questions: bool) -> tuple[PromptCandidate, ...]:
    """Return answer words x shots, for statements or for yes/no questions."""
    return tuple(
        PromptCandidate({None: _prompt(words, shots, questions=questions)})
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
    present = set(categories)
    named = sorted(category for category in present if category is not None)
    kinds: dict[str, list[Category | None]] = {}
    if named:
        kinds[named[0].value if len(present) == 1 else "by-category"] = [None, *named]
    if len(present) != 1 or not named:
        kinds["clinician"] = [None]
    return tuple(
        PromptCandidate(
            {
                category: _prompt(words, shots, questions=questions, kind=kind, category=category)
                for category in instructed
            }
        )
        for kind, instructed in kinds.items()
        for words, shots in _INSTRUCTED
    )


def chat_candidates(*, questions: bool) -> tuple[PromptCandidate, ...]:
    """Return the candidates in the model's own chat template; a model without one cannot use them."""
    prompts = (_prompt(words, shots, questions=questions) for words, shots in _IN_CHAT)
    return tuple(PromptCandidate({None: prompt.in_chat()}) for prompt in prompts)


def _prompt(
    words: str, shots: int, *, questions: bool, kind: str = "", category: Category | None = None
) -> VerdictPrompt:
    """Return a prompt; with a `kind` of instruction, it begins with that of `category`."""
    true_word, false_word, ask = ANSWER_WORDS[words]
    known = QUESTION_SHOTS + MORE_QUESTIONS if questions else STATEMENT_SHOTS + MORE_STATEMENTS
    version = f"verdict-{'question' if questions else 'statement'}-{words}-{shots}shot-v1"
    return VerdictPrompt(
        version=f"{version}-{kind}" if kind else version,
        frame="Question: {}\nAnswer:" if questions else f"Statement: {{}}\n{ask}",
        true_word=true_word,
        false_word=false_word,
        shots=known[:shots],
        instruction=INSTRUCTIONS[category] if kind else "",
    )


def choose_prompts(
    runner_for: RunnerFor, train: Sequence[LabelledStatement], on_stage: OnStage, given: str = ""
) -> PromptChoice:
    """Run every candidate, or the one that is given, on the whole training part and choose.

    Raises:
        BadInput: the training part holds one kind of answer only, no prompt works with this model, or there is none
            of the given name.
    """
    if len({statement.answer for statement in train}) < 2:
        raise BadInput("The training part holds TRUE or FALSE statements only; an evaluation needs both.")
    plain, more = _candidates(train)
    candidates = (_named(given, plain),) if given else plain + more
    tried, refused = [], {}
    for number, candidate in enumerate(candidates):
        told = _part_of(
            partial(on_stage, "trying prompts"), number * len(train), len(candidates) * len(train)
        )
        try:
            tried.append(_tried(candidate, candidate_scores(runner_for, candidate, train, told), train))
        except ModelUnavailable as error:
            if given:
                raise BadInput(f"The prompt {given!r} does not work with this model: {error}") from error
            refused[candidate.prompt.version] = str(error)
    usable = [trial for trial in tried if trial.candidate in plain]
    if not usable:
        raise BadInput("No prompt works with this model: its tokenizer tells none of the answer words apart.")
    return PromptChoice(
        unsteered=max(usable, key=lambda trial: trial.figures.auroc),
        prompt_only=None if given else max(tried, key=lambda trial: trial.figures.accuracy),
        tried=tuple(tried),
        refused=refused,
    )


def prompts_to_try(train: Sequence[LabelledStatement], given: str = "") -> tuple[VerdictPrompt, ...]:
    """Return every prompt that `choose_prompts` would ask with."""
    plain, more = _candidates(train)
    candidates = (_named(given, plain),) if given else plain + more
    prompts = (prompt for candidate in candidates for prompt in candidate.prompts.values())
    return tuple(dict.fromkeys(prompts))


def _candidates(
    train: Sequence[LabelledStatement],
) -> tuple[tuple[PromptCandidate, ...], tuple[PromptCandidate, ...]]:
    """Return the candidates for all statements, and those with instructions."""
    questions = sum(statement.text.rstrip().endswith("?") for statement in train) * 2 > len(train)
    plain = plain_candidates(questions=questions) + chat_candidates(questions=questions)
    return plain, instructed_candidates({statement.category for statement in train}, questions=questions)


def _named(name: str, candidates: Sequence[PromptCandidate]) -> PromptCandidate:
    by_name = {candidate.prompt.version: candidate for candidate in candidates}
    if name not in by_name:
        raise BadInput(f"There is no prompt {name!r} for these statements; there is: {', '.join(by_name)}.")
    return by_name[name]


def _tried(candidate: PromptCandidate, run: RunScores, train: Sequence[LabelledStatement]) -> PromptTrial:
    gold, said_true = np.array([statement.answer for statement in train]), run.scores >= 0
    figures = TriedPrompt(
        prompt=candidate.prompt.version,
        auroc=float(roc_auc_score(gold, run.scores)),
        accuracy=float((said_true == gold).mean()),
        predicted_true_rate=float(said_true.mean()),
        answer_word_rate=None if run.answer_words is None else float(run.answer_words.mean()),
        n=len(train),
    )
    return PromptTrial(candidate, run, figures)


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
    asked_with = [candidate.prompt_for(statement.category) for statement in statements]
    done = 0
    for prompt in dict.fromkeys(asked_with):
        rows = [row for row, other in enumerate(asked_with) if other == prompt]
        told = _part_of(on_progress, done, len(statements))
        run = runner_for(prompt).scores([statements[row].text for row in rows], told)
        done += len(rows)
        scores[rows] = run.scores
        words[rows] = False if run.answer_words is None else run.answer_words
    return RunScores(scores, words)


def _part_of(on_progress: OnProgress, before: int, total: int) -> OnProgress:
    """Return what tells the progress of a part, which begins after `before`, as that of the whole."""
    return lambda done, _of_these: on_progress(before + done, total)
