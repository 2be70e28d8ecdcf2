"""Fine-tuning with LoRA: what steering claims to replace, as a reference.

The same training statements, the answer words of the chosen prompt without its examples, low-rank adapters on every
linear layer (Hu et al., LoRA, arXiv 2106.09685) through peft. The adapters are taken off again on every way out: the
model is left as it was.
"""

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from medx_core.data.labelled_statements import LabelledStatement
from medx_core.evaluation.result import FineTuning
from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.padding import position_arguments
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.scoring import answer_word_ids
from medx_core.prompts import VerdictPrompt


@dataclass(frozen=True)
class FineTuningSpec:
    """How the adapters are trained; the seed decides their first values and the order of statements."""

    rank: int = 8
    epochs: int = 2
    learning_rate: float = 2e-4
    batch_rows: int = 16
    seed: int = 1


@dataclass(frozen=True)
class FineTuned:
    """Scores (texts,) of the adapted model, logit(TRUE word) - logit(FALSE word), and what training took."""

    scores: Tensor
    training: FineTuning


def fine_tuned_scores(
    model: LoadedModel,
    prompt: VerdictPrompt,
    train: Sequence[LabelledStatement],
    texts: Sequence[str],
    spec: FineTuningSpec | None = None,
) -> FineTuned:
    """Train adapters on `train`, score `texts` with them, take them off.

    Raises:
        ModelUnavailable: the device's memory does not suffice, or the answer words cannot be told apart.
    """
    chosen = spec or FineTuningSpec()
    short = replace(prompt, version=f"{prompt.version}-0shot-lora", shots=(), instruction="")
    reader = _AnswerReader(model, short)
    began = time.perf_counter()
    with memory_faults_in_words("Fine-tuning"), _adapted(model, chosen) as adapted:
        _train(adapted, reader, train, chosen)
        seconds = time.perf_counter() - began
        scores = _scores(adapted, reader, texts, chosen.batch_rows)
        count = sum(weights.numel() for weights in adapted.parameters() if weights.requires_grad)
    training = FineTuning(training_seconds=seconds, trained_parameters=count, prompt=short.version)
    return FineTuned(scores, training)


@contextmanager
def _adapted(model: LoadedModel, spec: FineTuningSpec) -> Iterator[nn.Module]:
    """Put adapters on the network; afterwards, also after an error, its own weights are alone again, frozen."""
    config = LoraConfig(
        r=spec.rank, lora_alpha=2 * spec.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():
        torch.manual_seed(spec.seed)
        adapted = get_peft_model(model.network, config)
        try:
            yield adapted
        finally:
            adapted.unload()
            model.network.train(mode=False)
            model.network.requires_grad_(requires_grad=False)


class _AnswerReader:
    """Turns texts into batches and a network's output into logit differences, with gradients."""

    def __init__(self, model: LoadedModel, prompt: VerdictPrompt) -> None:
        prefix = SharedPrefix(model, prompt)
        self._encode = prefix.encoded
        self._words = list(answer_word_ids(prefix))
        self._model = model

    def differences(self, network: nn.Module, texts: Sequence[str]) -> Tensor:
        """Return logit(TRUE word) - logit(FALSE word) of each text: (texts,), float32."""
        batch = self._model.padded([self._encode(text) for text in texts])
        own = self._model.network
        only_last = (
            {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(own.forward).parameters else {}
        )
        output = network(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            use_cache=False,
            **position_arguments(own, batch.positions),
            **only_last,
        )
        logits = output.logits[:, -1, self._words].float()
        difference: Tensor = logits[:, 0] - logits[:, 1]
        return difference


def _train(
    network: nn.Module, reader: _AnswerReader, train: Sequence[LabelledStatement], spec: FineTuningSpec
) -> None:
    trained = [weights for weights in network.parameters() if weights.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=spec.learning_rate)
    network.train()
    for _ in range(spec.epochs):
        order = torch.randperm(len(train)).tolist()
        for start in range(0, len(order), spec.batch_rows):
            part = [train[i] for i in order[start : start + spec.batch_rows]]
            differences = reader.differences(network, [statement.text for statement in part])
            gold = torch.tensor([float(statement.answer) for statement in part], device=differences.device)
            loss = functional.binary_cross_entropy_with_logits(differences, gold)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()


def _scores(network: nn.Module, reader: _AnswerReader, texts: Sequence[str], rows: int) -> Tensor:
    network.eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    scores = torch.empty(len(texts))
    with torch.inference_mode():
        for start in range(0, len(order), rows):
            part = order[start : start + rows]
            scores[part] = reader.differences(network, [texts[i] for i in part]).cpu()
    return scores
