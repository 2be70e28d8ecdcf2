"""How likely a text is to a model: the total log-likelihood of its tokens.

Higher means more plausible to this model. It ranks the original of an entity swap first even where both versions are
false, so it is not a measure of truth (see the association control of the evaluation).
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import common_length
from medx_core.models.prefix_cache import PROBES, SharedPrefix
from medx_core.models.prompting import prompt_ids
from medx_core.models.scoring import LOGITS_AT_ONCE, network_logits
from medx_core.prompts import VerdictPrompt
from medx_core.traces.running import BATCH_ROWS, OnProgress, by_length, naming, silent

DOCUMENT_MARK = "<|endoftext|>"


class TextLikelihoods:
    """One model, with texts that follow `prefix` after a space; the prefix is run once and not counted.

    Without a prefix a text begins a document: its first token is counted after the mark that the model knows for
    this (the tokenizer's own, else <|endoftext|> where it has that, else its begin or end mark).
    """

    def __init__(self, model: LoadedModel, prefix: str = "") -> None:
        self._model = model
        escaped = " ".join(prefix.split()).replace("{", "{{").replace("}", "}}")
        frame = f"{escaped} {{}}" if escaped else "{}"
        self._prefix = SharedPrefix(model, VerdictPrompt("likelihood", frame, "", ""))
        self._start = [] if escaped else start_tokens(model)
        alone = prompt_ids(model.tokenizer, " ".join(prefix.split())) or self._start
        self._uncounted = max(1, common_length([alone, *(self._encoded(probe) for probe in PROBES)]))

    def totals(self, texts: Sequence[str], on_progress: OnProgress = silent) -> NDArray[np.float64]:
        """Return the log-likelihood (natural logarithm) of each text, summed over its tokens: (texts,).

        Raises:
            BadInput: a text is longer than the model reads; the message says how it begins.
            ModelUnavailable: a batch does not fit into the device's memory.
        """
        rows = [self._encoded(text) for text in texts]
        totals = np.zeros(len(texts))
        done = 0
        for batch in by_length(rows, BATCH_ROWS if self._model.can.batch else 1):
            with torch.inference_mode(), memory_faults_in_words("This batch of texts"):
                totals[batch] = self._batch_totals([rows[i] for i in batch]).numpy()
            done += len(batch)
            on_progress(done, len(texts))
        return totals

    def counts(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return how many tokens of each text are counted: (texts,)."""
        return np.array([len(self._encoded(text)) - self._uncounted for text in texts], dtype=np.int64)

    def perplexity(self, texts: Sequence[str]) -> float:
        """Return exp(mean negative log-likelihood per token) over all texts; hooks entered around the call act on it."""
        return float(np.exp(-self.totals(texts).sum() / max(1, self.counts(texts).sum())))

    def _encoded(self, text: str) -> list[int]:
        with naming(text):
            tokens = self._prefix.encoded(text)
            whole = tokens if tokens[: len(self._start)] == self._start else [*self._start, *tokens]
            self._model.refuse_longer(len(whole))
        return whole

    @cached_property
    def _state_before(self) -> Tensor:
        """The final state (1, hidden_size) that a text's first token is read from, where the prefix is shared."""
        return self._prefix.last_states([self._encoded(PROBES[0])[: self._uncounted]])

    def _batch_totals(self, rows: Sequence[Sequence[int]]) -> Tensor:
        # A beginning that reaches into the texts cannot be shared here: every token of theirs is read.
        done = self._prefix.kept_pass(rows, whole=self._prefix.prefix_length > self._uncounted)
        shared = done.batch.mask.shape[1] - done.batch.ids.shape[1]
        read_from, tokens, owner = [], [], []
        for place, row in enumerate(rows):
            own = len(row) - self._uncounted
            first = self._state_before if shared == self._uncounted else done.states[place, -own - 1 : -own]
            read_from += [first, done.states[place, -own:-1]] if own else []
            tokens.append(done.batch.ids[place, len(done.batch.ids[place]) - own :])
            owner.append(torch.full((own,), place))
        totals = torch.zeros(len(rows), dtype=torch.float64)
        if not read_from:
            return totals
        likelihoods = self._log_probabilities(torch.cat(read_from), torch.cat(tokens))
        return totals.index_add(0, torch.cat(owner), likelihoods)

    def _log_probabilities(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the log-probability of each token after its state (tokens, hidden_size): float64, on the CPU."""
        rows = max(1, LOGITS_AT_ONCE // self._model.network.config.get_text_config().vocab_size)
        parts = []
        for part, wanted in zip(torch.split(states, rows), torch.split(tokens, rows), strict=True):
            logits = network_logits(self._model, part).float()
            parts.append(logits.log_softmax(dim=-1).gather(1, wanted[:, None])[:, 0].double().cpu())
        return torch.cat(parts)


def perplexity_after(model: LoadedModel, prompt: Sequence[int], tokens: Sequence[int]) -> float:
    """Return the perplexity of `tokens`, at least one, where they follow the ids of `prompt`.

    Raises:
        ModelUnavailable: the text does not fit into the device's memory.
    """
    ids = torch.tensor([[*prompt, *tokens]], device=model.device)
    with torch.inference_mode(), memory_faults_in_words("This text"):
        logits = model.network(input_ids=ids, use_cache=False).logits[0, -len(tokens) - 1 : -1]
    read_from = logits.float().log_softmax(dim=-1)
    likelihoods = read_from.gather(1, ids[0, -len(tokens) :, None])
    return float((-likelihoods.double().mean()).exp())


def start_tokens(model: LoadedModel) -> list[int]:
    """Return the token a document begins with for this model; none where its tokenizer knows no mark at all."""
    tokenizer = model.tokenizer
    mark = tokenizer.get_vocab().get(DOCUMENT_MARK)
    marks = [*tokenizer("")["input_ids"], mark, tokenizer.bos_token_id, tokenizer.eos_token_id]
    return [int(token) for token in marks if token is not None][:1]
