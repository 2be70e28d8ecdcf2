"""From words to the token ids that a model is asked with.

A tokenizer may append an end token of its own accord, and a chat template may refuse a system text, want its content in
parts, drop what it is given, or begin a train of thought unless told not to. So nothing is taken on trust: the tokens of
a prompt never end in an end token, and of a template's forms the first is used that shows both texts.
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
    shown = chat_text(tokenizer, prompt.instruction, prompt.asked(text))
    if shown is None:
        raise ModelUnavailable("This model has no chat template that shows instruction and question.")
    return prompt_ids(tokenizer, shown + behind, add_special_tokens=False)


def chat_text(tokenizer: "PreTrainedTokenizerBase", system: str, question: str) -> str | None:
    """Return a question as the model's chat template writes it, up to where the answer begins.

    Tried in turn: the system text in its own role, then in front of the question (Gemma 2 refuses the role, Mistral 0.1
    lets only user and assistant alternate), each as plain text and as a list of parts; always with `enable_thinking`
    off (Qwen 3 would write out its thoughts first). The first form that shows both texts is taken; None where the
    tokenizer has no template, or one that shows them in no form.
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
            return shown
    return None


def _in_parts(messages: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {"role": each["role"], "content": [{"type": "text", "text": each["content"]}]} for each in messages
    ]


def _shown(tokenizer: "PreTrainedTokenizerBase", messages: list[Any]) -> str:
    """Return what the template makes of the messages; empty where it refuses them."""
    try:
        shown = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, enable_thinking=False
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
