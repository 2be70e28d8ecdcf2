"""From statements to steering vectors: run the contrast traces, read them, take their mean difference.

This is the paper's recipe (MEDASSESS-X, arXiv 2601.12812, section 3) with each choice named: reading `answer_word`,
penultimate layer, alpha 1.0, 200 examples a category.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.errors import BadInput
from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import STATEMENT_PROMPT, VerdictPrompt
from medx_core.models.scoring import answer_word_tokens
from medx_core.models.shared_prefix import SharedPrefix
from medx_core.steering import diagnostics
from medx_core.steering.contrast import ANSWER_WORD, AnswerWordStates, mean_difference
from medx_core.steering.hooks import RowSteering, plan_for_rows, steered
from medx_core.steering.layers import hidden_size, penultimate_layer
from medx_core.steering.recording import recorded
from medx_core.steering.vector_files import SteeringVector

BATCH_ROWS = 32
PAPER_EXAMPLES = 200
PAPER_ALPHA = 1.0
SEED = 1

OnProgress = Callable[[int, int], None]
"""Told how many traces are done, of how many."""


@dataclass(frozen=True)
class LabelledStatement:
    """A statement whose truth is known; `group` keeps twins together when data is halved or split."""

    text: str
    truth: bool
    group: str


@dataclass(frozen=True)
class VectorRecipe:
    """How a vector is made. The defaults are the paper's; `layer` None means the penultimate one."""

    examples: int = PAPER_EXAMPLES
    alpha: float = PAPER_ALPHA
    layer: int | None = None
    prompt: VerdictPrompt = STATEMENT_PROMPT
    strategy: str = "mean_difference"


class VectorBuilder:
    """Makes vectors for one model."""

    def __init__(self, model: LoadedModel, recipe: VectorRecipe | None = None) -> None:
        self.recipe = recipe or VectorRecipe()
        self._model = model
        self._prefix = SharedPrefix(model, self.recipe.prompt)
        self._layer = penultimate_layer(model.network) if self.recipe.layer is None else self.recipe.layer

    def build(
        self,
        category: Category,
        train: Sequence[LabelledStatement],
        held_out: Sequence[LabelledStatement],
        *,
        version: str,
        on_progress: OnProgress = lambda _done, _total: None,
    ) -> SteeringVector:
        """Build one category's vector from `train`; `held_out` statements only show how far it shifts states.

        Raises:
            BadInput: there is nothing to build from.
            VectorRefused: the statements are all TRUE or all FALSE.
        """
        chosen = whole_groups(train, self.recipe.examples)
        if not chosen:
            raise BadInput(f"There are no statements of the category {category} to build a vector from.")
        states = self.answer_word_states(chosen, on_progress)
        direction = mean_difference(states)
        return SteeringVector(
            category=category,
            direction=direction,
            layer=self._layer,
            model=self._model.name,
            model_sha256=self._model.weight_sha256,
            strategy=self.recipe.strategy,
            alpha=self.recipe.alpha,
            reading=ANSWER_WORD,
            pairs=len(chosen),
            data_sha256=sha256_of_statements(chosen),
            prompt_version=self.recipe.prompt.version,
            created_at=iso(utc_now()) or "",
            version=version,
            diagnostics=self._diagnose(direction, states, chosen, held_out),
        )

    def answer_word_states(
        self, statements: Sequence[LabelledStatement], on_progress: OnProgress
    ) -> AnswerWordStates:
        """Run every statement's two traces; return the states at the appended answer word, in the order given.

        A prompt is run once and continued with either word.
        """
        prompts = [self._prefix.encoded(statement.text) for statement in statements]
        words = answer_word_tokens(self._prefix)
        found = torch.empty((2, len(prompts), hidden_size(self._model.network)))
        done = 0
        for batch in by_length(prompts):
            with recorded(self._model.network, [self._layer]) as recording:
                self._prefix.run_continued([prompts[i] for i in batch], words)
            _prompt, true_word, false_word = recording.states(self._layer).chunk(3)
            found[0, batch], found[1, batch] = true_word, false_word
            done += 2 * len(batch)
            on_progress(done, 2 * len(prompts))
        gold = torch.tensor([statement.truth for statement in statements])
        return AnswerWordStates(with_true_word=found[0], with_false_word=found[1], gold=gold)

    def _diagnose(
        self,
        direction: Tensor,
        states: AnswerWordStates,
        chosen: Sequence[LabelledStatement],
        held_out: Sequence[LabelledStatement],
    ) -> dict[str, Any]:
        groups = [statement.group for statement in chosen]
        before, after = self._unsteered_and_steered(direction, (held_out or chosen)[:BATCH_ROWS])
        norm = float(direction.norm())
        return {
            "norm": norm,
            "relative_norm": norm * self.recipe.alpha / float(before.norm(dim=1).mean()),
            "halves_cosine": diagnostics.halves_cosine(states, groups=groups, seed=SEED),
            "shuffled_cosine": diagnostics.shuffled_cosine(states, seed=SEED),
            "separation": diagnostics.separation(states, direction),
            "shift": diagnostics.shift_of_distribution(before, after),
            "shift_rows": len(before),
            "validation_gain": None,
        }

    def _unsteered_and_steered(
        self, direction: Tensor, statements: Sequence[LabelledStatement]
    ) -> tuple[Tensor, Tensor]:
        """Run the same prompts without and with the vector; return their last-token states at its layer."""
        network = self._model.network
        prompts = [self._prefix.encoded(statement.text) for statement in statements]
        row = RowSteering(layer=self._layer, vector=direction, strength=self.recipe.alpha)
        plan = plan_for_rows([row] * len(prompts), width=hidden_size(network))
        with recorded(network, [self._layer]) as plain:
            self._prefix.last_states(prompts)
        with steered(network, plan), recorded(network, [self._layer]) as moved:
            self._prefix.last_states(prompts)
        return plain.states(self._layer), moved.states(self._layer)


def whole_groups(statements: Sequence[LabelledStatement], most: int) -> list[LabelledStatement]:
    """Take statements in order, whole groups only, up to `most` of them."""
    members: dict[str, list[LabelledStatement]] = {}
    for statement in statements:
        members.setdefault(statement.group, []).append(statement)
    chosen: list[LabelledStatement] = []
    for group in members.values():
        if len(chosen) + len(group) <= most:
            chosen.extend(group)
    return chosen


def by_length(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield batches of indices, prompts of like length together, so that little is spent on padding."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), BATCH_ROWS):
        yield order[start : start + BATCH_ROWS]


def sha256_of_statements(statements: Sequence[LabelledStatement]) -> str:
    """Return a hash of texts and truths in order: the data a vector was made from."""
    digest = hashlib.sha256()
    for statement in statements:
        digest.update(f"{int(statement.truth)}\t{statement.text}\n".encode())
    return digest.hexdigest()
