"""From words to the token ids that a model is asked with.

A tokenizer may append an end token of its own accord, and a chat template may refuse a system text, want its content in
parts, drop what it is given, begin a train of thought unless told not to, or write the date of the day. So nothing is
taken on trust: the tokens of a prompt never end in an end token, of a template's forms the first is used that shows both
texts, and the day is always the same one.

A text is asked about and gives no orders: what looks like a control token in it (`<|im_end|>` in a row of a file) is
read as the letters it is written with, so that a row cannot write a turn of the model's own.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from medx_core.errors import BadInput, ModelUnavailable
from medx_core.prompts import VerdictPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = (
    "You answer clinical questions for a research study. Be brief, factual and careful. "
    "Say when a person should be seen by a clinician."
)
TEXT_PROMPT_VERSION = "text-v1"
# transformers gives templates `strftime_now`, with which those of Llama 3.2, SmolLM3, GPT-OSS and Granite write today's
# date: the same question would get another score tomorrow. A macro of that name stands in front of the function.
_DAY = {"%Y": "2026", "%y": "26", "%m": "01", "%d": "01", "%B": "January", "%b": "Jan", "%A": "Thursday", "%a": "Thu",
        "%H": "12", "%M": "00", "%S": "00"}  # fmt: skip
SAME_DAY = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f"|replace({sign!r}, {words!r})" for sign, words in _DAY.items())
    + " }}{% endmacro %}"
)


# Tokens that a tokenizer was given and does not call special, but that templates write: Qwen 3's <think>, Phi 3's </s>.
WRITTEN_LIKE_CONTROL = re.compile(r"[<\[|{].+[>\]|}]")


@dataclass(frozen=True)
class ControlTokens:
    """What a tokenizer takes for more than text: `written` matches the strings, `ids` are their tokens.

    The token for unknown words is among the strings alone, since any strange word becomes it. `before` and `after` are the
    tokens that the tokenizer itself puts around a text.
    """

    written: re.Pattern[str]
    ids: frozenset[int]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def among(self, ids: Iterable[int]) -> int:
        """Return how many of `ids` are control tokens."""
        return sum(token in self.ids for token in ids)


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> ControlTokens:
    """Return the control tokens of a tokenizer: its special ones, and added ones that are written like those."""
    return _control_tokens(tokenizer, len(tokenizer))


@lru_cache(maxsize=4)
def _control_tokens(tokenizer: "PreTrainedTokenizerBase", _known: int) -> ControlTokens:
    ids = {
        token.content: number
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special or WRITTEN_LIKE_CONTROL.fullmatch(token.content)
    } | dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    longest_first = sorted(ids, key=len, reverse=True)
    alone, whole = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (False, True))
    begins = next((at for at in range(len(whole)) if whole[at : at + len(alone)] == alone), 0)
    return ControlTokens(
        written=re.compile("|".join(map(re.escape, longest_first)) or "(?!)"),
        ids=frozenset(ids.values()) - {tokenizer.unk_token_id},
        before=tuple(whole[:begins]),
        after=tuple(whole[begins + len(alone) :]),
    )


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase", text: str, *, add_special_tokens: bool = True
) -> list[int]:
    """Return the token ids of a prompt that the model goes on from: without any end token behind the text.

    Raises:
        BadInput: the text holds a control token that this tokenizer cannot read as text.
    """
    return _ids(tokenizer, _marked(tokenizer, text), (text,), add_special_tokens=add_special_tokens)


def _marked(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """Return the text with the library's marks around whatever looks like a control token in it."""
    from transformers.utils.chat_template_utils import mark_control_tokens

    written = control_tokens(tokenizer).written
    return str(mark_control_tokens(text, written)) if written.search(text) else text


def _ids(
    tokenizer: "PreTrainedTokenizerBase",
    shown: str,
    texts: Sequence[str],
    *,
    add_special_tokens: bool = False,
) -> list[int]:
    """Return the token ids of what is shown to the model, in which `texts` stand as `_marked` made them.

    Whatever holds no control token is tokenised in one piece, as if there were none in the world.
    """
    from transformers.utils.chat_template_utils import encode_marked_chat

    controls = control_tokens(tokenizer)
    held = [match for text in texts for match in controls.written.findall(text)]
    which = f"{held[0]!r}, which" if held else "something that"
    refusal = BadInput(
        f"The text holds {which} this model's tokenizer takes for a control token and cannot read as text; leave it out."
    )
    if held:
        try:
            ids = list(map(int, encode_marked_chat(tokenizer, shown)))
        except (ValueError, TypeError, AttributeError) as error:
            raise refusal from error
        ids = [*controls.before, *ids, *controls.after] if add_special_tokens else ids
    else:
        ids = [int(token) for token in tokenizer(shown, add_special_tokens=add_special_tokens)["input_ids"]]
    around = controls.among((*controls.before, *controls.after)) if add_special_tokens else 0
    if controls.among(ids) > around + len(controls.written.findall(shown)) - len(held):
        raise refusal
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id}
    while len(ids) > 1 and ids[-1] in ends:
        ids.pop()
    return ids


def verdict_ids(
    tokenizer: "PreTrainedTokenizerBase", prompt: VerdictPrompt, text: str, behind: str = ""
) -> list[int]:
    """Return the token ids of a verdict prompt for `text`, with whatever is written `behind` it.

    Raises:
        ModelUnavailable: the prompt is for a chat template, and the tokenizer has none that shows it.
        BadInput: the model cannot be asked about this very text.
    """
    if not prompt.chat:
        return prompt_ids(tokenizer, prompt.filled(text) + behind)
    ids = _chat_ids(tokenizer, prompt.instruction, prompt.asked(text), behind)
    if ids is None:
        raise ModelUnavailable("This model has no chat template that shows instruction and question.")
    return ids


