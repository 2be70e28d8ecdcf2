"""Builds the parts from the settings: the one place that knows the implementation behind each interface."""

from medx_core.answering.engine import AnsweringEngine, AnsweringLimits
from medx_core.models.devices import choose_placement, use_threads
from medx_core.models.loading import LoadedModel, load_model
from medx_core.routing.loading import load_router
from medx_core.routing.router import Router
from medx_core.settings import Settings
from medx_core.storage.engine import Database
from medx_core.storage.vectors import VectorStore
from medx_core.vector_registry import VectorRegistry


def build_model(settings: Settings) -> LoadedModel:
    """Load the language model of the settings onto its device.

    Raises:
        ModelUnavailable: the model or the device is not there.
    """
    use_threads(settings.threads)
    placement = choose_placement(settings.device, settings.dtype)
    return load_model(settings.model, models_folder=settings.models_folder, placement=placement)


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
    """Return the registry of steering vectors."""
    return VectorRegistry(VectorStore(database), settings.vectors_folder)


def build_engine(settings: Settings, database: Database) -> AnsweringEngine:
    """Build the answering engine: model, router and active vectors. Takes seconds and memory.

    Raises:
        ModelUnavailable: the model or the device is not there.
        RouterUnavailable: no router was trained.
        StorageFault: the database cannot be used.
    """
    registry = build_registry(settings, database)
    limits = AnsweringLimits(
        max_new_tokens=settings.max_new_tokens,
        uncertain_margin=settings.uncertain_margin,
        gated_text=settings.gated_text,
    )
    router = build_router(settings)  # first: a missing router is found before the larger model is loaded
    return AnsweringEngine(build_model(settings), router, registry, limits)
