"""Running statements through one model with one prompt: their scores and states, without and with steering.

Everything is batched, deterministic, and in the order of the texts. A steered run costs one pass over the prompts for
all its conditions together, plus the layers above each steered layer on a single token (see `traces.resuming`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medx_core.models.devices import memory_faults_in_words
from medx_core.models.loading import LoadedModel
from medx_core.models.prefix_cache import SharedPrefix
from medx_core.models.scoring import AnswerHead
from medx_core.prompts import VerdictPrompt
from medx_core.steering.dose import DoseMeter
from medx_core.steering.hooks import SteeringPlan, SteeringStep, recorded, steered
from medx_core.steering.layers import decoder_layers, hidden_size
from medx_core.traces.resuming import SteeredRuns, prompt_batch
from medx_core.traces.running import (
    BATCH_ROWS,
    Arrays,
    FinishedBatches,
    OnProgress,
    batch_key,
    by_length,
    naming,
    silent,
)


@dataclass(frozen=True)
class RunScores:
    """One run over n texts: `scores` (n,) is logit(TRUE word) - logit(FALSE word), a text is judged TRUE at 0 or more.

    `answer_words` (n,) says where the likeliest of all next tokens is one of the two answer words, `doses` (n,) how far
    steering moved each text's states (see `steering.dose`); None where the caller did not ask.
    """

    scores: NDArray[np.float64]
    answer_words: NDArray[np.bool_] | None
    doses: NDArray[np.float64] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class RecordedStates(RunScores):
    """The scores, and the last prompt token's states after some layers: (n, hidden_size) each in float32 on the CPU."""

    states: dict[int, Tensor]


