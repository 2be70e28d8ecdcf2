"""The part of a model's check that runs it: is every way in which MedX computes an answer the network's own arithmetic?

Each is held against the network run on one row at a time, without padding, cache or hooks.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice, takewhile

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, RepetitionPenaltyLogitsProcessor

from medx_core.models.generation import GreedyWriting, repetition_penalty, stop_token_ids
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import PaddedBatch, forward, kept_cache
from medx_core.models.prefix_cache import PROBES, TOLERANCE, SharedPrefix, narrowest_window
from medx_core.models.prompting import (
    chat_form,
    prompt_ids,
    text_prompt_ids,
    verdict_ids,
)
from medx_core.models.scoring import AnswerHead
from medx_core.prompts import ANSWER_WORDS, STATEMENT_PROMPT, VerdictPrompt
from medx_core.steering.hooks import (
    ConstantShift,
    SteeringPlan,
    SteeringStep,
    outputs_read,
    plan_for_rows,
    steered,
)
from medx_core.steering.layers import hidden_of, hidden_size, penultimate_layer
from medx_core.traces.prompt_checks import CHAT_PROMPTS, LONG_TEXT, PROMPTS, QUESTION, TEXTS, hold_question
from medx_core.traces.resuming import can_resume

EAGER = "eager"
NEW_TOKENS = 40
ROUNDING = 1e-6
ARMS_TOKENS = 3
LONGEST_TRIED = 1100
WORK_TRIED = 3e10
"""A sliding window of more tokens than `LONGEST_TRIED` is tried out only where weights times tokens are no more than this."""
SHARED = "The beginning that prompts share is computed once, and gives what whole prompts give."
ARMS_TOGETHER = "Steered and unsteered share all layers below the steered one, and the cache of a written answer's prompt."
ARMS_APART = "Steered and unsteered are separate passes over the whole prompt."
IN_CHAT = "Verdicts can be asked for in the chat template, and score as the network writes them there."
NO_LONG_WORDS = "Prompts whose answer words are several tokens are not used."
NOT_IN_CHAT = "Verdicts are asked for with plain prompts alone."
RUN_WHOLE = "The network's cache cannot be shared, so that every prompt is run whole."


def hold_answer_words(model: LoadedModel) -> str:
    """Hold the scores of MedX's own prompts against what the network writes, and see that statements do not all score alike."""
    held = _words_hold(_asked(model, prompt) for prompt in PROMPTS)
    prefix = _asked(model, PROMPTS[0])
    head = AnswerHead(prefix)
    scores = [
        head.logit_differences(prefix.last_states([prefix.encoded(text)])).item()
        for text in (TEXTS[0], TEXTS[2], QUESTION)
    ]
    if max(scores) - min(scores) <= ROUNDING * max(1.0, *map(abs, scores)):
        raise AssertionError(f"This model gives every statement the same score ({scores[0]:.3f})")
    return held


def loss_on_english(model: LoadedModel) -> str:
    """Compare the loss on plain English with that of guessing, which another model's tokenizer does not beat.

    Nothing is refused for it: a model may be made for another language, and random ones are checked too.
    """
    ids = prompt_ids(model.tokenizer, LONG_TEXT)
    logits = _plain_logits(model, ids)
    loss = float(functional.cross_entropy(logits[:-1], torch.tensor(ids[1:], device=logits.device)))
    guessing = math.log(logits.shape[-1])
    figures = f"(loss per token {loss:.1f}, guessing {guessing:.1f})"
    if loss >= guessing:
        return f"It reads English no better than by guessing {figures}: are the weights random, or the tokenizer another model's?"
    return f"It reads English better than by guessing {figures}."


def hold_long_words(model: LoadedModel) -> str:
    """Score a pair of the answer words that a recipe may read of which one is several tokens."""
    prompts = (
        VerdictPrompt(f"verdict-statement-{name}", f"Statement: {{}}\n{ask}", true_word, false_word)
        for name, (true_word, false_word, ask) in ANSWER_WORDS.items()
    )
    longer = (prefix for prompt in prompts if (prefix := _asked(model, prompt)).reads_along_words)
    return _words_hold(islice(longer, 1))


def _asked(model: LoadedModel, prompt: VerdictPrompt) -> SharedPrefix:
    """Return a prompt on a model: run whole, which is cheaper for one row, unless its words go on from a shared cache."""
    whole = SharedPrefix(model, prompt, shared=False)
    return SharedPrefix(model, prompt) if whole.reads_along_words else whole


def _words_hold(prefixes: Iterable[SharedPrefix]) -> str:
    longest = 1
    for prefix in prefixes:
        _hold_words(prefix)
        longest = max(longest, *map(len, prefix.answer_words))
    tokens = "one token" if longest == 1 else f"up to {longest} tokens, all of which count"
    return f"Answer words are {tokens}, and score as the network writes them."


