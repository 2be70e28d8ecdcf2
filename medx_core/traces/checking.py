"""The check of a model before it answers: does what MedX relies on hold for this architecture, tokenizer and template?

Everything is held against the network itself, run on one row at a time without padding, cache or hooks. What differs is
done in another way where there is one (rows apart, prompts whole), and told; what has no other way is refused by name.
The outcome is kept beside the models, by the model's identity, the placement and the versions of the libraries.
"""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from medx_core import __version__
from medx_core.errors import MedxError
from medx_core.model_check import Can, Check, ModelCheck
from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import CACHE_FAULTS
from medx_core.models.prompting import (
    chat_form,
)
from medx_core.traces.pass_checks import (
    ARMS_APART,
    ARMS_TOGETHER,
    IN_CHAT,
    NO_LONG_WORDS,
    NOT_IN_CHAT,
    SHARED,
    attention_of,
    hold_answer_words,
    hold_attention,
    hold_batch,
    hold_chat_verdicts,
    hold_long_words,
    hold_reading_order,
    hold_shared_arms,
    hold_shared_prefix,
    hold_steering,
    hold_written_answers,
    loss_on_english,
)
from medx_core.traces.prompt_checks import chat_template_in_use, hold_control_tokens, hold_prompts

log = logging.getLogger(__name__)
KEPT = ".model-checks.json"
KEPT_AT_MOST = 100
VERSION = 5
"""Raised when the check looks at something else: what an older one found counts no more."""
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
        if kept.attention != attention_of(model):
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
    prompt = _tried("prompt", model, hold_prompts)
    if not prompt.ok:
        # Nothing can be asked, and a row that is too long or holds unknown tokens would end a process on CUDA.
        return _outcome(model, (WEIGHTS, prompt), NOTHING)
    chat_template = _tried("chat template", model, chat_template_in_use)
    controls = _or_else(_tried("control tokens", model, hold_control_tokens), CONTROL_REFUSED)
    order = _tried("reading order", model, hold_reading_order)
    attention = _tried("attention", model, hold_attention)
    batch = _tried("batch", model, hold_batch)
    can = Can(batch=batch.ok)
    written = _tried("written answers", _able(model, can), hold_written_answers)
    if can.batch and not written.ok:
        can = Can(batch=False)
        written = _tried("written answers", _able(model, can), hold_written_answers)
    if not can.batch:
        batch = Check(name=batch.name, ok=True, detail=ROWS_APART)
    prefix = _tried("shared prefix", _able(model, can), hold_shared_prefix)
    if not prefix.ok:
        can = can.model_copy(update={"shared_prefix": False})
        prefix = _tried("shared prefix", _able(model, can), hold_shared_prefix)
    can = can.model_copy(update={"shared_prefix": prefix.detail == SHARED})
    words = _tried("answer words", _able(model, can), hold_answer_words)
    english = _or_else(_tried("English", model, loss_on_english), "How well it reads English was not seen.")
    longer = _or_else(_tried("longer words", _able(model, can), hold_long_words), NO_LONG_WORDS)
    can = can.model_copy(update={"long_words": not longer.detail.startswith(NO_LONG_WORDS)})
    chat = _or_else(_tried("chat verdicts", _able(model, can), hold_chat_verdicts), NOT_IN_CHAT)
    arms = _or_else(_tried("shared arms", _able(model, can), hold_shared_arms), ARMS_APART)
    steering = _tried("steering", model, hold_steering)
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


def _outcome(model: LoadedModel, checks: tuple[Check, ...], can: Can) -> ModelCheck:
    return ModelCheck(
        model=model.name,
        model_sha256=model.weight_sha256,
        identity_sha256=model.identity_sha256,
        placement=str(model.placement),
        checks=checks,
        can=can,
        attention=attention_of(model),
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
