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
