"""Building vectors for use: fitted by a specification, with provenance and diagnostics, and going on after an interruption."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from medx_core.categories import Category
from medx_core.clock import iso, utc_now
from medx_core.data.labelled_statements import LabelledStatement
from medx_core.errors import BadInput
from medx_core.fitting.examples import sha256_of_statements
from medx_core.fitting.fit import FittedVector, fit_vector
from medx_core.fitting.fitted import FittedLayer
from medx_core.fitting.spec import FitSpec
from medx_core.steering.contrast import separation
from medx_core.steering.diagnostics import cosine
from medx_core.steering.layers import model_type
from medx_core.steering.names import RANDOM
from medx_core.steering.steering_vector import SteeringVector
from medx_core.traces.running import FinishedBatches, OnProgress, batch_key, silent
from medx_core.traces.statement_runner import StatementRunner

STABILITY = ("halves_cosine", "shuffled_cosine", "shuffled_cosine_size", "shuffled_separation")
SHUFFLES = 20
"""How often labels are shuffled for the diagnostics; one draw alone says nothing."""


def build_vector(
    runner: StatementRunner,
    category: Category,
    train: Sequence[LabelledStatement],
    spec: FitSpec,
    on_progress: OnProgress = silent,
) -> SteeringVector:
    """Build one category's vector from `train`, by a runner of the specification's prompt.

    Its diagnostics are those of the fit; `evaluation.gain` adds what it changes on other statements.

    Raises:
        BadInput: there is nothing, or too little, to build from.
        VectorRefused: the statements are all TRUE or all FALSE, or a layer does not exist.
    """
    if not train:
        raise BadInput(f"There are no statements of the category {category} to build a vector from.")
    fitted = fit_vector(runner, train, spec, on_progress)
    groups = [statement.group for statement in fitted.statements]
    # A random direction is fitted to nothing, so nothing of it can be stable.
    stable = (
        dict.fromkeys(STABILITY) if spec.strategy == RANDOM else stability(fitted.top, groups, seed=spec.seed)
    )
    vector = vector_of(runner, fitted, category, strategy=spec.strategy)
    diagnostics = {**vector.diagnostics, "choices": dict(fitted.choices), **stable}
    return replace(
        vector,
        positions=spec.positions,
        verdict_positions=spec.verdict_positions,
        diagnostics=diagnostics,
    )


def vector_of(
    runner: StatementRunner, fitted: FittedVector, category: Category | None, *, strategy: str
) -> SteeringVector:
    """Return a fitted strategy as a vector with its provenance: for one category, or None for all together."""
    top, model = fitted.top, runner.model
    return SteeringVector(
        category=category,
        direction=top.direction,
        layer=top.layer,
        model=model.name,
        model_sha256=model.weight_sha256,
        strategy=strategy,
        alpha=top.alpha,
        reading=top.traces.reading,
        pairs=len(fitted.statements),
        data_sha256=sha256_of_statements(fitted.statements),
        prompt_version=runner.prompt.version,
        created_at=iso(utc_now()) or "",
        diagnostics={
            "dtype": str(model.placement.dtype).removeprefix("torch."),
            "norm": top.norm,
            "separation": separation(top.traces, top.axis),
        },
        fitted_on=fitted.fitted_on,
        gate=top.gate,
        b0=top.b0,
        centre=top.centre,
        model_type=model_type(model.network),
        further={layer: fit.direction for layer, fit in fitted.layers.items() if layer != top.layer},
    )


def stability(fit: FittedLayer, groups: Sequence[str], *, seed: int) -> dict[str, float]:
    """Fit again on two random halves of the data, `groups` kept whole, and to shuffled labels: what stays the same.

    Returns:
        `halves_cosine`: between the axes of both halves; near 1 the axis is stable, which is not to say medical.
        `shuffled_cosine`: mean cosine of the axis with those of shuffled labels; high where the axis holds the answer
        words or the class prior, not what is true. `shuffled_cosine_size`: mean absolute cosine; an axis whose sign
        comes by chance, as a principal component's does, is the same each time and yet has a mean cosine near 0.
        `shuffled_separation`: the largest that shuffled labels reach along their own axes, in pooled standard
        deviations; real labels that are told apart no better decide nothing about the axis.
    """
    names = sorted(set(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {names[place] for place in order[: len(names) // 2]}
    half = torch.tensor([group in chosen for group in groups])
    draws = [fit.shuffled(1_000 * seed + draw) for draw in range(SHUFFLES)]
    cosines = [cosine(fit.axis, draw.axis) for draw in draws]
    figures = (
        cosine(fit.on(half).axis, fit.on(~half).axis),
        sum(cosines) / len(draws),
        sum(map(abs, cosines)) / len(draws),
        max(separation(draw.traces, draw.axis) for draw in draws),
    )
    return dict(zip(STABILITY, figures, strict=True))


class ResumableBuild(FinishedBatches):
    """A build of several categories that goes on where it was interrupted; its folder is there until all is done.

    All categories share the folder, since batches name themselves.
    """

    @classmethod
    def of(
        cls, home: Path, spec: FitSpec, weights_and_device: str, parts: Mapping[Category, Any]
    ) -> "ResumableBuild":
        """Return the build of these statements by this specification on this device: the same whenever it is asked for again."""
        statements = [(category.value, part) for category, part in parts.items()]
        return cls(home / "traces" / batch_key(spec, weights_and_device, statements)[:16])

    def built(self, category: Category) -> str:
        """Return the hash of the file that this build registered for a category before it was interrupted, else ''."""
        try:
            return self._marker(category).read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def note_built(self, category: Category, file_sha256: str) -> None:
        """Keep that a category is built, so that going on does not make a second version of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._marker(category).write_text(file_sha256, encoding="ascii")

    def _marker(self, category: Category) -> Path:
        return self.folder / f"{category.value}.built"