def _hold_words(prefix: SharedPrefix) -> None:
    """Refuse a prompt whose answer words score otherwise than the network writes them."""
    model, ids = prefix.model, prefix.encoded(TEXTS[0])
    ours = AnswerHead(prefix).logit_differences(prefix.last_states([ids])).item()
    expected, scale = _word_difference(model, ids, prefix.answer_words)
    if not abs(ours - expected) <= _tolerance(model) * scale:
        raise AssertionError(
            f"The answer words of {prefix.prompt.version} score {ours:.3f} here, and {expected:.3f} as the network writes them"
        )


def hold_reading_order(model: LoadedModel) -> str:
    """Let a text go on, and see that the tokens before keep their logits: an encoder that was loaded as a decoder would not."""
    ids = prompt_ids(model.tokenizer, QUESTION)
    alone, before = _plain_logits(model, ids)[-1], _plain_logits(model, [*ids, *ids])[len(ids) - 1]
    if not bool(alone.isfinite().all()):
        raise AssertionError("The network's logits are no numbers")
    if _off(model, before, alone):
        raise AssertionError("The network reads tokens that come later, so it is no causal language model")
    return "What comes later in a text changes nothing before it."


def hold_chat_verdicts(model: LoadedModel) -> str:
    """Ask for verdicts in the chat template: as the network scores them, alone and beside a row of another length."""
    if chat_form(model.tokenizer, system=True) is None:
        return NOT_IN_CHAT
    for prompt in CHAT_PROMPTS:
        ids = verdict_ids(model.tokenizer, prompt, QUESTION)
        hold_question(model, ids, f"The prompt {prompt.version}")
    prefix = SharedPrefix(model, replace(CHAT_PROMPTS[0], shots=()))
    _hold_words(prefix)
    _hold_alone(prefix, [prefix.encoded(text) for text in (TEXTS[0], TEXTS[2])])
    return IN_CHAT


def _hold_alone(prefix: SharedPrefix, rows: Sequence[list[int]]) -> None:
    """Refuse rows that have other states together, behind their shared beginning, than alone and whole."""
    for group in [rows] if prefix.model.can.batch else [[row] for row in rows]:
        states = prefix.last_states(group)
        last = states[:, 0] if prefix.reads_along_words else states
        if _off(prefix.model, last, _plain_states(prefix.model, group)):
            raise AssertionError("A prompt gives another state than the same prompt alone")


def _word_difference(
    model: LoadedModel, ids: list[int], words: tuple[list[int], list[int]]
) -> tuple[float, float]:
    """Return log P(TRUE word) - log P(FALSE word) by plain passes over the whole text, and the largest logit met."""
    sums, scale = [], 1.0
    for word in words:
        logits = _plain_logits(model, [*ids, *word])[len(ids) - 1 : -1]
        logs = logits.log_softmax(dim=-1)
        sums.append(float(sum(logs[at, token] for at, token in enumerate(word))))
        scale = max(scale, float(logits.abs().max()))
    return sums[0] - sums[1], scale


