"""The paper's kind of router: a fine-tuned sequence classifier (RoBERTa, BERT and their like), and its training.

It is a folder of safetensors weights, tokenizer and provenance, and is used by naming that folder in
`MEDX_ROUTER_ENCODER`. Training uses class weights, early stopping and one seed for everything. The texts that decide
when to stop also set temperature and threshold; the network never learns from them.
"""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from medx_core.clock import iso, utc_now
from medx_core.data.routing_texts import RoutingText
from medx_core.errors import RouterUnavailable
from medx_core.models.packed_linear import pack_linear_layers
from medx_core.routing.encoder_files import PROVENANCE, encoder_folder, first_line, folder_sha256
from medx_core.routing.encoders import (
    forward_rows,
    freeze,
    load_network,
    padded,
    quiet_loading,
    tokens_of,
)
from medx_core.routing.evaluation import calibrated, log_loss
from medx_core.routing.heads import TrainedOn
from medx_core.routing.router import (
    LABELS,
    Floats,
    Labels,
    ScoringRouter,
    category_probabilities,
    in_scope_scores,
    label_indices,
    texts_sha256,
    with_added,
)

FORMAT = "medx-encoder-router-1"


@dataclass(frozen=True)
class ClassifierProvenance(TrainedOn):
    """Where a fine-tuned router comes from and how its logits are read."""

    temperature: float
    threshold: float
    added_texts: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = LABELS
    format: str = FORMAT


@dataclass(frozen=True)
class Classifier(ScoringRouter):
    """A fine-tuned classifier of four labels. `own_threshold` None uses the provenance's."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    provenance: ClassifierProvenance
    own_threshold: float | None = None

    @property
    def name(self) -> str:
        """What is stored with every route."""
        return f"encoder/{Path(self.provenance.encoder).name}/{self.provenance.data_sha256[:8]}"

    @property
    def threshold(self) -> float:
        """The in-scope score below which the router abstains."""
        return self.provenance.threshold if self.own_threshold is None else self.own_threshold

    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) in the order of CATEGORIES, and in-scope scores (n,) from 0 to 1."""
        logits = classifier_logits(self.network, self.tokenizer, texts)
        return category_probabilities(logits, self.provenance.temperature), in_scope_scores(logits)


