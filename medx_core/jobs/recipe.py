"""What answers in a process: its model, number type and recipe, as a worker reports them and a command compares them.

Knows no torch: a command must be able to compare before it loads anything.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from medx_core import __version__
from medx_core.categories import Category
from medx_core.model_check import ModelCheck
from medx_core.settings import Settings


@dataclass(frozen=True)
class Recipe:
    """Everything besides the model that decides an answer.

    Prompts and strategies come with the `version` of MedX. `vectors` names the steering vector in use per category.
    """

    version: str
    router: str
    route_threshold: float
    max_new_tokens: int
    uncertain_margin: float
    gated_text: bool
    max_dose: float
    vectors: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, vectors: Mapping[Category, str]) -> "Recipe":
        """Return the recipe of these settings with these vectors in use (version names)."""
        return cls(
            version=__version__,
            router=settings.router_encoder,
            route_threshold=settings.route_threshold,
            max_new_tokens=settings.max_new_tokens,
            uncertain_margin=settings.uncertain_margin,
            gated_text=settings.gated_text,
            max_dose=settings.max_dose,
            vectors={category.value: version for category, version in sorted(vectors.items())},
        )

    def differing(self, other: Mapping[str, Any]) -> list[str]:
        """Return the names of the fields in which another recipe, as plain values, differs."""
        return [name.replace("_", " ") for name, value in asdict(self).items() if other.get(name) != value]


@dataclass(frozen=True)
class EngineDescription:
    """A loaded engine. `device` is for people, `number_type` is that of the weights, `vectors` are those in use.

    `identity_sha256` names all of the model that changes an answer, `weight_sha256` the weights alone.
    """

    model_name: str
    weight_sha256: str
    device: str
    number_type: str
    vectors: Mapping[Category, str]
    identity_sha256: str = ""
    check: ModelCheck | None = None

    def report(self, settings: Settings) -> dict[str, Any]:
        """Return what a heartbeat says of an engine that was built from these settings."""
        return {
            "model_name": self.model_name,
            "weight_sha256": self.weight_sha256,
            "identity_sha256": self.identity_sha256,
            "check": self.check.model_dump(mode="json") if self.check else None,
            "device": self.device,
            "number_type": self.number_type,
            "recipe": asdict(Recipe.of(settings, self.vectors)),
        }
