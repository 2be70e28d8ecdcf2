"""The four ways of reading a contrast pair, each from one batched run.

They differ, even in sign, so a vector names its own (see `steering.contrast`):

- `answer_word`: the prompt is followed by the right and by the wrong answer word; the state at that word.
- `statement`: the state of the last prompt token; TRUE statements against FALSE ones.
- `model_right`: the same state; statements that the model judges right against those it judges wrong.
- `full_trace`: the prompt is followed by a written answer, the answer word and one sentence that states the statement
  to be correct or incorrect (" Yes. The statement is correct: ..." and " No. The statement is incorrect: ..."); the
  mean state over all tokens of that answer. Right is the answer that agrees with the gold label. Both answers repeat
  the statement, so that what they are about is the same on both sides.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.models.prompting import VerdictPrompt
from medx_core.models.scoring import answer_word_tokens
from medx_core.steering.contrast import (
    ANSWER_WORD,
    FULL_TRACE,
    READINGS,
    STATEMENT,
    AnswerWordStates,
    ContrastStates,
    model_right_states,
    statement_states,
)
from medx_core.traces.continuations import continued_states, trace_tokens
from medx_core.traces.running import OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner


def contrast_states(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    reading: str,
    layers: Sequence[int],
    on_progress: OnProgress = silent,
) -> dict[int, ContrastStates]:
    """Read the contrast pairs of `statements` at several layers in one run.

    Raises:
        BadInput: there is no such reading.
        VectorRefused: a layer does not exist, or one side of the contrast is empty.
        ModelUnavailable: a batch does not fit into the device's memory.
    """
    if reading == ANSWER_WORD:
        pairs = answer_word_states_at(runner, statements, layers, on_progress)
        return {layer: pairs[layer].contrast for layer in layers}
    if reading == FULL_TRACE:
        return full_trace_states_at(runner, statements, layers, on_progress)
    if reading not in READINGS:
        raise BadInput(f"There is no reading called {reading!r}; the readings are: {', '.join(READINGS)}.")
    return _prompt_states_at(runner, statements, reading, layers, on_progress)


def answer_word_states(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    layer: int,
    on_progress: OnProgress = silent,
) -> AnswerWordStates:
    """Read `answer_word` at one layer, with both words' states kept apart, so that labels can be shuffled later."""
    return answer_word_states_at(runner, statements, [layer], on_progress)[layer]


def answer_word_states_at(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    layers: Sequence[int],
    on_progress: OnProgress = silent,
) -> dict[int, AnswerWordStates]:
    """Read `answer_word` at several layers; of a word of several tokens the last one counts."""
    words = answer_word_tokens(runner.prefix)
    texts = [one.text for one in statements]
    found = continued_states(runner, texts, [words] * len(texts), layers, last=True, on_progress=on_progress)
    gold = _gold(statements)
    return {layer: AnswerWordStates(states[0], states[1], gold) for layer, states in found.items()}


def full_trace_states(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    layer: int,
    on_progress: OnProgress = silent,
) -> ContrastStates:
    """Read `full_trace` at one layer."""
    return full_trace_states_at(runner, statements, [layer], on_progress)[layer]


def full_trace_states_at(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    layers: Sequence[int],
    on_progress: OnProgress = silent,
) -> dict[int, ContrastStates]:
    """Read `full_trace` at several layers."""
    texts = [one.text for one in statements]
    traces = [
        [
            trace_tokens(runner.prefix, text, written_answer(runner.prompt, text, truth))
            for truth in (True, False)
        ]
        for text in texts
    ]
    found = continued_states(runner, texts, traces, layers, on_progress=on_progress)
    gold = _gold(statements)
    return {layer: _by_gold(states[0], states[1], gold) for layer, states in found.items()}


def written_answer(prompt: VerdictPrompt, text: str, truth: bool) -> str:
    """Return the answer that calls `text` correct or incorrect, as it follows the prompt."""
    kind = "correct" if truth else "incorrect"
    return f"{prompt.word(truth)}. The statement is {kind}: {' '.join(text.split())}"


def _by_gold(called_true: Tensor, called_false: Tensor, gold: Tensor) -> ContrastStates:
    both = AnswerWordStates(called_true, called_false, gold)
    return ContrastStates(both.correct, both.incorrect, FULL_TRACE, paired=True, gold=gold)


def _prompt_states_at(
    runner: StatementRunner,
    statements: Sequence[LabelledStatement],
    reading: str,
    layers: Sequence[int],
    on_progress: OnProgress,
) -> dict[int, ContrastStates]:
    run = runner.recorded([one.text for one in statements], layers, on_progress, with_answer_words=False)
    gold = _gold(statements)
    if reading == STATEMENT:
        return {layer: statement_states(states, gold) for layer, states in run.states.items()}
    right = torch.as_tensor(run.scores >= 0) == gold
    return {layer: model_right_states(states, right) for layer, states in run.states.items()}


def _gold(statements: Sequence[LabelledStatement]) -> Tensor:
    return torch.tensor([one.answer for one in statements], dtype=torch.bool)
