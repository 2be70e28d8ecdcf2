"""One evaluation: choose and fit on the training part, run the test part once in every arm, measure.

Nothing is chosen on the test part: its statements meet the model only after prompt, layer and strength stand.
"""

import platform
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
import transformers
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from medx_core import __version__
from medx_core.data.labelled_files import LabelledData
from medx_core.errors import BadInput
from medx_core.evaluation.arms import TestItems
from medx_core.evaluation.data_split import EvaluationParts, PartSizes, parts_of
from medx_core.evaluation.fit import EvaluationPlan, FittedArms, fit_arms
from medx_core.evaluation.items import TestScores
from medx_core.evaluation.prompt_selection import OnStage
from medx_core.evaluation.request import DECLARED
from medx_core.evaluation.result import EvaluationResult, ModelResult
from medx_core.evaluation.result_builder import figures_of, model_comparisons
from medx_core.evaluation.run import ExtraArm, TestedArms, run_arms
from medx_core.evaluation.wording_free import read_wording
from medx_core.fitting.sweep import map_of_settings
from medx_core.models.loading import LoadedModel
from medx_core.models.prompting import VerdictPrompt
from medx_core.traces.statement_runner import StatementRunner


class ModelEvaluation:
    """One model on one division of the data."""

    def __init__(
        self,
        model: LoadedModel,
        parts: EvaluationParts,
        plan: EvaluationPlan,
        *,
        data_sha256: str = "",
        name: str = "",
        extra_arms: Mapping[str, ExtraArm] | None = None,
    ) -> None:
        self._model = model
        self._data_sha256 = data_sha256
        self._name = name or model.name
        self._parts = parts
        self._plan = plan
        self._extra_arms = extra_arms or {}
        self._runners: dict[VerdictPrompt, StatementRunner] = {}
        self.asked = TestItems((*parts.test, *parts.association))

    def run(self, on_stage: OnStage) -> tuple[FittedArms, TestedArms]:
        """Fit on the training part, then run the test part and the association control.

        Raises:
            BadInput: the training part cannot be fitted on.
            ModelUnavailable: a batch does not fit into the device's memory.
        """
        fitted = fit_arms(self._runner_for, self._parts.train, self._plan, on_stage)
        tested = run_arms(
            fitted,
            self._runner_for,
            self.asked.statements,
            self._plan,
            on_stage,
            extra_arms=self._extra_arms,
        )
        return fitted, tested

    def result(self, on_stage: OnStage) -> tuple[ModelResult, TestScores]:
        """Run everything; return this model's result, and the scores of the test items that its figures rest on."""
        began = time.perf_counter()
        fitted, tested = self.run(on_stage)
        on_stage("computing intervals", 0, 1)
        scores = self._scores(tested)
        result = ModelResult.model_validate(
            {
                **dict(figures_of(scores)),
                "choices": {
                    **fitted.as_json(),
                    "lexical_reader": tested.lexical_reader,
                    **{arm.name: dict(arm.about) for arm in tested.arms if arm.about},
                },
                "sweep": self._map(fitted, on_stage),
                "seconds": time.perf_counter() - began,
            }
        )
        return result, scores

    def _scores(self, tested: TestedArms) -> TestScores:
        parts, seed = self._parts, self._plan.seed
        with threadpool_limits(1, user_api="blas"):
            wording = read_wording(TestItems(parts.test), parts.not_tested, seed=seed)
        return TestScores(
            model=self._name,
            model_sha256=self._model.weight_sha256,
            device=str(self._model.placement),
            data_sha256=self._data_sha256,
            seed=seed,
            declared=self._plan.declared,
            items=self.asked,
            arms=tested.arms,
            controls=tested.controls,
            wording=wording,
            fitted_on=parts.fitted_on,
        )

    def _map(self, fitted: FittedArms, on_stage: OnStage) -> dict[str, object] | None:
        """Map the settings where the gated arm is judged; the ring in the map is its setting."""
        if self._plan.declared != DECLARED:
            return None
        mapped = map_of_settings(
            fitted.runner,
            fitted.gated,
            lambda done, total: on_stage("mapping layers and strengths", done, total),
        )
        return mapped.as_json()

    def _runner_for(self, prompt: VerdictPrompt) -> StatementRunner:
        if prompt not in self._runners:
            self._runners[prompt] = StatementRunner(self._model, prompt, self._plan.batch_rows)
        return self._runners[prompt]


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation, and the scores of every test item that its figures were made from."""

    result: EvaluationResult
    scores: tuple[TestScores, ...]


def evaluate_models(
    models: Iterable[LoadedModel],
    data: LabelledData,
    sizes: PartSizes,
    plan: EvaluationPlan,
    on_stage: OnStage,
    *,
    extra_arms: Mapping[str, ExtraArm] | None = None,
) -> Evaluated:
    """Evaluate every model on the same division of the data; the first is the one that is judged.

    The others are under `models`; `comparisons` holds the paper's own question for each of them: the first model,
    steered, minus that one, unsteered, paired on the same test statements.

    `extra_arms` are the arms that run only where the plan names them.

    Raises:
        BadInput: the data cannot be divided or fitted on, or the plan names an arm that is not among `extra_arms`.
        ModelUnavailable: a model cannot be loaded or does not fit.
    """
    missing = set(plan.extra) - set(extra_arms or {})
    if missing:
        raise BadInput(
            f"The arm {min(missing)} cannot be run from here; name it with `medx evaluate --arms`."
        )
    parts = parts_of(data.statements, sizes, seed=plan.seed)
    results: dict[str, ModelResult] = {}
    scores: list[TestScores] = []
    for model in models:
        name = _told_apart(model.name, results)
        evaluation = ModelEvaluation(
            model, parts, plan, data_sha256=data.sha256, name=name, extra_arms=extra_arms
        )
        results[name], model_scores = evaluation.result(on_stage)
        scores.append(model_scores)
    first, *others = results.values()
    result = EvaluationResult.model_validate(
        {
            **dict(first),
            "medx_version": __version__,
            "data_sha256": data.sha256,
            "seed": plan.seed,
            "n_train": len(parts.train),
            "n_test": len(parts.test),
            "n_association": len(parts.association),
            "n_outside": len(parts.outside),
            "notes": {**data.notes, "test_items_near_training_items": int(parts.fitted_on.sum())},
            "settings": {**asdict(plan), "sample": sizes.sample, "split": sizes.split},
            "environment": environment(),
            "models": {model.model: model for model in others},
            "comparisons": model_comparisons(scores),
        }
    )
    return Evaluated(result, tuple(scores))


def environment() -> dict[str, str | int]:
    """Return what the last digit of a figure depends on besides the settings: versions, and threads on a CPU."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }


def _told_apart(name: str, taken: Collection[str]) -> str:
    """Return the model's name; a number behind it where another model of the run has the same name."""
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 2))
    return name if name not in taken else next(option for option in numbered if option not in taken)
