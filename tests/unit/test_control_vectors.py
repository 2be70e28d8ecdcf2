"""Control vectors in GGUF: what llama.cpp and repeng write can be read, and what is written can be read by them."""

from contextlib import suppress
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from medx_core.categories import Category
from medx_core.errors import BadInput, VectorRefused
from medx_core.steering.control_vectors import export_control_vector, imported_vector, read_control_vector
from medx_core.steering.conventions import Convention, unsaid
from medx_core.steering.gate import Gate
from medx_core.steering.hooks import outputs_read
from medx_core.steering.layers import hidden_of
from medx_core.steering.positions import Positions
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


def imported(file, architecture="llama", alpha=1.0, **said):
    """A file as it comes in, made by a tool of which nothing is known but what is `said`."""
    known = {"made_by": "other", "layers": "output", "sign": "correct", "scale": "raw", **said}
    convention = Convention.of(known)
    network, names = tiny_network(architecture), ("tiny", "ab" * 32)
    return imported_vector(
        file, network, category=Category.TRIAGE, alpha=alpha, names=names, convention=convention
    )


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
    convention = Convention.of(read_control_vector(tmp_path / "v.gguf").said)
    back = imported_vector(
        tmp_path / "v.gguf",
        network,
        category=Category.LITERATURE,
        alpha=1.0,
        names=names,
        convention=convention,
    )
    assert (back.category, back.strategy, back.model, back.layer) == (
        Category.LITERATURE,
        "imported",
        "tiny",
        2,
    )
    for ours, theirs in zip(VECTOR.plan.steps, back.plan.steps, strict=True):
        assert (ours.layer, ours.positions) == (theirs.layer, theirs.positions)
        states = torch.zeros((1, 1, WIDTH))
        assert torch.equal(ours.shift(states), theirs.shift(states))


def test_a_vector_of_another_program_is_read(tmp_path):
    tensors = {
        "direction.2": np.ones(WIDTH, dtype=np.float32),
        "direction.1": np.ones(WIDTH, dtype=np.float16),
    }
    vectors = read_control_vector(written(tmp_path / "r.gguf", tensors, hint=""))
    assert list(vectors.directions) == [1, 2]
    assert (vectors.model_hint, vectors.said) == ("", {})
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
        imported(file)


def test_a_vector_is_taken_as_its_makers_tool_would_use_it(tmp_path):
    unit = np.full(WIDTH, WIDTH**-0.5, dtype=np.float32)
    file = written(tmp_path / "u.gguf", {"direction.1": unit, "direction.2": unit})
    vector = imported(file, made_by="repeng", layers="", scale="", alpha=1.5)
    assert (list(vector.directions), vector.alpha) == ([1, 2], 1.5)
    assert vector.positions == vector.verdict_positions == Positions.ALL, (
        "repeng steers every token, verdicts too"
    )
    read_before = imported(file, layers="hidden-states", scale="unit", sign="incorrect", positions="-3:0")
    assert (list(read_before.directions), read_before.alpha) == ([0, 1], -1.0)
    assert str(read_before.verdict_positions) == "-3:0"
    assert vector.diagnostics["convention"] == {
        "made_by": "repeng", "layers": "output", "sign": "correct", "scale": "unit", "positions": "all",
        "verdict_positions": "all",
    }  # fmt: skip


def test_a_length_that_is_not_as_said_is_refused(tmp_path):
    unit = np.full(WIDTH, WIDTH**-0.5, dtype=np.float32)
    with pytest.raises(VectorRefused, match=r"length 2 to 2, not 1; say --scale raw"):
        imported(written(tmp_path / "long.gguf", {"direction.1": 2 * unit}), scale="unit")
    with pytest.raises(VectorRefused, match=r"of length 1.*say --scale unit"):
        imported(written(tmp_path / "unit.gguf", {"direction.1": unit}), scale="raw")


def test_hidden_states_begin_with_the_first_layers_output_in_mamba_alone(tmp_path):
    """transformers 5.23.0: entry N of `hidden_states` is layer N - 1's output, in Mamba networks layer N's."""
    networks = {"llama": tiny_network("llama").eval(), "mamba": tiny_mamba()}
    for name, network in networks.items():
        with (
            torch.inference_mode(),
            outputs_read(network, [0, 1], lambda output: hidden_of(output).clone()) as outputs,
        ):
            seen = network(input_ids=torch.tensor([[5, 6, 7]]), output_hidden_states=True).hidden_states
        file = written(tmp_path / f"{name}.gguf", {"direction.1": ONE})
        convention = Convention.of(
            {"made_by": "other", "layers": "hidden-states", "sign": "correct", "scale": "raw"}
        )
        vector = imported_vector(
            file, network, category=Category.TRIAGE, alpha=1.0, names=("m", "ab"), convention=convention
        )
        torch.testing.assert_close(seen[1], outputs[vector.layer])
        assert not torch.allclose(seen[1], outputs[1 - vector.layer])


def tiny_mamba():
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "mamba",
        hidden_size=WIDTH,
        num_hidden_layers=3,
        state_size=8,
        vocab_size=300,
        expand=2,
        time_step_rank=4,
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    ("said", "missing", "words"),
    [
        (
            {},
            ["made_by", "layers", "sign", "scale"],
            r"add --made-by with one of repeng, llama\.cpp, medx, other",
        ),
        ({"made_by": "repeng"}, ["sign"], "add --sign with one of correct, incorrect"),
        ({"made_by": "llama.cpp", "sign": "correct"}, ["scale"], "add --scale with one of unit, raw"),
        ({"made_by": "other", "layers": "input"}, ["sign", "scale"], "--layers cannot be 'input'"),
        ({"made_by": "gimp"}, None, "--made-by cannot be 'gimp'"),
        ({"made_by": "medx", "positions": "first"}, [], "There are no positions 'first'"),
    ],
)
def test_what_is_not_said_of_a_vector_is_asked_for(said, missing, words):
    if missing is not None:
        assert unsaid(said) == missing
    with pytest.raises(BadInput, match=words):
        Convention.of(said)


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
