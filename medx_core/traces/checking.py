"""The check of a model before it answers: does what MedX relies on hold for this architecture, tokenizer and template?

Everything is held against the network itself, run on one row at a time without padding, cache or hooks. What differs is
done in another way where there is one (rows apart, prompts whole), and told; what has no other way is refused by name.
The outcome is kept beside the models, by the model's identity, the placement and the versions of the libraries.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, GenerationConfig, RepetitionPenaltyLogitsProcessor

from medx_core import __version__
from medx_core.errors import MedxError
from medx_core.model_check import Can, Check, ModelCheck
from medx_core.models.devices import memory_faults_in_words
from medx_core.models.generation import GreedyWriting, repetition_penalty, stop_token_ids
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import PaddedBatch, forward, kept_cache
from medx_core.models.prefix_cache import CACHE_FAULTS, PROBES, TOLERANCE, SharedPrefix, narrowest_window
from medx_core.models.prompting import (
    chat_form,
    control_tokens,
    prompt_ids,
    text_prompt_ids,
    verdict_ids,
)
from medx_core.models.scoring import AnswerHead
from medx_core.prompts import ANSWER_WORDS, QUESTION_PROMPT, STATEMENT_PROMPT, VerdictPrompt
from medx_core.steering.hooks import (
    ConstantShift,
    SteeringPlan,
    SteeringStep,
    outputs_read,
    plan_for_rows,
    steered,
)
from medx_core.steering.layers import hidden_of, hidden_size, penultimate_layer
from medx_core.traces.resuming import can_resume

log = logging.getLogger(__name__)

KEPT = ".model-checks.json"
KEPT_AT_MOST = 100
VERSION = 4
"""Raised when the check looks at something else: what an older one found counts no more."""
EAGER = "eager"
NEW_TOKENS = 40
ROUNDING = 1e-6
ARMS_TOKENS = 3
LONGEST_TRIED = 1100
WORK_TRIED = 3e10
"""A sliding window of more tokens than `LONGEST_TRIED` is tried out only where weights times tokens are no more than this."""
QUESTION = "Can 5 mg of warfarin be given together with aspirin?"
LONG_TEXT = (
    "In a randomised trial of adults with chronic heart failure, beta blockers reduced mortality compared with placebo "
    "over three years of follow-up, and fewer people were admitted to hospital. "
)
TEXTS = ("Insulin lowers glucose.", LONG_TEXT, "Aspirin is safe in all patients with active bleeding.")
PROMPTS = (STATEMENT_PROMPT, QUESTION_PROMPT)
CHAT_PROMPTS = tuple(prompt.in_chat() for prompt in PROMPTS)
FAULTS = (*CACHE_FAULTS, MedxError, AssertionError)


def checked(model: LoadedModel, *, memory_folder: Path, anew: bool = False) -> LoadedModel:
    """Return the model with the outcome of its check: the one kept in `memory_folder`, else (or `anew`) a new one.

    Raises:
        ModelUnavailable: the check does not fit into the device's memory.
    """
    memory, known = memory_folder / KEPT, _read(memory_folder / KEPT)
    versions = (__version__, str(VERSION), str(torch.__version__), transformers.__version__)
    key = " ".join((model.identity_sha256, str(model.placement), *versions))
    if key in known and not anew:
        kept = ModelCheck.model_validate(known[key])
        if kept.attention != _attention_of(model):
            model.network.set_attn_implementation(kept.attention)
        return replace(model, check=kept)
    with memory_faults_in_words(f"The check of the model {model.name}"):
        made = checked_anew(model)
    known = dict([*known.items(), (key, made.model_dump(mode="json"))][-KEPT_AT_MOST:])
    try:
        memory_folder.mkdir(parents=True, exist_ok=True)
        fresh = memory.with_suffix(f".{os.getpid()}.new")
        fresh.write_text(json.dumps(known, indent=1), encoding="utf-8")
        fresh.replace(memory)
    except OSError as error:
        log.warning(
            "The check of %s cannot be kept in %s and will be made again: %s", model.name, memory, error
        )
    return replace(model, check=made)


def _read(memory: Path) -> dict[str, object]:
    try:
        known: dict[str, object] = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known


def checked_anew(model: LoadedModel) -> ModelCheck:
    """Check a loaded model. A way round that one part finds is what the next parts go by."""
    prompt = _tried("prompt", model, _prompts)
    if not prompt.ok:
        # Nothing can be asked, and a row that is too long or holds unknown tokens would end a process on CUDA.
        return _outcome(model, (WEIGHTS, prompt), NOTHING)
    chat_template = _tried("chat template", model, _chat_template)
    controls = _or_else(_tried("control tokens", model, _control_tokens), CONTROL_REFUSED)
    order = _tried("reading order", model, _reading_order)
    attention = _tried("attention", model, _attention)
    batch = _tried("batch", model, _batch)
    can = Can(batch=batch.ok)
    written = _tried("written answers", _able(model, can), _written)
    if can.batch and not written.ok:
        can = Can(batch=False)
        written = _tried("written answers", _able(model, can), _written)
    if not can.batch:
        batch = Check(name=batch.name, ok=True, detail=ROWS_APART)
    prefix = _tried("shared prefix", _able(model, can), _shared_prefix)
    if not prefix.ok:
        can = can.model_copy(update={"shared_prefix": False})
        prefix = _tried("shared prefix", _able(model, can), _shared_prefix)
    can = can.model_copy(update={"shared_prefix": prefix.detail == SHARED})
    words = _tried("answer words", _able(model, can), _answer_words)
    english = _or_else(_tried("English", model, _english), "How well it reads English was not seen.")
    longer = _or_else(_tried("longer words", _able(model, can), _long_words), NO_LONG_WORDS)
    can = can.model_copy(update={"long_words": not longer.detail.startswith(NO_LONG_WORDS)})
    chat = _or_else(_tried("chat verdicts", _able(model, can), _chat_verdicts), NOT_IN_CHAT)
    arms = _or_else(_tried("shared arms", _able(model, can), _arms), ARMS_APART)
    steering = _tried("steering", model, _steering)
    can = Can(
        verdict=words.ok and order.ok and prefix.ok,
        text=order.ok and written.ok,
        steer=order.ok and steering.ok,
        batch=can.batch,
        shared_prefix=can.shared_prefix,
        shared_arms=arms.detail == ARMS_TOGETHER,
        chat_verdict=chat.detail == IN_CHAT,
        long_words=can.long_words,
    )
    asked = (prompt, chat_template, controls, order)
    scored = (attention, english, batch, prefix, words, longer, chat, arms, steering, written)
    return _outcome(model, (WEIGHTS, *asked, *scored), can)


def _or_else(check: Check, way_round: str) -> Check:
    """Return the check, or where it failed, one that passed by another way and says why."""
    return check if check.ok else Check(name=check.name, ok=True, detail=f"{way_round} {check.detail}")


WEIGHTS = Check(name="weights", ok=True, detail="Every weight came from the files, and none was left over.")
NOTHING = Can(**dict.fromkeys(Can.model_fields, False))
CONTROL_REFUSED = "A question that holds a control token is refused, since it would not stay text."
ROWS_APART = (
    "A padded row differs from the same row alone, so that rows of unequal length are answered apart."
)
SHARED = "The beginning that prompts share is computed once, and gives what whole prompts give."
ARMS_TOGETHER = "Steered and unsteered share all layers below the steered one, and the cache of a written answer's prompt."
ARMS_APART = "Steered and unsteered are separate passes over the whole prompt."
IN_CHAT = "Verdicts can be asked for in the chat template, and score as the network writes them there."
NO_LONG_WORDS = "Prompts whose answer words are several tokens are not used."
NOT_IN_CHAT = "Verdicts are asked for with plain prompts alone."
RUN_WHOLE = "The network's cache cannot be shared, so that every prompt is run whole."


def _outcome(model: LoadedModel, checks: tuple[Check, ...], can: Can) -> ModelCheck:
    return ModelCheck(
        model=model.name,
        model_sha256=model.weight_sha256,
        identity_sha256=model.identity_sha256,
        placement=str(model.placement),
        checks=checks,
        can=can,
        attention=_attention_of(model),
        chat_template=chat_form(model.tokenizer, system=True) is not None,
    )


def _able(model: LoadedModel, can: Can) -> LoadedModel:
    """Return the model as one that can do no more than this."""
    return replace(model, check=_outcome(model, (), can))


def _tried(name: str, model: LoadedModel, attempt: Callable[[LoadedModel], str]) -> Check:
    """Make a check of what an attempt on the model says; one that ends in a fault has failed."""
    try:
        return Check(name=name, ok=True, detail=attempt(model))
    except FAULTS as fault:
        # A device that is full says nothing of the model, and must not be kept as if it did.
        if torch.OutOfMemoryError in (type(fault), type(fault.__cause__)):
            raise
        reason = (str(fault).strip().splitlines() or ["no reason given"])[0]
        sentence = (
            reason
            if isinstance(fault, AssertionError | MedxError)
            else f"It ended in {type(fault).__name__}: {reason}"
        )
        return Check(name=name, ok=False, detail=f"{sentence.rstrip('.')}.")


def _prompts(model: LoadedModel) -> str:
    _hold_vocabulary(model)
    asked = {
        f"The prompt {prompt.version}": verdict_ids(model.tokenizer, prompt, QUESTION) for prompt in PROMPTS
    }
    asked["The prompt for written answers"] = text_prompt_ids(model.tokenizer, QUESTION)
    for which, ids in asked.items():
        _hold_question(model, ids, which)
        if model.longest is not None and len(ids) >= model.longest:
            raise AssertionError(
                f"{which} has {len(ids):,} tokens with a short question, and this model reads no more than {model.longest:,}"
            )
    limit = "" if model.longest is None else f"; the model reads up to {model.longest:,} tokens"
    return f"All prompts hold the question and end in no end token{limit}."


def _hold_vocabulary(model: LoadedModel) -> None:
    """Refuse a tokenizer with words that the network has no weights for: on CUDA, one of them ends the whole process."""
    table: Any = model.network.get_input_embeddings()
    controls = control_tokens(model.tokenizer)
    strange = sorted(
        word
        for word, token in model.tokenizer.get_vocab().items()
        if token >= table.num_embeddings and not controls.written.fullmatch(word)
    )
    if strange:
        shown = ", ".join(map(repr, strange[:3])) + (", ..." if len(strange) > 3 else "")
        raise AssertionError(
            f"The tokenizer has {len(strange):,} words that the network has no weights for ({shown}), so it is another model's"
        )


def _hold_question(model: LoadedModel, ids: Sequence[int], which: str) -> None:
    """Refuse a prompt whose tokens lost the question or end the text."""
    text = str(model.tokenizer.decode(list(ids)))
    if _bare(QUESTION) not in _bare(text):
        raise AssertionError(f"{which} does not hold the question once it is tokens")
    ends = model.network.generation_config.eos_token_id if model.network.generation_config else None
    listed = {*([ends] if isinstance(ends, int) else ends or []), model.tokenizer.eos_token_id}
    if ids[-1] in listed:
        raise AssertionError(
            f"{which} ends in the end token {model.tokenizer.convert_ids_to_tokens(ids[-1])!r}"
        )


def _bare(text: str) -> str:
    """Return letters and digits alone, since tokenizers may change case and spaces."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _chat_template(model: LoadedModel) -> str:
    if not model.tokenizer.chat_template:
        return "There is no chat template; written answers are asked for with a plain prompt."
    form = chat_form(model.tokenizer, system=True)
    if form is None:
        return "The chat template shows what it is given in no form; written answers are asked for with a plain prompt."
    parts = ", both as parts" if form.in_parts else ""
    if not form.system_apart:
        return f"The chat template takes no system text; it stands in front of the question{parts}."
    return f"The chat template takes system text and question{parts}."


