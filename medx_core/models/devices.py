"""Where a model runs: the only file that names CUDA.

One process uses one device. float32 on the CPU; bfloat16 on a GPU that has it, else float16.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from medx_core.errors import ModelUnavailable

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """A device and the number type of the weights on it."""

    device: torch.device
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.device} {str(self.dtype).removeprefix('torch.')}"


def choose_placement(device: str = "auto", dtype: str = "auto") -> Placement:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` and a number type into a placement.

    Raises:
        ModelUnavailable: there is no such device or number type; the message says what there is.
    """
    chosen = _choose_device(device)
    if dtype == "auto":
        return Placement(chosen, _natural_dtype(chosen))
    if dtype not in DTYPES:
        raise ModelUnavailable(
            f"The number type {dtype!r} is not known; use one of: auto, {', '.join(DTYPES)}."
        )
    if chosen.type == "cpu" and dtype == "bfloat16" and _emulates_bfloat16():
        log.warning(
            "This processor has no bfloat16 instructions: torch emulates them, and bfloat16 is slower than float32."
        )
    return Placement(chosen, DTYPES[dtype])


def _emulates_bfloat16() -> bool:
    """Whether an x86 processor computes bfloat16 in float32 steps; torch calls that supported all the same."""
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx2")) and not (has.get("avx512_bf16") or has.get("amx_bf16"))


def _choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelUnavailable(f"The device {name!r} is not known; use auto, cpu or cuda:N.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ModelUnavailable(
                f"The device {name} is not there: this machine has {count} CUDA device(s); use --device cpu."
            )
        return torch.device("cuda", device.index or 0)
    return device


def _natural_dtype(device: torch.device) -> torch.dtype:
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16


def use_threads(count: int) -> None:
    """Let torch use `count` CPU threads in this process; 0 leaves torch's own choice."""
    if count:
        torch.set_num_threads(count)


def seconds_used(device: torch.device) -> float:
    """Return a clock for work on the device: CPU seconds of this process, or the wall clock once a GPU has caught up."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def memory_faults_in_words(subject: str) -> Iterator[None]:
    """Turn an exhausted device into one sentence about `subject`, and hand the cached memory back.

    Raises:
        ModelUnavailable: the device ran out of memory inside the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise ModelUnavailable(
            f"{subject} does not fit into this device's memory; shorten it or lower MEDX_MAX_BATCH_ROWS."
        ) from error
