"""What answers in a process, as a worker reports it and a command compares it: model, number type, recipe and settings.

Knows no torch: a command must be able to compare before it loads anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medx_core import __version__
from medx_core.model_check import ModelCheck
from medx_core.settings import Settings


def answer_settings(settings: Settings) -> dict[str, Any]:
    """Return what decides an answer besides the model and its recipe: version, router, length of texts, largest dose."""
    return {
        "version": __version__,
        "router": settings.router_encoder,
        "route_threshold": settings.route_threshold,
        "max_new_tokens": settings.max_new_tokens,
        "max_dose": settings.max_dose,
    }


@dataclass(frozen=True)
class EngineDescription:
    """A loaded engine. `device` is for people, `number_type` is that of the weights, `recipe` the id of that in use.

    `identity_sha256` names all of the model that changes an answer, `weight_sha256` the weights alone. `unsteered_recipe` is
    the id of the recipe without its steering, `parameters` the number of the model's weights, 0 where it is not known.
    `refused` is why the recipe in use cannot answer, so that nothing is answered; empty while it can. `unaskable` says of other
    recipes, by id, why this model refuses their prompts.
    """

    model_name: str
    weight_sha256: str
    device: str
    number_type: str
    recipe: str
    recipe_name: str
    identity_sha256: str = ""
    check: ModelCheck | None = None
    unsteered_recipe: str = ""
    parameters: int = 0
    refused: str = ""
    unaskable: Mapping[str, str] = field(default_factory=dict)

    def report(self, settings: Settings) -> dict[str, Any]:
        """Return what a heartbeat says of an engine that was built from these settings."""
        refused = {"refused": self.refused} if self.refused else {}
        return refused | {
            "model_name": self.model_name,
            "weight_sha256": self.weight_sha256,
            "identity_sha256": self.identity_sha256,
            "check": self.check.model_dump(mode="json") if self.check else None,
            "device": self.device,
            "number_type": self.number_type,
            "recipe": self.recipe,
            "recipe_name": self.recipe_name,
            "unsteered_recipe": self.unsteered_recipe,
            "unaskable": dict(self.unaskable),
            "parameters": self.parameters,
            "settings": answer_settings(settings),
        }
