"""From the last hidden state to a score: how much likelier the TRUE word is than the FALSE word, in float32.

For words of one token that is the difference of their logits; for longer ones, of their tokens' summed log-probabilities.
bfloat16 logits near 17 step by an eighth, so their difference ties. Where the head is a plain matrix, its two rows
are therefore applied in float32; where it is not (soft caps, scales), the network's own logits are used.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from medx_core.errors import BadInput, ModelUnavailable
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import PROBES, SharedPrefix
from medx_core.prompts import VerdictPrompt

LOGITS_AT_ONCE = 1 << 24  # 64 MB in float32


class AnswerHead:
    """How likely the answer words TRUE and FALSE of one prompt are; `true_id` and `false_id` are their first tokens."""

    def __init__(self, prefix: SharedPrefix) -> None:
        self._model = prefix.model
        self._words = prefix.answer_words
        self.true_id, self.false_id = answer_word_ids(prefix)
        self._rows = output_rows(self._model, [self.true_id, self.false_id])
        self._plain = self._head_is_plain(prefix)

    def logit_differences(self, states: Tensor) -> Tensor:
        """Return log P(TRUE word) - log P(FALSE word) for final states: (rows,), float32, CPU.

        The states are those of `SharedPrefix.last_states`: (rows, hidden_size), or with those along the words in between.
        """
        with torch.inference_mode():
            return (self.differences(states) if states.dim() == 2 else self._of_words(states)).cpu()

    def differences(self, states: Tensor) -> Tensor:
        """Return the same for the words' first tokens, on the states' device, so that a gradient may be taken through it."""
        if self._plain:
            logits = self._rows_in_float32(states)
        else:
            logits = network_logits(self._model, states)[:, [self.true_id, self.false_id]].float()
        return logits[:, 0] - logits[:, 1]

    def answer_words(self, states: Tensor) -> Tensor:
        """Return where the likeliest of all tokens begins one of the two answer words: (rows,), bool, CPU."""
        last = _last_prompt_states(states)
        with torch.inference_mode():
            likeliest = torch.cat(
                [network_logits(self._model, part).argmax(dim=-1) for part in self._parts(last)]
            )
            return ((likeliest == self.true_id) | (likeliest == self.false_id)).cpu()

    def _of_words(self, states: Tensor) -> Tensor:
        """Sum each word's log-probabilities over its tokens; `states` is (rows, states, hidden_size)."""
        return torch.cat([self._of_words_at_once(part) for part in self._parts(states)])

    def _of_words_at_once(self, states: Tensor) -> Tensor:
        logs = network_logits(self._model, states).float().log_softmax(dim=-1)
        sums, at = [], 1
        for word in self._words:
            read_from = [0, *range(at, at + len(word) - 1)]  # the last prompt token, then the word's own
            at += len(word) - 1
            sums.append(logs[:, read_from, list(word)].sum(dim=1))
        return sums[0] - sums[1]

    def _parts(self, states: Tensor) -> tuple[Tensor, ...]:
        """Split states by rows, so that the logits of a part take little memory."""
        per_row = states[0, ..., 0].numel() * self._model.network.config.get_text_config().vocab_size
        return torch.split(states, max(1, LOGITS_AT_ONCE // per_row))

    def _rows_in_float32(self, states: Tensor) -> Tensor:
        weight, bias = self._rows
        return functional.linear(states.float(), weight, bias)

    def _head_is_plain(self, prefix: SharedPrefix) -> bool:
        prompt = prefix.encoded(PROBES[0])
        with torch.inference_mode():
            ids = torch.tensor([prompt], device=self._model.device)
            own = (
                self._model.network(input_ids=ids, use_cache=False)
                .logits[:, -1, [self.true_id, self.false_id]]
                .float()
            )
            ours = self._rows_in_float32(_last_prompt_states(prefix.last_states([prompt])))
        return bool((own - ours).abs().max() <= 0.02 * own.abs().max().clamp(min=1.0))


def output_matrix(model: LoadedModel) -> nn.Module:
    """Return the layer that turns final states into one logit per token."""
    head: nn.Module = model.network.get_output_embeddings()  # type: ignore[no-untyped-call]
    return head


def output_rows(model: LoadedModel, tokens: list[int]) -> tuple[Tensor, Tensor | None]:
    """Return the output layer's rows (tokens, hidden_size) and biases for some tokens, in float32."""
    head = output_matrix(model)
    weight: Tensor = head.weight  # type: ignore[assignment]  # packed or plain, torch types any attribute as a module too
    bias: Tensor | None = getattr(head, "bias", None)
    return weight[tokens].float(), None if bias is None else bias[tokens].float()


def network_logits(model: LoadedModel, states: Tensor) -> Tensor:
    """Return the logits of all tokens for final states (..., hidden_size), as the network itself makes them."""
    logits: Tensor = output_matrix(model)(states)
    cap = getattr(model.network.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        logits = torch.tanh(logits / cap) * cap
    scale = getattr(model.network.config.get_text_config(), "logit_scale", None)
    # Granite's name for its inverse
    divisor = getattr(model.network.config.get_text_config(), "logits_scaling", None)
    return logits * (scale or 1.0) / (divisor or 1.0) if scale or divisor else logits


def answer_word_ids(prefix: SharedPrefix) -> tuple[int, int]:
    """Return the first token of the TRUE and of the FALSE answer word, behind what both begin with.

    Raises:
        ModelUnavailable: the tokenizer gives both words the same first token.
    """
    true_word, false_word = prefix.answer_words
    if not true_word or not false_word or true_word[0] == false_word[0]:
        raise ModelUnavailable(
            f"This model's tokenizer cannot tell the answer words {prefix.prompt.true_word!r} and {prefix.prompt.false_word!r} apart."
        )
    return true_word[0], false_word[0]


def why_unaskable(model: LoadedModel, prompt: VerdictPrompt) -> str:
    """Return why a model can be asked nothing with a prompt, as a part of a sentence; empty where it can.

    Takes tokens and no pass: whether the network reads such a prompt right is for the model's check.
    """
    try:
        if PROBES[0] not in prompt.asked(PROBES[0]):
            return f"the prompt {prompt.version} does not hold the question"
        prefix = SharedPrefix(model, prompt, shared=False)
        answer_word_ids(prefix)
        prefix.encoded(PROBES[0])
    except (LookupError, ValueError):  # of `str.format`
        return f"the prompt {prompt.version} has no one place for the question"
    except (ModelUnavailable, BadInput) as error:
        sentence = str(error).rstrip(".")
        return f"{sentence[:1].lower() + sentence[1:]} (prompt {prompt.version})"
    return ""


def _last_prompt_states(states: Tensor) -> Tensor:
    """Return the states of the last prompt tokens (rows, hidden_size), without those along the answer words."""
    return states if states.dim() == 2 else states[:, 0]


def score(logit_difference: float) -> float:
    """Return the share of TRUE between the two answer words: sigmoid of the logit difference."""
    return float(torch.sigmoid(torch.tensor(logit_difference, dtype=torch.float32)))