def _control_tokens(model: LoadedModel) -> str:
    """Write every kind of prompt around a question that would take the model's turn, and count its control tokens."""
    controls = control_tokens(model.tokenizer)
    names = sorted(set(model.tokenizer.all_special_tokens))
    if not names:
        return "The tokenizer has no control tokens."
    taking = f"{QUESTION} {' '.join(names)}"
    prompts = [PROMPTS[0], CHAT_PROMPTS[0]] if chat_form(model.tokenizer, system=True) else [PROMPTS[0]]
    for write in (
        *(partial(verdict_ids, model.tokenizer, prompt) for prompt in prompts),
        partial(text_prompt_ids, model.tokenizer),
    ):
        if controls.among(write(taking)) != controls.among(write(QUESTION)):
            raise AssertionError("The tokenizer makes control tokens of a question's text")
    return "A question with control tokens stays text."


def _answer_words(model: LoadedModel) -> str:
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


def _english(model: LoadedModel) -> str:
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


def _long_words(model: LoadedModel) -> str:
    """Score a pair of the answer words that a recipe may read of which one is several tokens."""
    prompts = (
        VerdictPrompt(f"verdict-statement-{name}", f"Statement: {{}}\n{ask}", true_word, false_word)
        for name, (true_word, false_word, ask) in ANSWER_WORDS.items()
    )
    longer = (prefix for prompt in prompts if (prefix := _asked(model, prompt)).reads_along_words)
    return _words_hold(islice(longer, 1))


