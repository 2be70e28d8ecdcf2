"""Building one category's vector, with its provenance and its diagnostics."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.models.loading import LoadedModel
from medx_core.steering import diagnostics
from medx_core.steering.layers import model_type
from medx_core.steering.steering_vector import SteeringVector
from medx_core.traces.running import BATCH_ROWS, FinishedBatches, OnProgress, silent
from medx_core.traces.statement_runner import StatementRunner
from medx_core.vector_building.choosing import with_chosen_place
from medx_core.vector_building.constant import fit_from_traces
from medx_core.vector_building.examples import sha256_of_statements, whole_groups
from medx_core.vector_building.fitted import Fitted
from medx_core.vector_building.gain import validation
from medx_core.vector_building.gated import fit_gated, fitting_part
from medx_core.vector_building.recipe import PAPER_EXAMPLES, VectorRecipe


class VectorBuilder:
    """Makes vectors for one model.

    With `finished`, batches of traces that are done are kept on disk, so that the same build goes on where it was
    interrupted; what the vector changes on held-out statements is measured anew.
    """

    def __init__(
        self,
        model: LoadedModel,
        recipe: VectorRecipe | None = None,
        *,
        batch_rows: int = BATCH_ROWS,
        finished: FinishedBatches | None = None,
    ) -> None:
        self.recipe = recipe or VectorRecipe()
        self._runner = StatementRunner(model, self.recipe.prompt, batch_rows, finished=finished)

    def build(
        self,
        category: Category,
        train: Sequence[LabelledStatement],
        held_out: Sequence[LabelledStatement],
        *,
        version: str = "",
        on_progress: OnProgress = silent,
    ) -> SteeringVector:
        """Build one category's vector from `train`; `held_out` statements only show what it changes.

        Raises:
            BadInput: there is nothing, or too little, to build from.
            VectorRefused: the statements are all TRUE or all FALSE, or a layer does not exist.
        """
        chosen = self._examples(train)
        if not chosen:
            raise BadInput(f"There are no statements of the category {category} to build a vector from.")
        fitted = self._fitted(chosen, on_progress)
        vector = self._vector(category, fitted, chosen, version)
        found = self._diagnosed(vector, fitted, chosen, held_out)
        return self._vector(category, fitted, chosen, version, found)

    def _examples(self, train: Sequence[LabelledStatement]) -> Sequence[LabelledStatement]:
        if self.recipe.is_gated:
            chosen = whole_groups(train, self.recipe.examples)
            return fitting_part(chosen, self.recipe.fit_on)[0] if chosen else chosen
        return whole_groups(train, self.recipe.examples or PAPER_EXAMPLES)

    def _fitted(self, chosen: Sequence[LabelledStatement], on_progress: OnProgress) -> Fitted:
        if self.recipe.is_gated:
            return fit_gated(self._runner, chosen, self.recipe, on_progress)
        recipe, choices = with_chosen_place(self._runner, chosen, self.recipe, on_progress)
        return fit_from_traces(self._runner, chosen, recipe, on_progress, choices=choices)

    def _vector(
        self,
        category: Category,
        fitted: Fitted,
        chosen: Sequence[LabelledStatement],
        version: str,
        found: dict[str, Any] | None = None,
    ) -> SteeringVector:
        model = self._runner.model
        return SteeringVector(
            category=category,
            direction=fitted.directions[fitted.layer],
            layer=fitted.layer,
            model=model.name,
            model_sha256=model.weight_sha256,
            strategy=self.recipe.strategy,
            alpha=fitted.alpha,
            reading=fitted.reading,
            pairs=len(chosen),
            data_sha256=sha256_of_statements(chosen),
            prompt_version=self.recipe.prompt.version,
            created_at=iso(utc_now()) or "",
            version=version,
            diagnostics=found or {},
            positions=self.recipe.positions,
            fitted_on=fitted.fitted_on,
            gate=fitted.gate,
            b0=fitted.b0,
            centre=fitted.centre,
            model_type=model_type(model.network),
            further={layer: one for layer, one in fitted.directions.items() if layer != fitted.layer},
        )

    def _diagnosed(
        self,
        vector: SteeringVector,
        fitted: Fitted,
        chosen: Sequence[LabelledStatement],
        held_out: Sequence[LabelledStatement],
    ) -> dict[str, Any]:
        asked = whole_groups(held_out, self.recipe.validation_rows)
        figures, before = self._validated(vector, asked, chosen)
        shift = next(step.shift for step in vector.steps if step.layer == vector.layer)
        after = before + shift(before[:, None, :])[:, 0]
        return {
            "dtype": str(self._runner.model.placement.dtype).removeprefix("torch."),
            "norm": vector.norm,
            "relative_norm": float((after - before).norm(dim=1).mean() / before.norm(dim=1).mean()),
            **self._stability(fitted, chosen),
            "separation": diagnostics.separation(fitted.traces, fitted.along),
            "shift": diagnostics.shift_of_distribution(before, after),
            "shift_rows": len(before),
            "choices": dict(fitted.choices),
            **figures,
        }

    def _stability(self, fitted: Fitted, chosen: Sequence[LabelledStatement]) -> dict[str, float | None]:
        if fitted.axis is None:
            return dict.fromkeys(
                ("halves_cosine", "shuffled_cosine", "shuffled_cosine_size", "shuffled_separation")
            )
        groups, seed, fit = [one.group for one in chosen], self.recipe.seed, fitted.axis
        shuffled = diagnostics.against_shuffled(fitted.traces, seed=seed, fit=fit)
        return {
            "halves_cosine": diagnostics.halves_cosine(fitted.traces, groups=groups, seed=seed, fit=fit),
            "shuffled_cosine": shuffled.cosine,
            "shuffled_cosine_size": shuffled.cosine_size,
            "shuffled_separation": shuffled.separation,
        }

    def _validated(
        self,
        vector: SteeringVector,
        asked: Sequence[LabelledStatement],
        chosen: Sequence[LabelledStatement],
    ) -> tuple[Mapping[str, Any], Tensor]:
        """Return the gain on held-out statements, and unsteered states at the vector's layer (rows, hidden_size)."""
        if asked:
            found = validation(self._runner, asked, vector, seed=self.recipe.seed)
            return found.figures, found.before
        texts = [one.text for one in chosen[:BATCH_ROWS]]
        run = self._runner.recorded(texts, [vector.layer], with_answer_words=False)
        return {"validation_gain": None}, run.states[vector.layer]