def classifier_logits(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Floats:
    """Return a classifier's logits (n, 4) in float32."""
    return forward_rows(network, tokenizer, texts, lambda batch: network(**batch).logits, width=len(LABELS))


def save_classifier(
    folder: Path,
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    provenance: ClassifierProvenance,
) -> None:
    """Write a fine-tuned router into a folder; the provenance comes last and makes it complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROVENANCE).unlink(missing_ok=True)
    with quiet_loading():
        network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / PROVENANCE).write_text(json.dumps(asdict(provenance), indent=2), encoding="utf-8")


def load_classifier(folder: Path, *, device: str = "cpu", threshold: float = 0.0) -> Classifier:
    """Load a fine-tuned router. A `threshold` of 0 leaves its own.

    Raises:
        RouterUnavailable: the folder has none, or one for other labels.
    """
    try:
        content = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        provenance = ClassifierProvenance(**{**content, "labels": tuple(content["labels"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RouterUnavailable(
            f"The folder {folder} is not a router that MedX fine-tuned ({first_line(error)}); run `medx router train --encoder`."
        ) from error
    if provenance.format != FORMAT or provenance.labels != LABELS:
        raise RouterUnavailable(f"The router in {folder} knows other labels; train it again.")
    folder_sha256(folder)  # refuses a folder without safetensors
    network, tokenizer = load_network(AutoModelForSequenceClassification, folder, device, "The router")
    freeze(network)
    pack_linear_layers(network)
    return Classifier(network, tokenizer, provenance, threshold or None)


BATCHES_PER_PILE = 16
"""Texts are shuffled, and sorted by length within piles of this many batches."""


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


@dataclass(frozen=True)
class EpochReport:
    """The loss and accuracy after an epoch, on the texts kept aside."""

    epoch: int
    max_epochs: int
    loss: float
    accuracy: float


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
        self.network, self.tokenizer, self._labels = network, tokenizer, labels
        self._token_ids = tokens_of(tokenizer, texts)
        # every label has the same total weight
        weights = len(labels) / (len(LABELS) * np.bincount(labels, minlength=len(LABELS)))
        self._weights = torch.tensor(weights, dtype=torch.float32, device=network.device)
        self._steps_per_epoch = -(-len(self._token_ids) // settings.batch_rows)
        self._random = np.random.default_rng(settings.seed)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=0.01
        )
        steps = settings.max_epochs * self._steps_per_epoch
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, _warm_up_then_fall(steps, settings.warm_up_share)
        )

    def learn_one_epoch(self) -> None:
        """Go through all texts once, in an order of its own."""
        self.network.train(mode=True)
        for batch in self._batches():
            self._learn(batch)
        self.network.train(mode=False)

    def _batches(self) -> list[Labels]:
        """Return the epoch's batches in random order, each of texts of like length, which saves most of the padding."""
        order = self._random.permutation(len(self._token_ids))
        lengths = np.array([len(self._token_ids[index]) for index in order])
        piles = np.array_split(np.arange(len(order)), -(-self._steps_per_epoch // BATCHES_PER_PILE))
        sorted_piles = np.concatenate([pile[np.argsort(lengths[pile], kind="stable")] for pile in piles])
        batches = np.array_split(order[sorted_piles], self._steps_per_epoch)
        return [batches[place] for place in self._random.permutation(len(batches))]

    def _learn(self, batch: Labels) -> None:
        rows = padded(self.tokenizer, [self._token_ids[index] for index in batch], self.network.device)
        wanted = torch.as_tensor(self._labels[batch], device=self.network.device)
        loss = torch.nn.functional.cross_entropy(self.network(**rows).logits, wanted, weight=self._weights)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()


def _warm_up_then_fall(steps: int, warm_up_share: float) -> Callable[[int], float]:
    warm_up = max(1, round(steps * warm_up_share))
    return lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / max(1, steps - warm_up)))


def train_classifier(
    bundled: Sequence[RoutingText],
    encoder: str,
    *,
    settings: FineTuning,
    added: Sequence[RoutingText] = (),
    progress: Callable[[EpochReport], None] | None = None,
) -> Classifier:
    """Fine-tune the encoder called `encoder` (the wheel's, a folder, a hub id) on labelled texts.

    Raises:
        RouterUnavailable: the encoder is not available or cannot classify.
        BadInput: a label has too few texts.
    """
    from sklearn.model_selection import train_test_split  # here, so that routing does not load it

    folder = encoder_folder(encoder)
    texts = with_added(bundled, added)
    words, labels = [text.text for text in texts], label_indices(texts)
    learn, judge = train_test_split(
        np.arange(len(words)),
        test_size=max(settings.kept_aside_share, len(LABELS) / len(words)),
        stratify=labels,
        random_state=settings.seed,
    )
    judge_words = [words[index] for index in judge]
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network, tokenizer = load_network(
            AutoModelForSequenceClassification,
            folder,
            settings.device,
            "A classifier to fine-tune",
            num_labels=len(LABELS),
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
        learner = Learner(
            network, tokenizer, [words[index] for index in learn], labels[learn], settings=settings
        )
        best = _fine_tuned(learner, judge_words, labels[judge], settings, progress or (lambda _: None))
    logits = classifier_logits(network, tokenizer, judge_words)
    calibration = calibrated(logits, logits, labels[judge])
    provenance = ClassifierProvenance(
        encoder=encoder,
        encoder_sha256=folder_sha256(folder),
        data_sha256=texts_sha256(texts),
        texts=len(texts),
        added_texts=len(added),
        seed=settings.seed,
        created_at=iso(utc_now()) or "",
        temperature=calibration.temperature,
        threshold=calibration.threshold,
        figures={
            "best_epoch": best.epoch,
            "accuracy_kept_aside": best.accuracy,
            "calibration_error_kept_aside": calibration.error,
        },
    )
    return Classifier(network, tokenizer, provenance)


def _fine_tuned(
    learner: Learner,
    words: Sequence[str],
    labels: Labels,
    settings: FineTuning,
    progress: Callable[[EpochReport], None],
) -> EpochReport:
    """Learn until the loss on the texts kept aside stops falling; leave the best weights, return their epoch."""
    best, best_weights = None, {}
    for epoch in range(1, settings.max_epochs + 1):
        learner.learn_one_epoch()
        logits = classifier_logits(learner.network, learner.tokenizer, words)
        accuracy = float((logits.argmax(axis=1) == labels).mean())
        report = EpochReport(epoch, settings.max_epochs, log_loss(logits, labels), accuracy)
        if best is None or report.loss < best.loss:
            best, best_weights = report, copy.deepcopy(learner.network.state_dict())
        progress(report)
        if epoch - best.epoch >= settings.patience:
            break
    if best is None:
        raise ValueError("fine-tuning needs one epoch or more")
    learner.network.load_state_dict(best_weights)
    learner.network.requires_grad_(requires_grad=False)
    return best