def _plain_logits(model: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Return the logits (tokens, vocabulary) of one row, as the network gives them without mask, positions or cache."""
    with torch.inference_mode():
        logits: Tensor = model.network(
            input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False
        ).logits
    return logits[0].float()


def _plain_states(model: LoadedModel, rows: Sequence[Sequence[int]]) -> Tensor:
    """Return the final state of each row's last token, each row run alone: (rows, hidden_size)."""
    network = model.network.base_model
    with torch.inference_mode():
        states = [
            network(
                input_ids=torch.tensor([list(row)], device=model.device), use_cache=False
            ).last_hidden_state[:, -1]
            for row in rows
        ]
    return torch.cat(states).float()


def _tolerance(model: LoadedModel) -> float:
    return TOLERANCE[model.placement.dtype]


def _off(model: LoadedModel, ours: Tensor, expected: Tensor) -> bool:
    """Tell whether states differ by more than this number type's rounding, relative to the largest."""
    scale = expected.abs().max().clamp(min=1e-6)
    worst = (ours.float() - expected).abs().max() / scale
    return not bool(worst <= _tolerance(model))  # also where it is not a number


def _rows(model: LoadedModel, prompt: VerdictPrompt = STATEMENT_PROMPT) -> list[list[int]]:
    """Return prompts of unequal length, one of them beyond the narrowest sliding window where that can be tried."""
    texts = list(TEXTS)
    window = narrowest_window(model.network)
    if window is not None and _can_be_tried(model, window):
        tokens = max(1, len(prompt_ids(model.tokenizer, LONG_TEXT)))
        frame = len(prompt_ids(model.tokenizer, prompt.filled("")))
        times = window // tokens + 2
        fitting = times if model.longest is None else (model.longest - frame) // tokens - 1
        texts[1] = LONG_TEXT * max(1, min(times, fitting))
    return [prompt_ids(model.tokenizer, prompt.filled(text)) for text in texts]


def _can_be_tried(model: LoadedModel, window: int) -> bool:
    """Whether a row beyond a sliding window is short enough to be run several times at the first load."""
    return window <= LONGEST_TRIED or window * model.network.num_parameters() <= WORK_TRIED


def hold_attention(model: LoadedModel) -> str:
    """Hold the attention in use against the one that the architecture's makers wrote out, on one plain row.

    Where the two differ, the one written out stays in use. In transformers 5.23 no architecture of docs/models.md is such a
    one: RecurrentGemma's differ in padded rows alone, which both get wrong and MedX never runs.
    """
    used = attention_of(model)
    row = _rows(model)[1]
    if used in {"", EAGER}:
        return "Attention is computed as its makers wrote it out."
    before = _plain_states(model, [row])
    model.network.set_attn_implementation(EAGER)
    if attention_of(model) != EAGER:
        return f"The attention called {used} is the only one that this architecture lets choose."
    if _off(model, _plain_states(model, [row]), before):
        return (
            f"The attention called {used} differs from the one its makers wrote out, which is used instead."
        )
    model.network.set_attn_implementation(used)
    return f"The attention called {used} gives what the one its makers wrote out gives."


def attention_of(model: LoadedModel) -> str:
    """Return transformers' name of the attention in use; empty where the architecture has none."""
    return str(getattr(model.network.config.get_text_config(), "_attn_implementation", "") or "")


def hold_batch(model: LoadedModel) -> str:
    """Hold padded rows of unequal length against the same rows alone."""
    rows = _rows(model)
    with torch.inference_mode():
        together = forward(model.network.base_model, model.padded(rows)).last_hidden_state[:, -1]
    if _off(model, together, _plain_states(model, rows)):
        raise AssertionError("A padded row differs from the same row alone")
    window = narrowest_window(model.network)
    if window is None:
        return "A row scores the same alone and beside longer ones."
    if not _can_be_tried(model, window):
        return f"A row scores the same alone and beside longer ones; beyond its window of {window:,} tokens nothing was tried."
    return f"A row scores the same alone and beside longer ones, also beyond its window of {window:,} tokens."


def hold_shared_prefix(model: LoadedModel) -> str:
    """Hold prompts whose beginning is computed once against whole prompts."""
    prefix = SharedPrefix(model, STATEMENT_PROMPT)
    for rows in ([prefix.encoded(text) for text in (TEXTS[0], TEXTS[2], *PROBES)], _rows(model)):
        _hold_alone(prefix, rows)
    return SHARED if prefix.prefix_length else RUN_WHOLE


def hold_shared_arms(model: LoadedModel) -> str:
    """Go on from the states and the cache of one pass, and hold that against separate passes."""
    prefix = SharedPrefix(model, STATEMENT_PROMPT)
    rows = _rows(model) if model.can.batch else _rows(model)[:1] * 2
    if not can_resume(prefix, rows, _tolerance(model)):
        return ARMS_APART
    prompts = [
        text_prompt_ids(model.tokenizer, question) for question in (QUESTION, "What is asthma?", QUESTION)
    ]
    together, apart = (
        GreedyWriting(model, prompts, max_new_tokens=ARMS_TOKENS, share_prompts=share)
        for share in (True, False)
    )
    for writing in (together, apart):
        while not writing.finished:
            writing.step()
    for prompt, ours, own in zip(prompts, together.rows, apart.rows, strict=True):
        if not _same_writing(model, prompt, ours.tokens, own.tokens):
            return ARMS_APART
    return ARMS_TOGETHER


def hold_steering(model: LoadedModel) -> str:
    """Steer one of two rows and read both at the steered layer, at every token, and at the end."""
    network, width = model.network, hidden_size(model.network)
    ids = torch.tensor(
        [prompt_ids(model.tokenizer, STATEMENT_PROMPT.filled(TEXTS[0]))] * 2, device=model.device
    )
    for layer in sorted({0, penultimate_layer(network)}):
        before, plain = _layer_and_final(model, ids, layer, SteeringPlan())
        size = float(before[0, -1].float().norm()) / width**0.5
        vector = torch.linspace(-1, 1, width).roll(width // 3) * max(size, 1e-3)
        plan = plan_for_rows(
            [SteeringPlan((SteeringStep(layer, ConstantShift(vector[None])),)), SteeringPlan()], width=width
        )
        after, moved = _layer_and_final(model, ids, layer, plan)
        expected = before.clone()
        expected[0, -1] = expected[0, -1] + vector.to(device=before.device, dtype=before.dtype)
        exact = 1e-6 if model.placement.dtype is torch.float32 else _tolerance(model)
        if not torch.allclose(after.float(), expected.float(), atol=exact * max(size, 1.0), rtol=exact):
            raise AssertionError(
                f"Steering at layer {layer} does not change the last token's state by the vector alone"
            )
        if torch.equal(moved[0], plain[0]) or _off(model, moved[1:], plain[1:].float()):
            raise AssertionError(
                f"What steering at layer {layer} changes does not reach that row's answer alone"
            )
    return "Steering changes the last token's state by exactly the vector, and no other row."


def _layer_and_final(
    model: LoadedModel, ids: Tensor, layer: int, plan: SteeringPlan
) -> tuple[Tensor, Tensor]:
    """Return a layer's output at all tokens (rows, tokens, hidden_size), and the last token's final states."""
    network = model.network
    with (
        torch.inference_mode(),
        steered(network, plan),
        outputs_read(network, [layer], lambda output: hidden_of(output).clone()) as states,
    ):
        final = network.base_model(input_ids=ids, use_cache=False).last_hidden_state[:, -1]
    return states[layer], final


def hold_written_answers(model: LoadedModel) -> str:
    """Write two answers at once and hold them against the library's own greedy search, one at a time."""
    questions = (QUESTION, "What is asthma?")
    prompts = [text_prompt_ids(model.tokenizer, question) for question in questions]
    _hold_cache(model, *prompts)
    writing = GreedyWriting(model, prompts, max_new_tokens=NEW_TOKENS)
    while not writing.finished:
        writing.step()
    ends = stop_token_ids(model)
    for prompt, row in zip(prompts, writing.rows, strict=True):
        own = list(takewhile(lambda token: token not in ends, _library_writes(model, prompt)))
        if not _same_writing(model, prompt, row.tokens, own):
            raise AssertionError("A written answer differs from the one that transformers.generate writes")
    return f"Written answers equal those of transformers.generate for {NEW_TOKENS} tokens."


def _hold_cache(model: LoadedModel, ids: list[int], other: list[int]) -> None:
    """Go on with a text after another one was run, and hold its state against that of the whole text.

    Work is interleaved: a verdict goes first between two tokens of a written answer. RecurrentGemma (transformers 5.23) keeps
    its recurrent states in its layers and not in the cache, so that whatever is run in between becomes part of the text.
    """
    network, before, whole = model.network.base_model, model.padded([ids[:-1]]), model.padded([ids])
    with torch.inference_mode():
        cache = kept_cache(forward(network, before, use_cache=True))
        if cache is None:
            cache = DynamicCache(config=model.network.config)
            forward(network, before, cache)
        expected = _plain_states(model, [ids])
        _plain_states(model, [other])
        last = PaddedBatch(whole.ids[:, -1:], whole.mask, whole.positions[:, -1:])
        state = forward(network, last, cache).last_hidden_state[:, -1]
    if _off(model, state, expected):
        raise AssertionError(
            "A text goes wrong where another one is run in between, as it is when work is shared"
        )


def _library_writes(model: LoadedModel, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt], device=model.device)
    most = NEW_TOKENS if model.longest is None else min(NEW_TOKENS, model.longest - len(prompt))
    with torch.inference_mode(), _plainly_greedy(model, most):
        own: Tensor = model.network.generate(ids, attention_mask=torch.ones_like(ids))  # type: ignore[operator]  # of a mixin
    return [int(token) for token in own[0, len(prompt) :]]


@contextmanager
def _plainly_greedy(model: LoadedModel, most: int) -> Iterator[None]:
    """Let the library search as MedX does: greedily, `most` new tokens, with the makers' repetition penalty and none of their other settings.

    What is left open when `generate` is called is filled from the model's own configuration, so that is replaced.
    """
    own = model.network.generation_config
    model.network.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # left untyped there
        do_sample=False,
        max_new_tokens=most,
        pad_token_id=int(model.tokenizer.pad_token_id or 0),
        eos_token_id=sorted(stop_token_ids(model)),
        repetition_penalty=repetition_penalty(model),
    )
    try:
        yield
    finally:
        model.network.generation_config = own


def _same_writing(model: LoadedModel, prompt: list[int], ours: list[int], own: list[int]) -> bool:
    """Tell whether two texts are the same up to the first near-tie, where rounding alone decides which token is written."""
    if ours == own:
        return True
    alike = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, own, strict=False))))
    so_far = [*prompt, *ours[:alike]]
    logits = _plain_logits(model, so_far)[-1]
    if (penalty := repetition_penalty(model)) != 1.0:
        logits = RepetitionPenaltyLogitsProcessor(penalty)(
            torch.tensor([so_far], device=logits.device), logits[None]
        )[0]
    first, second = logits.topk(2).values
    return bool(first - second <= _tolerance(model) * logits.abs().max())
