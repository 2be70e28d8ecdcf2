"""One evaluation: choose and fit on the training part, run the test part once in every arm, measure.

Nothing is chosen on the test part: its statements meet the model only after prompt, layer and strength stand.
"""

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import transformers

from medx_core import __version__
from medx_core.data.labelled_files import LabelledData
from medx_core.errors import BadInput
from medx_core.evaluation.arms import TestItems
from medx_core.evaluation.bootstrap import resamples
from medx_core.evaluation.data_split import EvaluationParts, PartSizes, parts_of
from medx_core.evaluation.fit import EvaluationPlan, FittedArms, fit_arms
from medx_core.evaluation.metrics import against
from medx_core.evaluation.prompt_selection import OnStage
from medx_core.evaluation.request import DECLARED
from medx_core.evaluation.result_builder import evaluated
from medx_core.evaluation.run import ExtraArm, TestedArms, run_arms
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
        extra_arms: Mapping[str, ExtraArm] | None = None,
    ) -> None:
        self._model = model
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

    def result(self, on_stage: OnStage) -> tuple[dict[str, Any], TestedArms]:
        """Run everything; return this model's part of the JSON, and the scores it rests on."""
        began = time.perf_counter()
        fitted, tested = self.run(on_stage)
        on_stage("computing intervals", 0, 1)
        figures = evaluated(
            self.asked,
            tested.arms,
            tested.controls,
            declared=self._plan.declared,
            wording=self._parts.not_tested,
            seed=self._plan.seed,
            shared=self._parts.shared_across,
        )
        found = {
            "model": self._model.name,
            "model_sha256": self._model.weight_sha256,
            "device": str(self._model.placement),
            **figures,
            "choices": {
                **fitted.as_json(),
                "lexical_reader": tested.lexical_reader,
                **{arm.name: dict(arm.about) for arm in tested.arms if arm.about},
            },
            "near_ties": dict(tested.near_ties),
            "sweep": self._map(fitted, on_stage),
            "seconds": time.perf_counter() - began,
        }
        return found, tested

    def _map(self, fitted: FittedArms, on_stage: OnStage) -> dict[str, Any]:
        """Map the settings where it is the gated arm that is judged; the ring in the map is its setting."""
        if self._plan.declared != DECLARED:
            return {}
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


def evaluate_models(
    models: Iterable[LoadedModel],
    data: LabelledData,
    sizes: PartSizes,
    plan: EvaluationPlan,
    on_stage: OnStage,
    *,
    extra_arms: Mapping[str, ExtraArm] | None = None,
) -> dict[str, Any]:
    """Evaluate every model on the same division of the data; the first is the one that is judged.

    The others stand under `models`; `comparisons` holds the paper's own question for each of them: the first model,
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
    found: list[tuple[dict[str, Any], TestedArms]] = []
    for model in models:
        result, tested = ModelEvaluation(model, parts, plan, extra_arms=extra_arms).result(on_stage)
        result["model"] = _told_apart(result, [one for one, _ in found])
        found.append((result, tested))
    (first, tested), *others = found
    return {
        "medx_version": __version__,
        "data_sha256": data.sha256,
        "seed": plan.seed,
        "n_train": len(parts.train),
        "n_test": len(parts.test),
        "n_association": len(parts.association),
        "n_outside": len(parts.outside),
        "notes": {**data.notes, "test_items_near_training_items": parts.shared_across},
        "settings": {**asdict(plan), "sample": sizes.sample, "split": sizes.split},
        "environment": environment(),
        **first,
        "models": {one["model"]: one for one, _ in others},
        "comparisons": _comparisons(parts, plan, (first, tested), others),
    }


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


def _told_apart(result: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    """Return the model's name; a number behind it where another model of the run is called the same."""
    name = str(result["model"])
    taken = {one["model"] for one in others}
    numbered = (f"{name} ({number})" for number in range(2, len(taken) + 2))
    return name if name not in taken else next(one for one in numbered if one not in taken)


def _comparisons(
    parts: EvaluationParts,
    plan: EvaluationPlan,
    general: tuple[dict[str, Any], TestedArms],
    specialised: Sequence[tuple[dict[str, Any], TestedArms]],
) -> list[dict[str, Any]]:
    items = TestItems(parts.test)
    weights = resamples(items.gold, items.groups, seed=plan.seed)
    steered = general[1].arm(plan.declared).first(len(items))
    return [
        {
            "general": general[0]["model"],
            "arm": plan.declared,
            "specialised": result["model"],
            **against(items, steered, tested.arm("unsteered").first(len(items)), weights),
        }
        for result, tested in specialised
    ]