def _asked(model: LoadedModel, prompt: VerdictPrompt) -> SharedPrefix:
    """Return a prompt on a model: run whole, which is cheaper for one row, unless its words go on from a shared cache."""
    whole = SharedPrefix(_able(model, model.can.model_copy(update={"shared_prefix": False})), prompt)
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


def _reading_order(model: LoadedModel) -> str:
    """Let a text go on, and see that the tokens before keep their logits: an encoder that was loaded as a decoder would not."""
    ids = prompt_ids(model.tokenizer, QUESTION)
    alone, before = _plain_logits(model, ids)[-1], _plain_logits(model, [*ids, *ids])[len(ids) - 1]
    if not bool(alone.isfinite().all()):
        raise AssertionError("The network's logits are no numbers")
    if _off(model, before, alone):
        raise AssertionError("The network reads tokens that come later, so it is no causal language model")
    return "What comes later in a text changes nothing before it."


def _chat_verdicts(model: LoadedModel) -> str:
    """Ask for verdicts in the chat template: as the network scores them, alone and beside a row of another length."""
    if chat_form(model.tokenizer, system=True) is None:
        return NOT_IN_CHAT
    for prompt in CHAT_PROMPTS:
        ids = verdict_ids(model.tokenizer, prompt, QUESTION)
        _hold_question(model, ids, f"The prompt {prompt.version}")
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


