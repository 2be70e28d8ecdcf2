"""Control vectors in GGUF: what llama.cpp and repeng write can be read, and what is written can be read by them."""

from contextlib import suppress
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medx_core.categories import Category
from medx_core.errors import VectorRefused
from medx_core.steering.control_vectors import export_control_vector, imported_vector, read_control_vector
from medx_core.steering.gate import Gate
from medx_core.steering.steering_vector import SteeringVector
from tests.language_models import WIDTH, tiny_network

VECTOR = SteeringVector(
    category=Category.TRIAGE,
    direction=torch.linspace(-1, 1, WIDTH),
    layer=2,
    model="tiny",
    model_sha256="ab" * 32,
    strategy="mean_difference",
    alpha=2.0,
    reading="answer_word",
    pairs=200,
    data_sha256="cd" * 32,
    prompt_version="p-1",
    created_at="2026-01-01T00:00:00+00:00",
    model_type="llama",
    further={1: torch.linspace(3, 2, WIDTH)},
)


def written(path, tensors, *, architecture="controlvector", hint="llama"):
    """A file as repeng writes it."""
    writer = gguf.GGUFWriter(path, architecture)
    if hint:
        writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(tensors))
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_exported_vector_is_laid_out_as_llama_cpp_reads_it(tmp_path):
    export_control_vector(VECTOR, tmp_path / "v.gguf")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "llama"
    assert reader.get_field("controlvector.layer_count").contents() == 2
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert list(tensors) == ["direction.1", "direction.2"], "the 0-based decoder layer is the number"
    np.testing.assert_array_equal(tensors["direction.2"], (VECTOR.direction * 2).numpy(), "alpha is in it")
    assert [path.name for path in tmp_path.iterdir()] == ["v.gguf"]


def test_a_vector_goes_out_and_comes_back_steering_the_same(tmp_path):
    export_control_vector(VECTOR, tmp_path / "v.gguf")
    network = tiny_network("llama")
    names = ("tiny", "ab" * 32)
    back = imported_vector(tmp_path / "v.gguf", network, category=Category.LITERATURE, alpha=1.0, names=names)
    assert (back.category, back.strategy, back.model, back.layer) == (
        Category.LITERATURE,
        "imported",
        "tiny",
        2,
    )
    for ours, theirs in zip(VECTOR.plan.steps, back.plan.steps, strict=True):
        assert ours.layer == theirs.layer
        states = torch.zeros((1, 1, WIDTH))
        assert torch.equal(ours.shift(states), theirs.shift(states))


def test_a_vector_of_another_program_is_read(tmp_path):
    tensors = {
        "direction.2": np.ones(WIDTH, dtype=np.float32),
        "direction.1": np.ones(WIDTH, dtype=np.float16),
    }
    vectors = read_control_vector(written(tmp_path / "r.gguf", tensors, hint=""))
    assert list(vectors.directions) == [1, 2]
    assert vectors.model_hint == ""
    assert all(direction.dtype is torch.float32 for direction in vectors.directions.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"strategy": "gated", "gate": Gate(torch.ones(WIDTH), 0.0), "further": {}},
            "depends on the state it steers",
        ),
        ({"strategy": "amplify", "further": {}}, "depends on the state it steers"),
        ({"further": {0: torch.ones(WIDTH)}}, "cannot steer layer 0"),
        ({"model_type": ""}, "--model-hint"),
    ],
)
def test_what_the_format_cannot_say_is_refused_in_one_sentence(tmp_path, change, words):
    with pytest.raises(VectorRefused, match=words):
        export_control_vector(replace(VECTOR, **change), tmp_path / "v.gguf")
    assert list(tmp_path.iterdir()) == []


ONE = np.ones(WIDTH, dtype=np.float32)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"direction.1": np.ones(8, dtype=np.float32)}, "hidden size is 32"),
        ({"direction.3": ONE}, "Layer 3 does not exist"),
        ({"direction.0": ONE}, "no control vector has"),
        ({"blk.1.weight": ONE}, "no control vector has"),
        ({"direction.1": 0 * ONE}, "zero vector"),
        ({"direction.1": np.nan * ONE}, "not finite"),
        ({"direction.1": np.ones((2, WIDTH), dtype=np.float32)}, "not one direction"),
        ({"direction.1": ONE, "direction.2": ONE[:8]}, "different lengths"),
        ({"direction.1": np.ones(WIDTH, dtype=np.int32)}, "only plain numbers"),
        ({}, "no directions"),
    ],
)
def test_a_control_vector_that_does_not_fit_is_refused(tmp_path, tensors, words):
    file = written(tmp_path / "r.gguf", tensors)
    with pytest.raises(VectorRefused, match=words):
        imported_vector(
            file, tiny_network("llama"), category=Category.TRIAGE, alpha=1.0, names=("tiny", "ab" * 32)
        )


def test_another_gguf_file_and_no_file_are_refused(tmp_path):
    with pytest.raises(VectorRefused, match="but not a control vector"):
        read_control_vector(written(tmp_path / "r.gguf", {"direction.1": ONE}, architecture="llama"))
    with pytest.raises(VectorRefused, match="There is no control vector"):
        read_control_vector(tmp_path / "none.gguf")
    (tmp_path / "empty.gguf").write_bytes(b"")
    with pytest.raises(VectorRefused, match="not a readable GGUF file"):
        read_control_vector(tmp_path / "empty.gguf")


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 399), byte=st.integers(0, 255), cut=st.integers(0, 500))
def test_a_broken_file_is_read_or_refused_but_never_anything_else(tmp_path, place, byte, cut):
    good = tmp_path / "good.gguf"
    if not good.exists():
        export_control_vector(VECTOR, good)
    content = bytearray(good.read_bytes())
    content[place % len(content)] = byte
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(bytes(content[: len(content) - cut] if cut < 200 else content))
    with suppress(VectorRefused):
        assert read_control_vector(broken).directions
