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
from medx_core.recipes import dose_limit


@dataclass
class DoseMeter:
    """Reads the largest dose that one row gets at any of its layers and tokens; padding before its text is left out.

    `tokens` is the length of the row's prompt, `limit` the largest dose allowed, by what `limited_by` names. A row whose dose
    is above the limit, or not a number, is refused: its pass goes on for the rows beside it, and what it gives for this row is
    not to be used. `refused_at` is the layer.
    """

    tokens: int
    limit: float = inf
    limited_by: str = "MEDX_MAX_DOSE"
    largest: float = 0.0
    closed: bool = False
    refused_at: int | None = None

    def read(self, layer: int, dose: float) -> None:
        """Note a dose; one above the limit closes the meter."""
        if self.closed:
            return
        if dose <= self.limit:
            self.largest = max(self.largest, dose)
        else:
            self.largest, self.refused_at, self.closed = dose, layer, True

    @property
    def refusal(self) -> VectorRefused | None:
        """Why the row is refused; None where its dose stayed within the limit."""
        if self.refused_at is None:
            return None
        return VectorRefused(
            "This question is not answered steered, since steering would move the model too far: the dose at layer "
            f"{self.refused_at} is {self.largest:.3g} times the state's own length, and {self.limited_by} allows "
            f"{self.limit:g}; use a weaker vector."
        )


def limited_meter(tokens: int, by_recipe: float | None, *, by_setting: float) -> DoseMeter:
    """Return a meter for a row of so many prompt tokens under the smaller of the recipe's limit and the setting's."""
    return DoseMeter(tokens, *dose_limit(by_recipe, by_setting=by_setting))


def read_doses(
    meters: Sequence[DoseMeter | None], layer: int, states: Tensor, shift: Tensor, begins_at: int
) -> None:
    """Let each row's meter read the largest dose of its tokens.

    `states` is (rows, tokens, hidden_size), `shift` broadcasts to it, the first token is number `begins_at` as
    `Positions` counts.
    """
    lengths = states.float().norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    doses = shift.float().norm(dim=-1) / lengths
    numbers = torch.arange(begins_at, begins_at + states.shape[1], device=states.device)
    first = torch.tensor([0 if meter is None else -meter.tokens for meter in meters], device=states.device)
    largest = doses.masked_fill(numbers[None] < first[:, None], 0.0).amax(dim=1)
    for meter, dose in zip(meters, largest.tolist(), strict=True):
        if meter is not None:
            meter.read(layer, dose)
