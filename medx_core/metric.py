"""A measured figure with its interval, as every result, record and page holds it. Needs no numerical library."""

from pydantic import BaseModel, ConfigDict, Field


class Value(BaseModel):
    """A part of a result: it never changes, and holds finite numbers and known keys only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Metric(Value):
    """A figure with its 95 % interval."""

    value: float = Field(description="the figure on all its items")
    low: float = Field(description="lower end of the 95 % interval")
    high: float = Field(description="upper end of the 95 % interval")
    n: int = Field(description="number of items, or of pairs, that it rests on")

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0