def _attention(model: LoadedModel) -> str:
    """Hold the attention in use against the one that the architecture's makers wrote out, on one plain row.

    Where the two differ, the one written out stays in use. In transformers 5.23 no architecture of docs/models.md is such a
    one: RecurrentGemma's differ in padded rows alone, which both get wrong and MedX never runs.
    """
    used = _attention_of(model)
    row = _rows(model)[1]
    if used in {"", EAGER}:
        return "Attention is computed as its makers wrote it out."
    before = _plain_states(model, [row])
    model.network.set_attn_implementation(EAGER)
    if _attention_of(model) != EAGER:
        return f"The attention called {used} is the only one that this architecture lets choose."
    if _off(model, _plain_states(model, [row]), before):
        return (
            f"The attention called {used} differs from the one its makers wrote out, which is used instead."
        )
    model.network.set_attn_implementation(used)
    return f"The attention called {used} gives what the one its makers wrote out gives."


def _attention_of(model: LoadedModel) -> str:
    return str(getattr(model.network.config.get_text_config(), "_attn_implementation", "") or "")


def _batch(model: LoadedModel) -> str:
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


def _shared_prefix(model: LoadedModel) -> str:
    prefix = SharedPrefix(model, STATEMENT_PROMPT)
    for rows in ([prefix.encoded(text) for text in (TEXTS[0], TEXTS[2], *PROBES)], _rows(model)):
        _hold_alone(prefix, rows)
    return SHARED if prefix.prefix_length else RUN_WHOLE


def _arms(model: LoadedModel) -> str:
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


def _steering(model: LoadedModel) -> str:
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


def _written(model: LoadedModel) -> str:
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
