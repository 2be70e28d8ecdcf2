"""The control every vector must beat: a direction that knows nothing, as long as the real one."""

import torch

from medx_core.steering.strategies.direction import ConstantDirection


def random_direction(width: int, norm: float, seed: int) -> ConstantDirection:
    """Return a direction drawn evenly from all directions, of length `norm`; the same seed gives the same one.

    Raises:
        VectorRefused: `norm` is 0 or not finite.
    """
    drawn = torch.randn(width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ConstantDirection((drawn * (norm / drawn.norm())).float())
