"""A folder is loaded only if it holds a whole model of its own; what is wrong with it is said in one sentence."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from medx_core.errors import ModelUnavailable
from medx_core.models import loading
from medx_core.models.catalog import MARKER
from medx_core.models.devices import choose_placement
from medx_core.models.loading import load_model
from medx_core.models.model_files import MEMORY, identity_sha256, verified_weight_sha256, weight_sha256
from tests.language_models import saved_tiny_model

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 269060552\n"


@pytest.fixture
def folder(tmp_path):
    return saved_tiny_model(tmp_path)


def refusal(folder) -> str:
    with pytest.raises(ModelUnavailable) as refused:
        load_model(str(folder), models_folder=folder.parent / "models", placement=choose_placement("cpu"))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def edit(file, change):
    content = json.loads(file.read_text("utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def rewritten(folder, change):
    """Write the weights again after `change` made other ones of them."""
    weights = load_file(folder / WEIGHTS)
    save_file(change(weights), folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_pointers_are_not_taken_for_files(folder, name):
    (folder / name).write_text(POINTER, encoding="utf-8")
    assert f"{name} hold git-lfs pointers" in refusal(folder)
    assert "git lfs pull" in refusal(folder)


@pytest.mark.parametrize("keep", [0.5, 0.0001])
def test_a_weight_file_that_was_cut_off_is_refused(folder, keep):
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: int(keep * len(whole))])
    assert "was cut off" in refusal(folder)


def test_bytes_that_are_no_safetensors_are_refused(folder):
    (folder / WEIGHTS).write_bytes(b"\xff" * 500)
    assert "damaged or was cut off (500 bytes" in refusal(folder)


def test_a_shard_that_is_not_there_is_named(folder):
    names = {"model.norm.weight": "a.safetensors", "lm_head.weight": "b.safetensors", "x": WEIGHTS}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert "lacks 2 of the 3 weight files" in refusal(folder)
    assert "a.safetensors, b.safetensors" in refusal(folder)


@pytest.mark.parametrize("index", ['{"weight_map": []}', '{"weight_map": {}}', "{}"])
def test_an_index_that_names_no_weights_is_refused_and_so_are_parts_without_one(folder, index):
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    assert "holds parts of the weights (model-00001-of-00002.safetensors) without" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text(index, encoding="utf-8")
    assert "does not say which weight file each weight is in" in refusal(folder)


def test_layers_that_are_not_there_are_counted_and_never_drawn_at_random(folder):
    rewritten(folder, lambda weights: {k: v for k, v in weights.items() if ".layers.1." not in k})
    assert "9 weights that the network needs are not in its files (model.layers.1." in refusal(folder)


def test_keys_with_another_prefix_are_refused(folder):
    rewritten(folder, lambda weights: {f"policy.{name}": value for name, value in weights.items()})
    assert "weights that the network needs are not in its files" in refusal(folder)
    assert "weights in its files belong to no part of the network (policy." in refusal(folder)


def test_weights_that_are_left_over_are_refused(folder):
    rewritten(folder, lambda weights: weights | {"model.layers.7.mlp.up_proj.weight": torch.zeros(48, 32)})
    assert "1 weights in its files belong to no part of the network" in refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    edit(folder / "config.json", lambda config: config.update(intermediate_size=40))
    assert "9 weights have another shape than its configuration says (model.layers.0.mlp." in refusal(folder)


@pytest.mark.parametrize(
    "quantisation",
    [
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        {"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {}},
        {"quant_method": "a-method-of-next-year"},
    ],
    ids=lambda given: given["quant_method"],
)
def test_quantised_weights_that_cannot_be_run_are_named(folder, quantisation):
    edit(folder / "config.json", lambda config: config.update(quantization_config=quantisation))
    sentence = refusal(folder)
    assert f"quantised ({quantisation['quant_method']})" in sentence
    assert "name the unquantised model" in sentence


def test_weights_in_a_number_type_that_needs_scales_are_refused_where_no_scales_are_told(folder):
    rewritten(folder, lambda tensors: {name: tensor.to(torch.int8) for name, tensor in tensors.items()})
    said = refusal(folder)
    assert "30 weights are numbers of one byte or integers" in said
    assert "config.json does not say how they were quantised" in said


@pytest.mark.parametrize("damage", ["config.json", "tokenizer.json"])
def test_files_that_are_not_json_are_named(folder, damage):
    (folder / damage).write_text("{ not JSON", encoding="utf-8")
    assert "tiny" in refusal(folder)


def test_an_architecture_that_nobody_knows_is_refused(folder):
    edit(folder / "config.json", lambda config: config.update(model_type="of_next_year", architectures=["X"]))
    assert "of_next_year" in refusal(folder)


@pytest.mark.parametrize("alone", [True, False])
def test_an_adapter_is_refused_with_a_command_that_merges_it(folder, tmp_path, alone):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder)
    adapted = peft.get_peft_model(base, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapter = folder if not alone else tmp_path / "adapter"
    if not alone:
        folder = folder.rename(tmp_path / "beside")
        adapter = folder
    adapted.peft_config["default"].base_model_name_or_path = str(folder)
    adapted.save_pretrained(adapter)
    sentence = refusal(adapter)
    assert "holds an adapter" in sentence
    if alone:
        for file in folder.glob("token*"):
            (adapter / file.name).write_bytes(file.read_bytes())
        command = shlex.split(sentence[sentence.index("python -c") :])
        subprocess.run([sys.executable, *command[1:]], check=True, capture_output=True)
        merged = load_model(
            f"{adapter}-merged", models_folder=tmp_path / "models", placement=choose_placement("cpu")
        )
        assert merged.weight_sha256 != weight_sha256(folder, memory_folder=tmp_path / "models")


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
    ],
)
def test_the_identity_follows_whatever_changes_an_answer_and_the_weight_hash_does_not(folder, tmp_path, name):
    memory = tmp_path / "models"
    weights, identity = (
        weight_sha256(folder, memory_folder=memory),
        identity_sha256(folder, memory_folder=memory),
    )
    file = folder / name
    file.write_text((file.read_text("utf-8") if file.exists() else "") + "\n", encoding="utf-8")
    assert weight_sha256(folder, memory_folder=memory) == weights
    assert identity_sha256(folder, memory_folder=memory) != identity


def test_other_weights_of_the_same_size_and_time_have_another_hash(folder, tmp_path):
    before = weight_sha256(folder, memory_folder=tmp_path), identity_sha256(folder, memory_folder=tmp_path)
    kept = (folder / WEIGHTS).stat()
    for replaced in (True, False):
        weights = {name: value * 2 for name, value in load_file(folder / WEIGHTS).items()}
        written = folder / (
            "copied" if replaced else WEIGHTS
        )  # as `rsync -t` puts it in place, and as `cp -p` writes over it
        save_file(weights, written, metadata={"format": "pt"})
        os.utime(written, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        written.replace(folder / WEIGHTS)
        now = (folder / WEIGHTS).stat()
        assert (now.st_size, now.st_mtime_ns) == (kept.st_size, kept.st_mtime_ns)
        after = weight_sha256(folder, memory_folder=tmp_path), identity_sha256(folder, memory_folder=tmp_path)
        assert set(before).isdisjoint(after)
        before = after


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_a_model_whose_files_change_while_they_are_read_is_refused(folder, monkeypatch, name):
    read = loading.AutoModelForCausalLM.from_pretrained

    def replaced_meanwhile(*given, **options):
        network = read(*given, **options)
        if name == WEIGHTS:
            rewritten(folder, lambda weights: {key: value * 2 for key, value in weights.items()})
        else:
            (folder / name).write_text((folder / name).read_text("utf-8") + "\n", encoding="utf-8")
        return network

    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", replaced_meanwhile)
    assert "changed while they were read" in refusal(folder)


def test_the_index_is_part_of_the_identity_where_weights_are_read_by_it(folder, tmp_path):
    def identity():
        return identity_sha256(folder, memory_folder=tmp_path)

    index, whole = folder / "model.safetensors.index.json", identity()
    index.write_text('{"weight_map": {}}', encoding="utf-8")
    assert identity() == whole, "the single file is what transformers reads"
    (folder / WEIGHTS).rename(folder / "model-00001-of-00001.safetensors")
    sharded = identity()
    index.write_text(
        '{"weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}', encoding="utf-8"
    )
    assert identity() != sharded


@pytest.mark.weights
def test_the_default_model_keeps_the_identity_that_published_figures_name(real_model):
    assert real_model.weight_sha256.startswith("a672150fb4f99d7c")
    assert real_model.identity_sha256.startswith("cba8db9c192049a7")


def test_notes_beside_a_model_are_not_part_of_its_identity(folder, tmp_path):
    memory = tmp_path / "models"
    identity = identity_sha256(folder, memory_folder=memory)
    for name in ("README.md", "LICENSE.txt", "medx-model.json", ".weight-hashes.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    assert identity_sha256(folder, memory_folder=memory) == identity


def test_a_model_is_loaded_by_the_content_of_its_weights_and_not_by_their_size_and_times(folder, tmp_path):
    memory = tmp_path / "memory"
    right = weight_sha256(folder, memory_folder=memory)
    assert verified_weight_sha256(folder, memory_folder=memory) == right
    # A disk that gives back other bytes changes no time: what is remembered then differs from what is read.
    remembered = json.loads((memory / MEMORY).read_text())
    remembered[str(folder)]["sha256"] = "0" * 64
    (memory / MEMORY).write_text(json.dumps(remembered))
    assert weight_sha256(folder, memory_folder=memory) == "0" * 64
    for _ in range(2):  # a second start is no better
        with pytest.raises(ModelUnavailable, match=r"not what they were .* fetch the model again"):
            verified_weight_sha256(folder, memory_folder=memory)


def test_a_converted_model_is_held_against_what_it_was_converted_to(folder, tmp_path):
    marker = folder / MARKER
    marker.write_text(json.dumps({"weights_sha256": weight_sha256(folder, memory_folder=tmp_path)}))
    verified_weight_sha256(folder, memory_folder=tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="a file was damaged or replaced"):
        verified_weight_sha256(folder, memory_folder=tmp_path)
