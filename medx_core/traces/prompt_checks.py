"""The part of a model's check that asks nothing of the network: do prompts hold the question once they are tokens?

Tokenizer, chat template and control tokens are held against the text that they were given.
"""

import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import (
    chat_form,
    control_tokens,
    prompt_ids,
    text_prompt_ids,
    verdict_ids,
)
from medx_core.prompts import QUESTION_PROMPT, STATEMENT_PROMPT

QUESTION = "Can 5 mg of warfarin be given together with aspirin?"
LONG_TEXT = (
    "In a randomised trial of adults with chronic heart failure, beta blockers reduced mortality compared with placebo "
    "over three years of follow-up, and fewer people were admitted to hospital. "
)
TEXTS = ("Insulin lowers glucose.", LONG_TEXT, "Aspirin is safe in all patients with active bleeding.")
READ = "Aspirin is not safe: K < 3.5 or > 5.5 mmol/L, + 10 % or 20 (twice)."
OTHER_SIGNS = "≥≤µ½°±é"
WRITTEN_AGAIN = 7
"""How often each prompt is written again, to see that it is always the same."""
PROMPTS = (STATEMENT_PROMPT, QUESTION_PROMPT)
CHAT_PROMPTS = tuple(prompt.in_chat() for prompt in PROMPTS)


def hold_prompts(model: LoadedModel) -> str:
    """Hold each prompt's tokens against the question and against the model's context, and see that nothing is lost or drawn."""
    _hold_vocabulary(model)
    ways: dict[str, Callable[[str], list[int]]] = {
        f"The prompt {prompt.version}": partial(verdict_ids, model.tokenizer, prompt) for prompt in PROMPTS
    }
    ways["The prompt for written answers"] = partial(text_prompt_ids, model.tokenizer)
    for which, write in ways.items():
        ids = write(QUESTION)
        hold_question(model, ids, which)
        if any(write(QUESTION) != ids for _ in range(WRITTEN_AGAIN)):
            raise AssertionError(
                f"{which} has other tokens each time it is written: the tokenizer or the chat template draws at random"
            )
        if model.longest is not None and len(ids) >= model.longest:
            raise AssertionError(
                f"{which} has {len(ids):,} tokens with a short question, and this model reads no more than {model.longest:,}"
            )
    lost = _hold_reading(model)
    limit = "" if model.longest is None else f"; the model reads up to {model.longest:,} tokens"
    return f"All prompts hold the question and end in no end token{limit}.{lost}"


def _hold_reading(model: LoadedModel) -> str:
    """Refuse a tokenizer that loses words or signs of plain English; return which other signs it does not read.

    One that drops "not", or reads < as >, gives opposite statements the same score.
    """
    tokenizer = model.tokenizer

    def read(text: str) -> str:
        return _signs(str(tokenizer.decode(prompt_ids(tokenizer, text))))

    shown = read(READ)
    if _signs(READ) not in shown:
        lost = [word for word in READ.split() if _signs(word) not in shown] or [READ]
        raise AssertionError(
            f"The tokenizer loses part of what it is given: {', '.join(map(repr, lost))} of {READ!r}"
        )
    unread = [sign for sign in OTHER_SIGNS if _signs(sign) not in read(f"a {sign} b")]
    return f" The tokenizer does not read: {' '.join(unread)}." if unread else ""


def _signs(text: str) -> str:
    """Return all signs but spaces, since tokenizers may change case, spaces and the form of a sign."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


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


def hold_question(model: LoadedModel, ids: Sequence[int], which: str) -> None:
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


def chat_template_in_use(model: LoadedModel) -> str:
    """Say in which form the chat template shows what it is given."""
    if not model.tokenizer.chat_template:
        return "There is no chat template; written answers are asked for with a plain prompt."
    form = chat_form(model.tokenizer, system=True)
    if form is None:
        return "The chat template shows what it is given in no form; written answers are asked for with a plain prompt."
    parts = ", both as parts" if form.in_parts else ""
    if not form.system_apart:
        return f"The chat template takes no system text; it stands in front of the question{parts}."
    return f"The chat template takes system text and question{parts}."


def hold_control_tokens(model: LoadedModel) -> str:
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
