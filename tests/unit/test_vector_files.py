"""A vector file gives back what was put in, and refuses what does not fit."""

import hashlib
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.steering.gate import Gate
from medx_core.steering.positions import Positions
from medx_core.steering.steering_vector import SteeringVector
from medx_core.steering.vector_files import load_vector, save_vector
from medx_core.storage.vectors import VectorRecord, provenance_of

VECTOR = SteeringVector(
    category=Category.TRIAGE,
    direction=torch.linspace(-1, 1, 16),
    layer=28,
    model="smollm2-135m",
    model_sha256="ab" * 32,
    strategy="mean_difference",
    alpha=0.1 + 0.2,
    reading="answer_word",
    pairs=200,
    data_sha256="cd" * 32,
    prompt_version="p-1",
    created_at="2026-01-01T00:00:00+00:00",
    version="triage v1",
    diagnostics={"norm": 1.0 / 3.0, "shift": {"mean_shift": 2.0}},
)


def test_a_vector_comes_back_as_it_was_saved(tmp_path):
    file = tmp_path / "deep" / "v.safetensors"
    save_vector(VECTOR, file)
    loaded = load_vector(file, model_sha256=VECTOR.model_sha256)
    assert torch.equal(loaded.direction, VECTOR.direction)
    assert replace(loaded, direction=VECTOR.direction) == VECTOR
    assert [path.name for path in file.parent.iterdir()] == ["v.safetensors"], "no draft is left behind"


GATED = replace(
    VECTOR,
    strategy="gated",
    alpha=4.0,
    reading="statement",
    fitted_on="twins",
    b0=-1.25,
    gate=Gate(torch.linspace(0, 1, 16), 0.1 + 0.2),
)
SEVERAL = replace(VECTOR, further={3: torch.ones(16), 7: torch.linspace(2, 1, 16)})


@pytest.mark.parametrize(
    "vector",
    [
        GATED,
        SEVERAL,
        replace(VECTOR, strategy="amplify", centre=-3.5),
        replace(VECTOR, strategy="imported", positions=Positions.ALL, model_type="llama"),
        replace(VECTOR, positions=Positions.LAST_PROMPT),
    ],
    ids=["gated", "several layers", "amplify", "imported", "last prompt token"],
)
def test_what_other_strategies_need_comes_back_too(tmp_path, vector):
    save_vector(vector, tmp_path / "v")
    loaded = load_vector(tmp_path / "v")
    assert loaded.directions.keys() == vector.directions.keys()
    for layer, direction in vector.directions.items():
        assert torch.equal(loaded.directions[layer], direction)
    if vector.gate:
        assert torch.equal(loaded.gate.weight, vector.gate.weight)
        assert loaded.gate.bias == vector.gate.bias
    same = {"direction": vector.direction, "further": vector.further, "gate": vector.gate}
    assert replace(loaded, **same) == vector