class StatementRunner:
    """One model with one verdict prompt.

    With `finished`, batches that are done are kept on disk and read back when the same run is started again; steered
    runs are kept only where the caller names the conditions (`name`), since a shift may be any function.

    Raises:
        ModelUnavailable: the model's tokenizer cannot tell the prompt's answer words apart, or its check failed there.
    """

    def __init__(
        self,
        model: LoadedModel,
        prompt: VerdictPrompt,
        batch_rows: int = BATCH_ROWS,
        *,
        finished: FinishedBatches | None = None,
    ) -> None:
        model.require("verdict")
        self.model = model
        self.prompt = prompt
        self.batch_rows = batch_rows if model.can.batch else 1
        self.prefix = SharedPrefix(model, prompt)
        self.head = AnswerHead(self.prefix)
        self._runs = SteeredRuns(self.prefix)
        self._finished = finished

    @property
    def width(self) -> int:
        """The width of the residual stream."""
        return hidden_size(self.model.network)

    @property
    def layer_count(self) -> int:
        """How many decoder layers the model has."""
        return len(decoder_layers(self.model.network))

    @property
    def resumes(self) -> bool:
        """Whether runs may go on from cached states (see `SteeredRuns`)."""
        return self._runs.resumes

    def scores(
        self, texts: Sequence[str], on_progress: OnProgress = silent, *, with_answer_words: bool = True
    ) -> RunScores:
        """Score every text, unsteered.

        Raises:
            BadInput: the model cannot be asked about one of the texts, here and in all other runs.
            ModelUnavailable: a batch does not fit into the device's memory, here too.
        """
        return self.recorded(texts, (), on_progress, with_answer_words=with_answer_words)

    def recorded(
        self,
        texts: Sequence[str],
        layers: Sequence[int],
        on_progress: OnProgress = silent,
        *,
        with_answer_words: bool = True,
    ) -> RecordedStates:
        """Score every text and keep its last prompt token's state after each of `layers`, in the same pass.

        Raises:
            VectorRefused: a layer does not exist.
        """

        def run(prompts: list[list[int]], _rows: list[int]) -> Arrays:
            with recorded(self.model.network, layers, first_pass=True) as states:
                read = self._read(self.prefix.last_states(prompts), with_answer_words)
            return read | {f"layer {layer}": states[layer].numpy() for layer in layers}

        arrays = self.per_batch(texts, run, on_progress, ("recorded", tuple(layers), with_answer_words))
        run_scores = _run_scores(arrays)
        states = {layer: torch.from_numpy(arrays[f"layer {layer}"]) for layer in layers}
        return RecordedStates(run_scores.scores, run_scores.answer_words, states)

    def steered(  # noqa: PLR0913 - what a run gives besides its scores, each by its own name
        self,
        texts: Sequence[str],
        conditions: Sequence[SteeringPlan],
        on_progress: OnProgress = silent,
        *,
        with_answer_words: bool = True,
        with_doses: bool = False,
        name: str = "",
        resumed: bool = True,
    ) -> list[RunScores]:
        """Score every text under each of `conditions`; one pass over the prompts serves them all.

        Where this network cannot go on from cached states, or a condition steers more than the last token, that condition
        runs whole prompts under hooks: the same figures, later; so does everything when `resumed` is off. `name` must
        tell these conditions from all others.

        Raises:
            VectorRefused: a layer does not exist, or a shift does not fit.
        """
        if not conditions:
            return []

        def run(prompts: list[list[int]], rows: list[int]) -> Arrays:
            plans = [condition.for_texts(rows) for condition in conditions]
            meters = [[DoseMeter(len(prompt)) for prompt in prompts] for _ in plans] if with_doses else []
            if meters:
                plans = [plan.metered(of_plan) for plan, of_plan in zip(plans, meters, strict=True)]
            finals = self._runs.of_plans(prompts, plans, shared=resumed)
            read = self._read(torch.cat(finals), with_answer_words)
            if meters:
                read["doses"] = np.array([meter.largest for of_plan in meters for meter in of_plan])
            return {key: values.reshape(len(conditions), len(rows)).T for key, values in read.items()}

        key = ("steered", name, len(conditions), with_answer_words, with_doses) if name else None
        arrays = self.per_batch(texts, run, on_progress, key)
        return [
            _run_scores({name: values[:, place] for name, values in arrays.items()})
            for place in range(len(conditions))
        ]

    def answer_gradients(self, texts: Sequence[str], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return, per layer, the mean gradient (hidden_size,) of logit(TRUE word) - logit(FALSE word) in the state.

        The state is that of the last prompt token after the layer; float32, on the CPU. The gradient needs no labels
        and changes no weight: it is the direction that says TRUE, along which a strength can be given in logits.

        Raises:
            VectorRefused: a layer does not exist.
        """
        prompts = self._encoded(texts)
        sums = {layer: torch.zeros(self.width) for layer in layers}
        for rows in by_length(prompts, self.batch_rows):
            with memory_faults_in_words("This batch of statements"):
                for layer, gradients in self._gradients([prompts[i] for i in rows], layers).items():
                    sums[layer] += gradients.sum(dim=0).float().cpu()
        return {layer: total / max(1, len(prompts)) for layer, total in sums.items()}

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Return every text's prompt.

        Raises:
            BadInput: the model cannot be asked about one of them; the message names it by how it begins.
        """
        prompts = []
        for text in texts:
            with naming(text):
                prompts.append(self.prefix.encoded(text))
        return prompts

    def _gradients(self, prompts: list[list[int]], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return each row's gradient (rows, hidden_size) after each layer."""
        if not self.resumes:
            return {layer: self._gradient_of_whole_pass(prompts, layer) for layer in layers}
        batch = prompt_batch(self.prefix, prompts, layers)
        gradients = {}
        for layer in layers:
            state = batch.state(layer).float().clone().requires_grad_()
            with torch.enable_grad():
                gradients[layer] = self._gradient(batch.resumed(layer, state), state)
        return gradients

    def _gradient_of_whole_pass(self, prompts: list[list[int]], layer: int) -> Tensor:
        """Take the gradient in a shift of zero that a hook adds to the last token's state."""
        zero = torch.zeros((len(prompts), self.width), device=self.model.device, requires_grad=True)

        def add_zero(states: Tensor) -> Tensor:
            return zero.to(states.dtype)[:, None]

        plan = SteeringPlan((SteeringStep(layer, add_zero),))
        with torch.enable_grad(), steered(self.model.network, plan):
            return self._gradient(self.prefix.kept_pass(prompts).states[:, -1], zero)

    def _gradient(self, final: Tensor, state: Tensor) -> Tensor:
        # Rows are independent: the sum's gradient is each row's own.
        return torch.autograd.grad(self.head.differences(final).sum(), state)[0]

    def _read(self, finals: Tensor, with_answer_words: bool) -> Arrays:
        read: Arrays = {"scores": self.head.logit_differences(finals).double().numpy()}
        if with_answer_words:
            read["answer_words"] = self.head.answer_words(finals).numpy()
        return read

    def per_batch(
        self,
        texts: Sequence[str],
        run: Callable[[list[list[int]], list[int]], Arrays],
        on_progress: OnProgress,
        key: tuple[object, ...] | None,
    ) -> Arrays:
        """Let `run` make the arrays of each batch from its prompts and its texts' indices; join them in the order of the texts.

        `key` names what `run` does, for batches kept on disk; None where it cannot be named.
        """
        prompts = self._encoded(texts)
        whole: Arrays = {}
        done = 0
        for rows in by_length(prompts, self.batch_rows):
            batch = [prompts[i] for i in rows]
            with memory_faults_in_words("This batch of statements"):
                if self._finished is None or key is None:
                    arrays = run(batch, rows)
                else:
                    model = (self.model.identity_sha256, str(self.model.placement))
                    content = batch_key(*model, self.prompt, batch, key)
                    arrays = self._finished.kept(content, partial(run, batch, rows))
            for name, values in arrays.items():
                if name not in whole:
                    whole[name] = np.empty((len(texts), *values.shape[1:]), dtype=values.dtype)
                whole[name][rows] = values
            done += len(rows)
            on_progress(done, len(texts))
        return whole


def _run_scores(arrays: Arrays) -> RunScores:
    words = arrays.get("answer_words")
    scores = arrays.get("scores", np.zeros(0))
    doses = arrays.get("doses")
    return RunScores(
        scores.astype(np.float64),
        None if words is None else words.astype(np.bool_),
        doses=None if doses is None else doses.astype(np.float64),
    )
