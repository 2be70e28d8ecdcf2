"""The dose: how far a layer's steering moves a state, as a share of that state's own length, |shift| / |h|.

For a constant vector that is |alpha v| / |h|. Strengths cannot be compared between layers, vectors and models, doses
can: near 0 a vector does nothing, near 1 it is as long as what the model had there itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from medx_core.errors import VectorRefused


@dataclass
class DoseMeter:
    """Reads the largest dose that one row gets at any of its layers and tokens; padding before its text is left out.

    `tokens` is the length of the row's prompt, `limit` the largest dose allowed.
    """

    tokens: int
    limit: float = inf
    largest: float = 0.0
    closed: bool = False

    def read(self, layer: int, dose: float) -> None:
        """Note a dose.

        Raises:
            VectorRefused: it is above the limit, or not a number.
        """
        if self.closed:
            return
        if not dose <= self.limit:
            raise VectorRefused(
                f"The dose at layer {layer} is {dose:.3g}: the vector would move a state of this question by {dose:.3g} "
                f"times that state's own length, and MEDX_MAX_DOSE allows {self.limit:g}; use a weaker vector."
            )
        self.largest = max(self.largest, dose)


def read_doses(
    meters: Sequence[DoseMeter | None], layer: int, states: Tensor, shift: Tensor, begins_at: int
) -> None:
    """Let each row's meter read the largest dose of its tokens.

    `states` is (rows, tokens, hidden_size), `shift` broadcasts to it, the first token is number `begins_at` as
    `Positions` counts.

    Raises:
        VectorRefused: a row's dose is above its limit.
    """
    lengths = states.float().norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    doses = shift.float().norm(dim=-1) / lengths
    numbers = torch.arange(begins_at, begins_at + states.shape[1], device=states.device)
    first = torch.tensor([0 if meter is None else -meter.tokens for meter in meters], device=states.device)
    largest = doses.masked_fill(numbers[None] < first[:, None], 0.0).amax(dim=1)
    for meter, dose in zip(meters, largest.tolist(), strict=True):
        if meter is not None:
            meter.read(layer, dose)
