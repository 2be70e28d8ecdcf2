"""Running what an evaluation request names: its data, its models, one after another."""

import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medx_core.data.bundled_statements import bundled_statements, write_statements
from medx_core.data.labelled_files import LabelledData, load_labelled
from medx_core.errors import BadInput
from medx_core.evaluation.requests import BUNDLED, EvaluationRequest
from medx_core.settings import settings

if TYPE_CHECKING:
    from medx_core.evaluation.prompt_choice import OnStage
    from medx_core.models.loading import LoadedModel

PLANNED = ("declared", "extra", "fit_on", "prompt", "seed", "draws")


def run_request(request: EvaluationRequest, on_stage: "OnStage") -> dict[str, Any]:
    """Evaluate; return the JSON of design section 6.

    Raises:
        BadInput: the data cannot be read, divided or fitted on.
        ModelUnavailable: a model cannot be loaded or does not fit.
        Cancelled: `on_stage` said so.
    """
    on_stage("reading the statements", 0, 1)
    data = _labelled(request)
    for notice in data.notices:
        print(notice, file=sys.stderr)
    if request.category == "auto":
        data = _routed(data)
    # torch comes in only now: a refused file is told of at once
    from medx_core.evaluation.plan import EvaluationPlan
    from medx_core.evaluation.runner import evaluate_models

    asked = asdict(request)
    plan = EvaluationPlan(**{name: asked[name] for name in PLANNED}, batch_rows=settings().max_batch_rows)
    models = _models(request.models or (settings().model,))
    on_stage("loading the model", 0, 1)
    result = evaluate_models(models, data, request.sizes, plan, on_stage)
    result["data"] = request.title
    result["settings"] |= {"preset": request.preset or None, "category": request.category}
    return result


def _labelled(request: EvaluationRequest) -> LabelledData:
    if request.kept:
        path = settings().evaluations_folder / Path(request.data).name
        if not path.exists():
            raise BadInput(
                f"The file {request.title} is not on this machine; pages and workers must share MEDX_HOME."
            )
        return load_labelled(path)
    if request.data == BUNDLED and not Path(BUNDLED).exists():
        return _bundled()
    return load_labelled(request.data)


def _bundled() -> LabelledData:
    """Read the bundled statements by the way that a user's file takes."""
    handle, name = tempfile.mkstemp(suffix=".csv")
    path = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as out:
            write_statements(bundled_statements(), out)
        return load_labelled(path)
    finally:
        path.unlink()


def _models(names: tuple[str, ...]) -> "Iterator[LoadedModel]":
    """Load one model at a time, as the evaluation comes to it."""
    from medx_core.assembly import build_model

    for name in names:
        yield build_model(settings().model_copy(update={"model": name}))


def _routed(loaded: LabelledData) -> LabelledData:
    from medx_core.assembly import build_router

    routes = build_router(settings()).route([one.text for one in loaded.statements])
    statements = tuple(
        replace(one, category=route.category) for one, route in zip(loaded.statements, routes, strict=True)
    )
    return replace(loaded, statements=statements)
