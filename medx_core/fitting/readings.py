"""Reading contrast pairs from a model: running their traces, and keeping the states that a reading asks for.

`answer_word` and `full_trace` write the correct and the incorrect answer after each prompt; `statement` and
`model_right` read the last prompt token of statements of either kind.
"""

from collections.abc import Sequence

import torch

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.models.prompting import VerdictPrompt
from medx_core.models.scoring import answer_word_tokens
from medx_core.steering.contrast import (
    ANSWER_WORD,
    FULL_TRACE,
    MODEL_RIGHT,
    READINGS,
    AnswerWordStates,
    PromptStates,
    Traces,
)
from medx_core.traces.continuations import continued_states, trace_tokens
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner


def read_traces(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    reading: str,
    layers: Sequence[int],
    on_progress: OnProgress = silent,
) -> dict[int, Traces]:
    """Read the contrast pairs of `statements` at several layers in one run; labels stay apart, to be shuffled later.

    Of an answer word of several tokens the last one is read; of a full trace, the mean over its tokens.

    Raises:
        BadInput: there is no such reading.
        VectorRefused: a layer does not exist.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    if reading not in READINGS:
        raise BadInput(f"There is no reading called {reading!r}; the readings are: {', '.join(READINGS)}.")
    texts = [statement.text for statement in statements]
    gold = torch.tensor([statement.answer for statement in statements], dtype=torch.bool)
    if reading in (ANSWER_WORD, FULL_TRACE):
        words = answer_word_tokens(runner.prefix)
        answers = [words] * len(texts) if reading == ANSWER_WORD else _written_answers(runner, texts)
        states = continued_states(
            runner, texts, answers, layers, last=reading == ANSWER_WORD, on_progress=on_progress
        )
        return {layer: AnswerWordStates(both[0], both[1], gold, reading) for layer, both in states.items()}
    run = runner.recorded(texts, layers, on_progress, with_answer_words=False)
    label = torch.as_tensor(run.scores >= 0) == gold if reading == MODEL_RIGHT else gold
    return {layer: PromptStates(states, label, reading) for layer, states in run.states.items()}


def written_answer(prompt: VerdictPrompt, text: str, truth: bool) -> str:
    """Return the answer that calls `text` correct or incorrect, as it follows the prompt."""
    kind = "correct" if truth else "incorrect"
    return f"{prompt.word(truth)}. The statement is {kind}: {' '.join(text.split())}"


def _written_answers(runner: StatementRunner, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Return the tokens of both written answers to each text."""

    def tokens(text: str, truth: bool) -> list[int]:
        return trace_tokens(runner.prefix, text, written_answer(runner.prompt, text, truth))

    return [(tokens(text, truth=True), tokens(text, truth=False)) for text in texts]
