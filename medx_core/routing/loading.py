"""Loading whichever router the settings name."""

from pathlib import Path

from medx_core.routing.embedding_router import load_embedding_router
from medx_core.routing.encoder_files import is_encoder_router
from medx_core.routing.encoder_router import load_encoder_router
from medx_core.routing.router import ScoringRouter
from medx_core.routing.rules_router import RULES, RulesRouter


def load_router(
    encoder_name: str, routers_folder: Path, *, device: str = "cpu", threshold: float = 0.0
) -> ScoringRouter:
    """Load the router that `encoder_name` means.

    `rules` is the baseline of keywords, a folder made by `medx router train --encoder` is a fine-tuned classifier, and
    anything else is a sentence encoder (the wheel's name, a folder, a hub id) with the head trained for it. A
    `threshold` of 0 leaves the router's own.

    Raises:
        RouterUnavailable: it cannot be loaded, or was not trained yet.
    """
    if encoder_name == RULES:
        return RulesRouter()
    folder = Path(encoder_name).expanduser()
    if is_encoder_router(folder):
        return load_encoder_router(folder, device=device, threshold=threshold)
    return load_embedding_router(encoder_name, routers_folder, device=device, threshold=threshold)
