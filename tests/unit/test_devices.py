"""Choosing a device says what there is when the wished one is not."""

import pytest
import torch

from medx_core.errors import ModelUnavailable
from medx_core.models.devices import choose_placement, memory_faults_in_words


def test_the_cpu_computes_in_float32():
    assert str(choose_placement("cpu")) == "cpu float32"


def test_a_number_type_can_be_chosen():
    assert choose_placement("cpu", "bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "warned"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True),
        ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, False),
        ({"bf16": True}, False),  # arm64
    ],
)
def test_bfloat16_without_instructions_for_it_is_called_slow(monkeypatch, caplog, capabilities, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    choose_placement("cpu", "bfloat16")
    assert ("slower than float32" in caplog.text) is warned


@pytest.mark.parametrize(
    ("device", "dtype", "words"),
    [
        ("cuda:99", "auto", r"cuda:99 is not there: this machine has \d+ CUDA device"),
        ("toaster", "auto", "'toaster' is not known; use auto, cpu or cuda:N"),
        ("cpu", "float8", "'float8' is not known; use one of: auto, float32"),
    ],
)
def test_what_is_not_there_is_refused_in_one_sentence(device, dtype, words):
    with pytest.raises(ModelUnavailable, match=words):
        choose_placement(device, dtype)


def test_an_exhausted_device_becomes_a_sentence():
    with (
        pytest.raises(ModelUnavailable, match=r"This question does not fit .* shorten it"),
        memory_faults_in_words("This question"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
