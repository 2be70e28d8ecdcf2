"""The words around a question that is answered in writing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = (
    "You answer clinical questions for a research study. Be brief, factual and careful. "
    "Say when a person should be seen by a clinician."
)
TEXT_PROMPT_VERSION = "text-v1"


def text_prompt_ids(tokenizer: "PreTrainedTokenizerBase", question: str) -> list[int]:
    """Return the token ids of the prompt for a written answer: the chat template where the model has one."""
    if tokenizer.chat_template:
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
        shown = str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        return [int(token) for token in tokenizer(shown, add_special_tokens=False)["input_ids"]]
    plain = f"{SYSTEM}\n\nQuestion: {question}\nAnswer:"
    return [int(token) for token in tokenizer(plain)["input_ids"]]
