"""Loading a network and its tokenizer from a folder: safetensors only, nothing fetched, none of its code run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from medx_core.errors import RouterUnavailable
from medx_core.routing.encoder_files import first_line


def load_network(
    auto_class: Any, folder: Path, *, device: str, what: str, **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a float32 network by one of transformers' Auto classes, and its tokenizer.

    Args:
        auto_class: AutoModel or AutoModelForSequenceClassification.
        folder: where both lie.
        device: `cpu` or `cuda:N`.
        what: what it is to be used as, for the message.
        options: handed to the class.

    Raises:
        RouterUnavailable: it cannot be loaded or does not fit.
    """
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True, clean_up_tokenization_spaces=False
            )
            network: PreTrainedModel = auto_class.from_pretrained(
                folder,
                dtype=torch.float32,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                **options,
            )
            # Moves in place; transformers types its own `to` away.
            torch.nn.Module.to(network, torch.device(device))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise RouterUnavailable(
            f"{what} cannot be loaded from {folder} onto {device}: {first_line(error)}"
        ) from error
    return network, tokenizer


def freeze(network: PreTrainedModel) -> None:
    """Set a network to reading only."""
    network.train(mode=False)
    network.requires_grad_(requires_grad=False)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from drawing bars and reporting on fresh layers while loading; then put it back as it was."""
    shown, verbosity = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
