"""A model in several wheels: its pieces are joined in their order, verified, and half a model is never left behind."""

import hashlib
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from medx_core.errors import ModelUnavailable
from medx_core.models.catalog import CATALOGUE, CataloguedModel, ModelPart, fetched_gguf, pull

PIECES = (b"GGUF: the first piece, ", b"the second, ", b"the third.")
# In an order that neither the alphabet nor a folder's listing would give.
NAMES = ("pieces-part2", "pieces-part10", "pieces-part1")
OPEN_SOURCE = {"Apache-2.0", "MIT", "BSD-3-Clause"}


def part_wheel(folder: Path, name: str, piece: bytes) -> ModelPart:
    """Write a wheel with one piece of a model and return its entry in a catalogue."""
    package = name.replace("-", "_")
    wheel = folder / f"{package}-1.0.0-py3-none-any.whl"
    facts = f"{package}-1.0.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{package}/__init__.py", "")
        archive.writestr(f"{package}/data/tiny.gguf.part", piece)
        archive.writestr(f"{facts}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return ModelPart(f"{name}==1.0.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), ".gguf.part")


@pytest.fixture
def entry(tmp_path, monkeypatch) -> CataloguedModel:
    """A model in three wheels that pip finds in a folder, without a network."""
    folder = tmp_path / "index"
    folder.mkdir()
    parts = tuple(part_wheel(folder, name, piece) for name, piece in zip(NAMES, PIECES, strict=True))
    for name, value in (("NO_INDEX", "1"), ("FIND_LINKS", str(folder)), ("CONFIG_FILE", os.devnull)):
        monkeypatch.setenv(f"PIP_{name}", value)
    return CataloguedModel(
        name="pieces",
        title="Pieces",
        licence="Terms of Pieces",
        parts=parts,
        gguf_sha256=hashlib.sha256(b"".join(PIECES)).hexdigest(),
        megabytes=1,
        terms="at pieces.example/terms",
    )


def test_the_pieces_are_joined_in_the_order_of_the_catalogue(entry, tmp_path):
    assert fetched_gguf(entry, tmp_path, say=print).read_bytes() == b"".join(PIECES)


def test_pieces_in_another_order_are_refused_and_nothing_is_left(entry, tmp_path):
    turned = replace(entry, parts=entry.parts[::-1])
    with pytest.raises(ModelUnavailable, match="do not have the expected checksum; nothing was installed"):
        pull(turned, tmp_path / "models", say=lambda _line: None)
    assert list((tmp_path / "models").iterdir()) == []


def test_one_wheel_with_another_checksum_is_refused_and_nothing_is_left(entry, tmp_path):
    forged = replace(entry.parts[1], wheel_sha256="0" * 64)
    with pytest.raises(ModelUnavailable, match=r"pieces-part2==1\.0\.0, .* cannot be fetched with pip"):
        pull(
            replace(entry, parts=(entry.parts[0], forged, entry.parts[2])),
            tmp_path / "models",
            say=lambda _line: None,
        )
    assert list((tmp_path / "models").iterdir()) == []


def test_a_wheel_without_weights_is_refused(entry, tmp_path):
    wrong = replace(entry.parts[0], file_suffix=".safetensors")
    with pytest.raises(ModelUnavailable, match=r"pieces-part2==1\.0\.0 holds no weights"):
        fetched_gguf(replace(entry, parts=(wrong, *entry.parts[1:])), tmp_path, say=print)


@pytest.mark.parametrize("terms", ["at pieces.example/terms", ""])
def test_terms_of_their_own_are_said_before_anything_is_fetched(entry, tmp_path, terms):
    said: list[str] = []
    with pytest.raises(ModelUnavailable):
        pull(replace(entry, terms=terms, gguf_sha256="0" * 64), tmp_path / "models", say=said.append)
    own = "Pieces is not open source: its own terms apply (Terms of Pieces); they are described at pieces.example/terms."
    fetching = "Fetching Pieces (Terms of Pieces, 1 MB) from the package index ..."
    lines = [
        line for line in said if not line.startswith("... still fetching")
    ]  # which a slow machine says too
    assert lines == ([own] if terms else []) + [fetching]


@pytest.mark.parametrize("model", CATALOGUE.values(), ids=CATALOGUE)
def test_every_catalogued_model_states_its_licence_and_stands_in_the_notice(model):
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    assert (model.licence in OPEN_SOURCE) == (model.terms == "")
    assert model.licence in notice
    assert model.parts[0].requirement.partition("==")[0] in notice
