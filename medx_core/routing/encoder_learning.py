"""One epoch after another: how a classifier learns from labelled texts, every step decided by the seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from medx_core.routing.forward_pass import padded, tokens_of
from medx_core.routing.heads import LABELS
from medx_core.routing.training import Labels

BATCHES_A_PILE = 16
"""Texts are shuffled, and sorted by length within piles of so many batches."""


@dataclass(frozen=True)
class FineTuning:
    """How to fine-tune. Training ends after `patience` epochs without a lower loss on the texts kept aside."""

    seed: int = 1
    max_epochs: int = 8
    patience: int = 2
    batch_rows: int = 16
    learning_rate: float = 1e-4
    warm_up_share: float = 0.1
    kept_aside_share: float = 0.15
    device: str = "cpu"


class Learner:
    """A classifier with its optimiser: learns one epoch at a time, every step decided by the seed."""

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        texts: Sequence[str],
        labels: Labels,
        *,
        settings: FineTuning,
    ) -> None:
        self._network, self._tokenizer, self._labels = network, tokenizer, labels
        self._token_ids = tokens_of(tokenizer, texts)
        self._weights = _class_weights(labels).to(network.device)
        self._steps_an_epoch = -(-len(self._token_ids) // settings.batch_rows)
        self._random = np.random.default_rng(settings.seed)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=0.01
        )
        steps = settings.max_epochs * self._steps_an_epoch
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, _warm_up_then_fall(steps, settings.warm_up_share)
        )

    def learn_one_epoch(self) -> None:
        """Go through all texts once, in an order of its own."""
        self._network.train(mode=True)
        for batch in self._batches():
            self._learn(batch)
        self._network.train(mode=False)

    def _batches(self) -> list[Labels]:
        """Return the epoch's batches in random order, each of texts of like length, which saves most of the padding."""
        order = self._random.permutation(len(self._token_ids))
        lengths = np.array([len(self._token_ids[index]) for index in order])
        piles = np.array_split(np.arange(len(order)), -(-self._steps_an_epoch // BATCHES_A_PILE))
        sorted_piles = np.concatenate([pile[np.argsort(lengths[pile], kind="stable")] for pile in piles])
        batches = np.array_split(order[sorted_piles], self._steps_an_epoch)
        return [batches[place] for place in self._random.permutation(len(batches))]

    def _learn(self, batch: Labels) -> None:
        rows = padded(self._tokenizer, [self._token_ids[index] for index in batch], self._network.device)
        wanted = torch.as_tensor(self._labels[batch], device=self._network.device)
        loss = torch.nn.functional.cross_entropy(self._network(**rows).logits, wanted, weight=self._weights)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()


def _class_weights(labels: Labels) -> Tensor:
    """Return weights (4,) under which every label counts alike."""
    counts = np.bincount(labels, minlength=len(LABELS))
    return torch.tensor(len(labels) / (len(LABELS) * counts), dtype=torch.float32)


def _warm_up_then_fall(steps: int, warm_up_share: float) -> Callable[[int], float]:
    warm_up = max(1, round(steps * warm_up_share))
    return lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / max(1, steps - warm_up)))
