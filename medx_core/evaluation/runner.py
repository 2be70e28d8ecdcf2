"""One evaluation: choose and fit on the training part, run the test part once in every arm, measure.

Nothing is chosen on the test part: its statements meet the model only after prompt, layer and strength are fixed.
"""

import platform
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import torch
import transformers
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.data.labelled_files import LabelledData
from medx_core.errors import BadInput
from medx_core.evaluation.arms import TestItems
from medx_core.evaluation.data_split import EvaluationParts, parts_of
from medx_core.evaluation.fit import fit_arms
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.prompt_selection import OnStage
from medx_core.evaluation.request import DECLARED, EvaluationRequest
from medx_core.evaluation.result import Environment, EvaluationResult, ModelResult, RunSettings, SettingMap
from medx_core.evaluation.result_builder import figures_of, model_comparisons
from medx_core.evaluation.run import ExtraArm, run_arms
from medx_core.evaluation.wording_free import read_wording
from medx_core.fitting.sweep import map_of_settings
from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import VerdictPrompt
from medx_core.traces.running import BATCH_ROWS
from medx_core.traces.statement_runner import StatementRunner

OF_REQUEST = ("declared", "extra", "fit_on", "prompt", "seed", "draws", "category")


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation, and the scores of every test item that its figures were made from."""

    result: EvaluationResult
    scores: tuple[TestScores, ...]


@dataclass(frozen=True)
class Evaluator:
    """Evaluates models on statements; `extra_arms` run only where the request names them."""

    data: LabelledData
    request: EvaluationRequest
    on_stage: OnStage
    batch_rows: int = BATCH_ROWS
    extra_arms: Mapping[str, ExtraArm] = field(default_factory=dict)

    def evaluate(self, models: Iterable[LoadedModel]) -> Evaluated:
        """Evaluate every model on the same division of the data; the first is the one that is judged.

        The others are under `models`; `comparisons` holds the paper's own question for each of them: the first model,
        steered, minus that one, unsteered, paired on the same test statements.

        Raises:
            BadInput: the data cannot be divided or fitted on, or the request names an arm that is not among
                `extra_arms`.
            ModelUnavailable: a model cannot be loaded or does not fit.
        """
        request, sizes = self.request, self.request.sizes
        missing = set(request.extra) - set(self.extra_arms)
        if missing:
            raise BadInput(
                f"The arm {min(missing)} cannot be run from here; name it with `medx evaluate --arms`."
            )
        parts = parts_of(self.data.statements, sizes, seed=request.seed)
        results: dict[str, ModelResult] = {}
        scores: list[TestScores] = []
        for model in models:
            name = _told_apart(model.name, results)
            results[name], model_scores = self._of_model(model, name, parts)
            scores.append(model_scores)
        first, *others = results.values()
        result = EvaluationResult(
            **dict(first),
            medx_version=__version__,
            data=request.title,
            data_sha256=self.data.sha256,
            seed=request.seed,
            n_train=len(parts.train),
            n_test=len(parts.test),
            n_association=len(parts.association),
            n_outside=len(parts.outside),
            notes={**self.data.notes, "test_items_near_training_items": int(parts.fitted_on.sum())},
            settings=RunSettings.model_validate(
                {name: getattr(request, name) for name in OF_REQUEST}
                | {"sample": sizes.sample, "split": sizes.split}
                | {"batch_rows": self.batch_rows, "preset": request.preset or None}
            ),
            environment=environment(),
            models={model.model: model for model in others},
            comparisons=model_comparisons(scores),
        )
        return Evaluated(result, tuple(scores))

    def _of_model(
        self, model: LoadedModel, name: str, parts: EvaluationParts
    ) -> tuple[ModelResult, TestScores]:
        """Return one model's result, and the scores of the test items that its figures rest on."""
        began = time.perf_counter()

        @cache
        def runner_for(prompt: VerdictPrompt) -> StatementRunner:
            return StatementRunner(model, prompt, self.batch_rows)

        request, items = self.request, TestItems((*parts.test, *parts.association))
        fitted = fit_arms(runner_for, parts.train, request, self.on_stage)
        tested = run_arms(fitted, runner_for, items, request, self.on_stage, extra_arms=self.extra_arms)
        self.on_stage("computing intervals", 0, 1)
        with threadpool_limits(1, user_api="blas"):
            wording = read_wording(TestItems(parts.test), parts.not_tested, seed=request.seed)
        scores = TestScores(
            model=name,
            model_sha256=model.weight_sha256,
            device=str(model.placement),
            data_sha256=self.data.sha256,
            seed=request.seed,
            declared=request.declared,
            items=items,
            arms=tested.arms,
            controls=tested.controls,
            wording=wording,
            fitted_on=parts.fitted_on,
        )
        figures = figures_of(scores)
        fine_tuning = next((arm.fine_tuning for arm in tested.arms if arm.fine_tuning), None)
        sweep = None
        if request.declared == DECLARED:  # the map is of the gated arm: the ring in it is its setting
            on_progress = partial(self.on_stage, "mapping layers and strengths")
            mapped = map_of_settings(fitted.runner, fitted.gated, on_progress)
            sweep = SettingMap.model_validate(mapped.as_json())
        result = ModelResult(
            **dict(figures),
            choices=fitted.choices(lexical_reader=tested.lexical_reader, fine_tuned=fine_tuning),
            sweep=sweep,
            seconds=time.perf_counter() - began,
        )
        return result, scores


def environment() -> Environment:
    """Return what the last digit of a figure depends on besides the settings: versions, and threads on a CPU."""
    return Environment(
        python=platform.python_version(),
        machine=platform.machine(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        numpy=np.__version__,
        threads=torch.get_num_threads(),
    )


def _told_apart(name: str, taken: Collection[str]) -> str:
    """Return the model's name; a number behind it where another model of the run has the same name."""
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 2))
    return name if name not in taken else next(option for option in numbered if option not in taken)