def text_prompt_ids(tokenizer: "PreTrainedTokenizerBase", question: str) -> list[int]:
    """Return the token ids of the prompt for a written answer: the chat template where the model has one that works.

    Raises:
        BadInput: the model cannot be asked this very question.
    """
    ids = _chat_ids(tokenizer, SYSTEM, question)
    return prompt_ids(tokenizer, f"{SYSTEM}\n\nQuestion: {question}\nAnswer:") if ids is None else ids


def _chat_ids(
    tokenizer: "PreTrainedTokenizerBase", system: str, question: str, answer: str = ""
) -> list[int] | None:
    """Return the token ids of a question in the chat template, of which the template alone writes control tokens."""
    texts = (system, question, answer)
    shown = chat_text(tokenizer, *(_marked(tokenizer, text) for text in texts))
    return None if shown is None else _ids(tokenizer, shown, texts)


@dataclass(frozen=True)
class ChatForm:
    """How a chat template is handed a question: with the system text in a turn of its own, and texts as lists of parts."""

    system_apart: bool
    in_parts: bool

    def messages(self, system: str, question: str) -> list[dict[str, Any]]:
        """Return the turns that ask a question."""
        asked = question if self.system_apart or not system else f"{system}\n\n{question}"
        # An empty system text is not the same as none, for which some templates put in one of their own.
        turns = [("system", system)] if self.system_apart and system else []
        return [self.message(role, text) for role, text in (*turns, ("user", asked))]

    def message(self, role: str, text: str) -> dict[str, Any]:
        """Return one turn."""
        return {"role": role, "content": [{"type": "text", "text": text}] if self.in_parts else text}


FORMS = tuple(
    ChatForm(system_apart, in_parts) for in_parts in (False, True) for system_apart in (True, False)
)
# What templates were seen to change: one that cuts at "?", escapes <, & and quotes, or prints a list of parts as Python
# writes it (a line break shows as a backslash and an n), or lets no more than so many letters through.
TRIED = (
    'Is K+ < 3 & Na > 150 "low"? It\'s unclear.\nWhat then?',
    "The heart pumps blood. " * 50,
)


def chat_form(tokenizer: "PreTrainedTokenizerBase", *, system: bool) -> ChatForm | None:
    """Return the form in which a tokenizer's chat template shows what it is given, with or without a `system` text.

    Tried in turn: the system text in its own role, then in front of the question (Gemma 2 refuses the role, Mistral 0.1
    lets only user and assistant alternate), each as plain text and as a list of parts. The first form is taken that shows
    all of some awkward texts, and every question is asked in it; None where there is no template, or none does.
    """
    return _chat_form(tokenizer, str(tokenizer.chat_template or ""), system)


@lru_cache(maxsize=16)
def _chat_form(tokenizer: "PreTrainedTokenizerBase", template: str, system: bool) -> ChatForm | None:
    instruction = SYSTEM if system else ""
    return next((form for form in FORMS if template and _shows_all(tokenizer, form, instruction)), None)


def _shows_all(tokenizer: "PreTrainedTokenizerBase", form: ChatForm, system: str) -> bool:
    return all(_holds(_shown(tokenizer, form.messages(system, text)), system, text) for text in TRIED)


def _holds(shown: str, *texts: str) -> bool:
    return all(text.strip() in shown for text in texts)


def chat_text(
    tokenizer: "PreTrainedTokenizerBase", system: str, question: str, answer: str = ""
) -> str | None:
    """Return a question as the model's chat template writes it, up to where the answer begins, and the answer's beginning.

    The form is the model's (`chat_form`), always with `enable_thinking` off (Qwen 3 would write out its thoughts first);
    None where it has none. An `answer` stands as the template writes it: behind the space, too, that Mistral's and
    Llama 2's put before it and do not count to the prompt.

    Raises:
        BadInput: the template leaves out or changes part of this question.
    """
    form = chat_form(tokenizer, system=bool(system))
    if form is None:
        return None
    messages = form.messages(system, question)
    shown = _shown(tokenizer, messages)
    if not _holds(shown, system, question):
        raise BadInput(
            "This model's chat template leaves out or changes part of this text, so that it is not asked; put it in other words."
        )
    return shown + _before_answer(tokenizer, form, messages, shown) + answer if answer else shown


def _before_answer(
    tokenizer: "PreTrainedTokenizerBase", form: ChatForm, messages: list[dict[str, Any]], shown: str
) -> str:
    """Return the white space that the template writes between where the model's turn begins and what the model says."""
    says = "X"
    told = _shown(tokenizer, [*messages, form.message("assistant", says)], add_generation_prompt=False)
    behind = told.removeprefix(shown) if told.startswith(shown) else ""
    bare = behind.lstrip()
    return behind[: len(behind) - len(bare)] if bare.startswith(says) else ""


def _shown(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    *,
    add_generation_prompt: bool = True,
) -> str:
    """Return what the template makes of the messages; empty where it refuses them."""
    try:
        template = tokenizer.get_chat_template()
        shown = tokenizer.apply_chat_template(
            messages,
            chat_template=f"{SAME_DAY}{template}" if "strftime_now" in template else template,
            add_generation_prompt=add_generation_prompt,
            tokenize=False,
            enable_thinking=False,
        )
    except Exception:  # noqa: BLE001 - a template is a program of its makers and may raise anything
        return ""
    return str(shown)
