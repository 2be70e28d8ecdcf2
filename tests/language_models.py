"""Language models for tests: tiny random ones built in milliseconds, and the real small one where it was pulled."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer, WordLevelTrainer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from medx_core.models.catalog import is_pulled
from medx_core.models.devices import Placement, choose_placement
from medx_core.models.loading import LoadedModel, load_model, prepared
from medx_core.prompts import QUESTION_PROMPT, STATEMENT_PROMPT
from medx_core.settings import settings
from medx_core.traces.checking import KEPT, checked

CHECKOUT = Path(__file__).resolve().parent.parent
REAL = "smollm2-135m"
WIDTH = 32
VOCABULARY = 512  # of the byte tokenizer
SMALL = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 300, "max_position_embeddings": 512, "pad_token_id": 0,
         "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
ARCHITECTURES = {
    "llama": SMALL,
    "mistral": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL,
    "gemma2": {**SMALL, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SMALL, "query_pre_attn_scalar": 8},
    "phi3": SMALL,
    "gpt2": {"n_embd": WIDTH, "n_layer": 3, "n_head": 4, "vocab_size": 300, "n_positions": 512, "pad_token_id": 0,
             "bos_token_id": 1, "eos_token_id": 2},
    "gpt_neox": SMALL,
    "opt": {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": WIDTH},
    "biogpt": SMALL,
    "granite": {**SMALL, "logits_scaling": 8.0},
    "mixtral": {**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2},
}  # fmt: skip


def tiny_network(architecture: str, seed: int = 0, **given: object) -> PreTrainedModel:
    """A three-layer network of that architecture with random weights; `given` replaces parts of its configuration."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **{**ARCHITECTURES[architecture], **given})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@lru_cache(maxsize=1)
def word_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of whole words that knows the prompts' words; spaces belong to the word that follows."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_next")
    text = [STATEMENT_PROMPT.filled("x") + " Yes", QUESTION_PROMPT.filled("x") + " No"]
    trainer = WordLevelTrainer(special_tokens=["<pad>", "<s>", "</s>", "<unk>"], vocab_size=300)
    tokenizer.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_model(architecture: str = "llama", placement: Placement | None = None) -> LoadedModel:
    """A tiny random model, ready to be asked."""
    chosen = placement or choose_placement("cpu")
    network = tiny_network(architecture).to(device=chosen.device, dtype=chosen.dtype)
    tokenizer = word_tokenizer()
    prepared(network, tokenizer)
    return LoadedModel(f"tiny-{architecture}", network, tokenizer, chosen, "0" * 64, "1" * 64)


@lru_cache(maxsize=1)
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes that has learned the prompts' words: any text comes back from it as it went in."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        special_tokens=["<pad>", "<s>", "</s>"],
        vocab_size=VOCABULARY,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = (STATEMENT_PROMPT, QUESTION_PROMPT)
    words = [prompt.filled("x") + prompt.word(truth) for prompt in prompts for truth in (True, False)]
    tokenizer.train_from_iterator(words * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def saved_tiny_model(folder: Path) -> Path:
    """A folder that holds a tiny model, to be named as MEDX_MODEL or --model."""
    tiny_network("llama", vocab_size=VOCABULARY, max_position_embeddings=2048).save_pretrained(
        folder / "tiny"
    )
    byte_tokenizer().save_pretrained(folder / "tiny")
    return folder / "tiny"


@lru_cache(maxsize=1)
def check_of_tiny_model() -> str:
    """What is kept of the check of the saved tiny model, made once for all tests of a process."""
    with TemporaryDirectory() as folder:
        model = load_model(
            str(saved_tiny_model(Path(folder))), models_folder=Path(folder), placement=choose_placement("cpu")
        )
        checked(model, memory_folder=Path(folder))
        return (Path(folder) / KEPT).read_text("utf-8")


@pytest.fixture
def tiny_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of the test's own, whose model is a tiny one that was checked."""
    models_folder = tmp_path / "home" / "models"
    models_folder.mkdir(parents=True)
    (models_folder / KEPT).write_text(check_of_tiny_model(), encoding="utf-8")
    monkeypatch.setenv("MEDX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MEDX_MODEL", str(saved_tiny_model(tmp_path)))
    monkeypatch.setenv("DATABASE_URL", "")
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


def models_folder() -> Path:
    """Where `deploy/test` puts the real small model."""
    return Path(os.environ.get("MEDX_TEST_MODELS", CHECKOUT / "var" / "models"))


@pytest.fixture(scope="session")
def real_model() -> LoadedModel:
    """SmolLM2-135M on the CPU."""
    if not is_pulled(models_folder(), REAL):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{REAL} must be on the disk in CI; deploy/test pulls it.")
        pytest.skip(f"{REAL} is not on this disk; deploy/test pulls it.")
    return load_model(REAL, models_folder=models_folder(), placement=choose_placement("cpu"))
