"""What the JSON of an evaluation says, read once and leniently: whatever is missing or null is None here.

A report is also made of results that an older or newer version wrote, so nothing in this file raises on a missing
key; the parts that draw decide how to say that something is not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medx_core.evaluation.number_format import number
from medx_core.evaluation.report.arm_words import MEANINGS, ORDER, TITLES

Json = Mapping[str, Any]

UNSTEERED = "unsteered"
REFERENCES = ("probe", "lexical")
CONTROL_ENDINGS = ("random", "shuffled")


@dataclass(frozen=True)
class Figure:
    """A metric: a value with its interval, or the median of a control with its draws."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    draws: tuple[float, ...] = ()

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval, where both ends are known."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Arm:
    """One arm of the JSON. `of` names the arm it is a control of."""

    name: str
    data: Json
    of: str | None = None

    @property
    def title(self) -> str:
        """The name in words."""
        return TITLES.get(self.name, self.name.replace("_", " ").capitalize())

    @property
    def meaning(self) -> str:
        """One line on what the arm is."""
        return MEANINGS.get(self.name, "")

    def figure(self, metric: str) -> Figure | None:
        """Return a metric of the arm."""
        return figure(self.data.get(metric))

    def difference(self, metric: str) -> Figure | None:
        """Return the paired difference of a metric from the unsteered arm."""
        return figure(part(self.data, "vs_unsteered").get(f"{metric}_difference"))


@dataclass(frozen=True)
class Evaluation:
    """The arms of a result in the order in which they are shown."""

    result: Json
    arms: tuple[Arm, ...]
    declared: str

    def arm(self, name: str) -> Arm | None:
        """Return an arm by name."""
        return next((one for one in self.arms if one.name == name), None)

    @property
    def compared(self) -> tuple[Arm, ...]:
        """The arms that are shown against the unsteered one: no controls, reference lines last."""
        return tuple(one for one in self.arms if one.of is None and one.name != UNSTEERED)

    def controls(self, name: str) -> tuple[Arm, ...]:
        """Return the controls of an arm, drawn many times."""
        return tuple(one for one in self.arms if one.of == name)

    def drawn_differences(self, control: Arm, metric: str) -> tuple[float, ...]:
        """Return a control's draws as differences from the unsteered arm's value."""
        given = control.difference(metric)
        if given and given.draws:
            return given.draws
        base = self.arm(UNSTEERED)
        start, drawn = (base.figure(metric) if base else None), control.figure(metric)
        return tuple(value - start.value for value in drawn.draws) if start and drawn else ()


def part(data: Json, key: str) -> Json:
    """Return the object under a key, or an empty one."""
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def figure(data: object) -> Figure | None:
    """Read `{value, low, high, n}`, `{value, draws}` or a bare number."""
    bare = number(data)
    if bare is not None:
        return Figure(bare)
    if not isinstance(data, Mapping) or (value := number(data.get("value"))) is None:
        return None
    draws = tuple(one for drawn in sequence(data, "draws") if (one := number(drawn)) is not None)
    n = number(data.get("n"))
    return Figure(
        value, number(data.get("low")), number(data.get("high")), None if n is None else int(n), draws
    )


def sequence(data: Json, key: str) -> Sequence[Any]:
    """Return the list under a key, or an empty one."""
    value = data.get(key)
    return value if isinstance(value, list | tuple) else ()


def declared_arm(result: Json) -> str:
    """Return the arm that was declared beforehand."""
    places = ((part(result, "judged"), "arm"), (result, "declared"), (part(result, "settings"), "declared"))
    stated = next((data[key] for data, key in places if data.get(key)), None)
    return str(stated or "gated")


def evaluation(result: Json) -> Evaluation:
    """Read a result: arms in the order of the design, the declared one straight after the unsteered."""
    named = part(result, "arms")
    declared = declared_arm(result)
    arms = [
        Arm(name, data, _owner(name, data, named))
        for name, data in named.items()
        if isinstance(data, Mapping)
    ]
    return Evaluation(result, tuple(sorted(arms, key=lambda one: _place(one, declared))), declared)


def wording_free(result: Json, arm: Arm | None) -> Json:
    """Return the wording-free part: an arm's own, with what the whole evaluation says about it."""
    return {**part(result, "matched"), **(part(arm.data, "matched") if arm else {})}


def _owner(name: str, data: Json, named: Json) -> str | None:
    if data.get("of"):
        return str(data["of"])
    if name in CONTROL_ENDINGS:
        return "paper"
    stem, _, ending = name.rpartition("_")
    return stem if ending in CONTROL_ENDINGS and stem in named else None


def _place(arm: Arm, declared: str) -> tuple[int, int, str, int]:
    """Put the unsteered arm first, the declared one second, reference lines last, controls behind their arm."""
    name = arm.of or arm.name
    first = 0 if name == UNSTEERED else 1 if name == declared else 3 if name in REFERENCES else 2
    return first, _known(name), name, 0 if arm.of is None else 1 + _known(arm.name)


def _known(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)