def test_a_file_of_format_1_still_loads_as_the_constant_vector_it_is(tmp_path):
    later = {"positions", "fitted_on", "centre", "model_type"}
    save_vector(VECTOR, tmp_path / "new")
    metadata = {key: value for key, value in _metadata(tmp_path / "new").items() if key not in later}
    metadata["format"] = "medx-steering-vector-1"
    save_file({"direction": VECTOR.direction}, tmp_path / "old", metadata=metadata)
    loaded = load_vector(tmp_path / "old")
    assert (loaded.positions, loaded.gate, loaded.alpha) == (Positions.LAST, None, VECTOR.alpha)
    assert replace(loaded, direction=VECTOR.direction) == VECTOR


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"strategy": "hypnosis"}, "does not know"),
        ({"strategy": "gated"}, "lacks the gate"),
        ({"gate": GATED.gate}, "holds a gate"),
        ({"further": {3: torch.ones(8)}}, "do not belong to one model"),
        ({"further": {3: torch.zeros(16)}}, "zero vector"),
        ({"strategy": "amplify", "further": {3: torch.ones(16)}}, "steers one layer"),
        ({"alpha": math.inf}, "strength that is not finite"),
        ({"strategy": "gated", "gate": Gate(torch.ones(4), 0.0)}, "does not fit its direction"),
        ({"strategy": "gated", "gate": Gate(torch.full((16,), math.nan), 0.0)}, "not finite"),
        ({"strategy": "gated", "gate": GATED.gate, "b0": math.nan}, "strength that is not finite"),
    ],
)
def test_a_vector_that_is_not_sound_is_not_saved(tmp_path, change, words):
    with pytest.raises(VectorRefused, match=words):
        save_vector(replace(VECTOR, **change), tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


def test_a_vector_made_for_other_weights_is_refused(tmp_path):
    save_vector(VECTOR, tmp_path / "v")
    with pytest.raises(VectorRefused, match="made for other weights"):
        load_vector(tmp_path / "v", model_sha256="ef" * 32)


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        (torch.zeros(4), "zero vector"),
        (torch.tensor([1.0, math.nan]), "not finite"),
        (torch.tensor([1.0, math.inf]), "not finite"),
        (torch.ones(2, 2), "not one direction"),
    ],
)
def test_an_unusable_direction_is_neither_saved_nor_loaded(tmp_path, direction, words):
    with pytest.raises(VectorRefused, match=words):
        save_vector(replace(VECTOR, direction=direction), tmp_path / "v")
    assert list(tmp_path.iterdir()) == []
    save_vector(VECTOR, tmp_path / "good")
    metadata = _metadata(tmp_path / "good")
    save_file({"direction": direction}, tmp_path / "bad", metadata=metadata)
    with pytest.raises(VectorRefused, match=words):
        load_vector(tmp_path / "bad")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "other", "not a MedX steering vector"),
        ("convention", "1-based", "counts layers in another way"),
        ("layer", "many", "lacks part of its provenance"),
        ("category", "surgery", "lacks part of its provenance"),
    ],
)
def test_a_file_of_another_making_is_refused(tmp_path, key, value, words):
    save_vector(VECTOR, tmp_path / "good")
    save_file(
        {"direction": torch.ones(4)}, tmp_path / "bad", metadata={**_metadata(tmp_path / "good"), key: value}
    )
    with pytest.raises(VectorRefused, match=words):
        load_vector(tmp_path / "bad")


def test_a_pickle_is_refused_unopened(tmp_path):
    torch.save({"direction": torch.ones(4)}, tmp_path / "v.pt")
    with pytest.raises(VectorRefused, match="not a readable safetensors file"):
        load_vector(tmp_path / "v.pt")


def test_a_missing_file_says_how_to_build_one(tmp_path):
    with pytest.raises(VectorRefused, match="medx vectors build"):
        load_vector(tmp_path / "none")


def registered(folder, vector=VECTOR) -> VectorRecord:
    """A version as the database knows it, with its file in the folder."""
    save_vector(vector, folder / "v.safetensors")
    sha256 = hashlib.sha256((folder / "v.safetensors").read_bytes()).hexdigest()
    return VectorRecord(
        "tiny", vector.model_sha256, vector.category, 28, 1.0, "v.safetensors", sha256, name="triage v1"
    )


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        (VECTOR, "reading answer word, 200 pairs"),
        (GATED, "reading statement, 200 statements, on twins"),
        (replace(VECTOR, reading="", strategy="imported"), "made by another program"),
    ],
)
def test_how_a_vector_was_made_is_read_from_its_file(tmp_path, vector, words):
    made = provenance_of(tmp_path, registered(tmp_path, vector))
    assert made.as_json() == {
        "reading": vector.reading,
        "positions": "last",
        "pairs": 200,
        "fitted_on": vector.fitted_on,
        "data_sha256": "cd" * 32,
        "prompt_version": "p-1",
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    assert made.in_words(vector.strategy) == words


def test_a_file_that_is_missing_was_changed_or_says_nothing_is_told_in_one_sentence(tmp_path):
    record = registered(tmp_path)
    file = tmp_path / record.file
    file.write_bytes(b"short")
    with pytest.raises(VectorRefused, match=r"v\.safetensors was changed after triage v1 was registered"):
        provenance_of(tmp_path, record)
    silent = replace(record, file_sha256=hashlib.sha256(b"short").hexdigest())
    with pytest.raises(VectorRefused, match="triage v1 does not say how it was made"):
        provenance_of(tmp_path, silent)
    file.unlink()
    with pytest.raises(VectorRefused, match=r"v\.safetensors of triage v1 cannot be read"):
        provenance_of(tmp_path, record)


def _metadata(file):
    from safetensors import safe_open

    with safe_open(file, framework="pt") as stored:
        return dict(stored.metadata())
