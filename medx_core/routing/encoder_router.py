"""The paper's kind of router: a fine-tuned sequence classifier (RoBERTa, BERT and their like).

It lies in a folder of safetensors weights, tokenizer and provenance, and is used by naming that folder in
`MEDX_ROUTER_ENCODER`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from medx_core.categories import Route
from medx_core.errors import RouterUnavailable
from medx_core.models.packed_linear import pack_linear_layers
from medx_core.routing.embedding_router import NONE_ROW, in_scope_scores, softmax
from medx_core.routing.encoder_files import (
    PROVENANCE,
    first_line,
    folder_sha256,
    freeze,
    load_network,
    quiet_loading,
)
from medx_core.routing.encoders import forward_rows
from medx_core.routing.heads import LABELS
from medx_core.routing.router import Floats, routes_from

FORMAT = "medx-encoder-router-1"


@dataclass(frozen=True)
class EncoderProvenance:
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
class EncoderRouter:
    """A fine-tuned classifier of four labels on one device. `own_threshold` None uses the provenance's."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    provenance: EncoderProvenance
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


def save_encoder_router(
    folder: Path,
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    provenance: EncoderProvenance,
) -> None:
    """Write a fine-tuned router into a folder; the provenance comes last and makes it complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROVENANCE).unlink(missing_ok=True)
    with quiet_loading():
        network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / PROVENANCE).write_text(json.dumps(asdict(provenance), indent=2), encoding="utf-8")


def load_encoder_router(folder: Path, *, device: str = "cpu", threshold: float = 0.0) -> EncoderRouter:
    """Load a fine-tuned router. A `threshold` of 0 leaves its own.

    Raises:
        RouterUnavailable: the folder holds none, or one for other labels.
    """
    provenance = _read_provenance(folder)
    folder_sha256(folder)  # refuses a folder without safetensors
    network, tokenizer = load_network(
        AutoModelForSequenceClassification, folder, device=device, what="The router"
    )
    freeze(network)
    pack_linear_layers(network)
    return EncoderRouter(network, tokenizer, provenance, torch.device(device), threshold or None)


def _read_provenance(folder: Path) -> EncoderProvenance:
    try:
        content = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        provenance = EncoderProvenance(**{**content, "labels": tuple(content["labels"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RouterUnavailable(
            f"The folder {folder} holds no router that MedX fine-tuned ({first_line(error)}); run `medx router train --encoder`."
        ) from error
    if provenance.format != FORMAT or provenance.labels != LABELS:
        raise RouterUnavailable(f"The router in {folder} knows other labels; train it again.")
    return provenance
