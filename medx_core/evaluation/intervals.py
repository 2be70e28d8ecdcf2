"""Intervals around shares."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from medx_core.errors import BadInput


@dataclass(frozen=True)
class Share:
    """A share of `n` with its interval, all between 0 and 1."""

    value: float
    low: float
    high: float
    n: int


def wilson(right: int, n: int, confidence: float = 0.95) -> Share | None:
    """Return `right / n` with its Wilson score interval, or None when `n` is 0.

    Raises:
        BadInput: `right` is not between 0 and `n`, or `confidence` not strictly between 0 and 1.
    """
    if not 0 <= right <= n or not 0 < confidence < 1:
        raise BadInput(f"There is no share of {right} in {n} at confidence {confidence}.")
    if n == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / n
    spread = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    centre = share + z * z / (2 * n)
    scale = 1 + z * z / n
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return Share(share, 0.0 if right == 0 else low, 1.0 if right == n else high, n)
