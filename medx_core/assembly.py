"""Builds the parts from the settings: the one place that knows the implementation behind each interface."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from medx_core.answering import AnsweringEngine
from medx_core.evaluation.request import EvaluationRequest
from medx_core.job_execution.evaluation_run import Measured, OnStage, read_statements
from medx_core.models.devices import choose_placement, use_threads
from medx_core.models.loading import LoadedModel, load_model
from medx_core.recipes import UNSTEERED, built_in_recipe
from medx_core.routing.loading import load_router
from medx_core.routing.router import Router
from medx_core.settings import Settings
from medx_core.steering.loaded_recipe import LoadedRecipe
from medx_core.storage.engine import Database
from medx_core.traces.checking import checked
from medx_core.vector_registry import VectorRegistry

if TYPE_CHECKING:
    from medx_core.evaluation.runner import ExtraArm


def build_model(settings: Settings, *, check_anew: bool = False) -> LoadedModel:
    """Load the language model of the settings onto its device, checked: at its first load, or again when told to.

    Raises:
        ModelUnavailable: the model or the device is not there, or the model is not a whole one.
    """
    use_threads(settings.threads)
    placement = choose_placement(settings.device, settings.dtype)
    model = load_model(settings.model, models_folder=settings.models_folder, placement=placement)
    return checked(model, memory_folder=settings.models_folder, anew=check_anew)


def build_answering_model(settings: Settings) -> LoadedModel:
    """Load the language model that is to answer.

    Raises:
        ModelUnavailable: it cannot be loaded, or its check found that it gives neither verdicts nor written answers.
    """
    model = build_model(settings)
    if not model.can.text:
        model.require("verdict")
    return model


def build_router(settings: Settings) -> Router:
    """Load the trained router.

    Raises:
        RouterUnavailable: none was trained for this encoder.
    """
    placement = choose_placement(settings.device)
    return load_router(
        encoder_name=settings.router_encoder,
        routers_folder=settings.routers_folder,
        device=str(placement.device),
        threshold=settings.route_threshold,
    )


def build_registry(settings: Settings, database: Database) -> VectorRegistry:
    """Return the registry of steering vectors and recipes."""
    return VectorRegistry(database, settings)


def build_engine(settings: Settings, database: Database) -> AnsweringEngine:
    """Build the answering engine: model, router and recipe. Takes seconds and memory.

    Raises:
        ModelUnavailable: the model or the device is not there.
        RouterUnavailable: no router was trained.
        StorageFault: the database cannot be used.
    """
    router = build_router(settings)  # first: a missing router is found before the larger model is loaded
    return AnsweringEngine(
        build_answering_model(settings), router, build_registry(settings, database), settings
    )


def evaluate_request(
    settings: Settings,
    request: EvaluationRequest,
    on_stage: OnStage,
    *,
    database: Database | None,
    extra_arms: Mapping[str, "ExtraArm"] | None = None,
) -> Measured:
    """Evaluate what was asked for, from the reading of its statements on; `extra_arms` run where it names them.

    The recipe in use is that of `database`; without one the built-in recipe without steering stands for it, and none can be
    saved.

    Raises:
        BadInput: the data cannot be read, divided or fitted on.
        ModelUnavailable: a model cannot be loaded or does not fit.
        RouterUnavailable: statements are to be routed, and no router was trained.
        Cancelled: `on_stage` raised it.
    """
    # These bring in scikit-learn and pandas, which a process that answers questions never needs.
    from medx_core.evaluation.items import items_parquet
    from medx_core.evaluation.runner import Evaluator

    on_stage("reading the statements", 0, 1)
    data = read_statements(settings, request)
    if request.category == "auto":
        routes = build_router(settings).route([statement.text for statement in data.statements])
        routed = (
            replace(each, category=route.category)
            for each, route in zip(data.statements, routes, strict=True)
        )
        data = replace(data, statements=tuple(routed))
    # One model at a time is loaded, when the evaluation comes to it.
    names = request.models or (settings.model,)
    models = (build_model(settings.model_copy(update={"model": name})) for name in names)
    on_stage("loading the model", 0, 1)
    registry = None if database is None else build_registry(settings, database)

    def recipe_of(model: LoadedModel) -> LoadedRecipe:
        if registry is not None:
            return registry.answering(model.identity)
        return LoadedRecipe(built_in_recipe(model.identity, settings), UNSTEERED, {})

    evaluator = Evaluator(
        data,
        request,
        on_stage,
        settings.max_batch_rows,
        extra_arms or {},
        recipe_of=recipe_of,
        max_dose=settings.max_dose,
    )
    evaluated = evaluator.evaluate(models)
    result = evaluated.result
    if registry is not None and evaluated.saved is not None:
        saved = registry.save(evaluated.saved, request.save_recipe)
        result = result.model_copy(update={"recipes": result.recipes | {saved.id: evaluated.saved.arm}})
    return Measured(result.model_dump(mode="json"), items_parquet(evaluated.scores))
