"""From words to the token ids that a model is asked with.

A tokenizer may append an end token of its own accord, and a chat template may refuse a system text, want its content in
parts, drop what it is given, begin a train of thought unless told not to, or write the date of the day. So nothing is
taken on trust: the tokens of a prompt never end in an end token, of a template's forms the first is used that shows both
texts, and the day is always the same one.
"""

from typing import TYPE_CHECKING, Any

from medx_core.errors import ModelUnavailable
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


def prompt_ids(
    tokenizer: "PreTrainedTokenizerBase", text: str, *, add_special_tokens: bool = True
) -> list[int]:
    """Return the token ids of a prompt that the model goes on from: without any end token behind the text."""
    ids = [int(token) for token in tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]]
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
    """
    if not prompt.chat:
        return prompt_ids(tokenizer, prompt.filled(text) + behind)
    shown = chat_text(tokenizer, prompt.instruction, prompt.asked(text), behind)
    if shown is None:
        raise ModelUnavailable("This model has no chat template that shows instruction and question.")
    return prompt_ids(tokenizer, shown, add_special_tokens=False)


def chat_text(
    tokenizer: "PreTrainedTokenizerBase", system: str, question: str, answer: str = ""
) -> str | None:
    """Return a question as the model's chat template writes it, up to where the answer begins, and the answer's beginning.

    Tried in turn: the system text in its own role, then in front of the question (Gemma 2 refuses the role, Mistral 0.1
    lets only user and assistant alternate), each as plain text and as a list of parts; always with `enable_thinking`
    off (Qwen 3 would write out its thoughts first). The first form that shows both texts is taken; None where the
    tokenizer has no template, or one that shows them in no form. An `answer` stands as the template writes it: behind the
    space, too, that Mistral's and Llama 2's put before it and do not count to the prompt.
    """
    if not tokenizer.chat_template:
        return None
    in_front = [{"role": "user", "content": f"{system}\n\n{question}" if system else question}]
    apart = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    # An empty system text is not the same as none, for which some templates put in one of their own.
    forms = [apart, in_front] if system else [in_front]
    for messages in [*forms, *map(_in_parts, forms)]:
        shown = _shown(tokenizer, messages)
        if system.strip() in shown and question.strip() in shown:
            return shown + _before_answer(tokenizer, messages, shown) + answer if answer else shown
    return None


def _before_answer(tokenizer: "PreTrainedTokenizerBase", messages: list[Any], shown: str) -> str:
    """Return the white space that the template writes between where the model's turn begins and what the model says."""
    says = "X"
    turn: Any = {"role": "assistant", "content": says}
    if not isinstance(messages[0]["content"], str):
        (turn,) = _in_parts([turn])
    told = _shown(tokenizer, [*messages, turn], add_generation_prompt=False)
    behind = told.removeprefix(shown) if told.startswith(shown) else ""
    bare = behind.lstrip()
    return behind[: len(behind) - len(bare)] if bare.startswith(says) else ""


def _in_parts(messages: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"role": each["role"], "content": [{"type": "text", "text": each["content"]}]} for each in messages
    ]


def _shown(
    tokenizer: "PreTrainedTokenizerBase", messages: list[Any], *, add_generation_prompt: bool = True
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


def text_prompt_ids(tokenizer: "PreTrainedTokenizerBase", question: str) -> list[int]:
    """Return the token ids of the prompt for a written answer: the chat template where the model has one that works."""
    shown = chat_text(tokenizer, SYSTEM, question)
    if shown is not None:
        return prompt_ids(tokenizer, shown, add_special_tokens=False)
    return prompt_ids(tokenizer, f"{SYSTEM}\n\nQuestion: {question}\nAnswer:")
