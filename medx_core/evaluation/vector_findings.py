"""What a vector's stored figures mean, in sentences a person can act on. Needs nothing but the figures."""

from collections.abc import Mapping
from typing import Any

from medx_core.evaluation.number_format import ascii_points

CLASS_PRIOR_COSINE = 0.5
SAME_AXIS = 0.8
"""A mean absolute cosine above which shuffled labels are said to give the same axis.

Chance gives no more: two directions drawn at random have a mean absolute cosine of 2/pi = 0.64 in a plane, 0.5 in space
and 0.03 among 576 dimensions, and twenty draws in a plane stay within 0.64 + 2 * 0.07 nearly always. States that vary
little lie between; on the small model mean differences of 200 statements have 0.1 to 0.2, principal components 1.0.
"""
SMALL_SEPARATION = 0.2
"""Standard deviations below which two sides overlap almost wholly (Cohen's small effect), however sure the difference."""
STABLE_COSINE = 0.3
SMALL_SHARE = 0.01
COARSE = ("bfloat16", "float16")
"""Number types whose rounding, two or three digits, is as large as a vector of a small share."""


def gain_sentence(diagnostics: Mapping[str, Any]) -> str:
    """Say whether steering with this vector was better than not steering on statements it was not made from.

    A gain of zero or below is what the paper names as the sign of poor contrast pairs or a wrong layer.
    """
    gain = diagnostics.get("validation_gain")
    if not gain:
        return "Not evaluated on held-out statements."
    value, low, high = (ascii_points(gain[end]) for end in ("value", "low", "high"))
    size = f"{value} points of balanced accuracy [{low}, {high}] on {gain['n']} held-out statements"
    if gain["value"] <= 0:
        return f"No gain: {size}. This is the failure signature of poor contrast pairs or a wrong layer."
    if gain["low"] <= 0:
        return f"Not shown to help: {size}; the interval includes zero."
    return f"A gain of {size}. Only an evaluation with controls can tell whether it is more than wording or bias."


def warnings_of(diagnostics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a person should know before using the vector, worst first."""
    warnings = []
    halves, size = diagnostics.get("halves_cosine"), diagnostics.get("relative_norm")
    false_acceptance = (diagnostics.get("validation") or {}).get("false_acceptance_rate")
    if false_acceptance and false_acceptance["steered"] > false_acceptance["unsteered"]:
        warnings.append(
            f"False statements are accepted more often with it: {_share(false_acceptance['unsteered'])} before, "
            f"{_share(false_acceptance['steered'])} after."
        )
    warnings.extend(_of_the_labels(diagnostics))
    if halves is not None and halves < STABLE_COSINE:
        warnings.append(
            f"Two halves of the data give unlike directions (cosine {halves:.2f}): other examples would give another vector."
        )
    if size is not None and size < SMALL_SHARE:
        warnings.append(
            "It is too small to change many answers at this strength. Where wording gives nothing away, little is left."
        )
        if diagnostics.get("dtype") in COARSE:
            warnings.append(
                f"It was built in {diagnostics['dtype']}, where a vector this small is in good part rounding; "
                "build it with MEDX_DTYPE=float32."
            )
    return tuple(warnings)


def _of_the_labels(diagnostics: Mapping[str, Any]) -> list[str]:
    """Say where the direction owes nothing to the labels."""
    signed, size = diagnostics.get("shuffled_cosine"), diagnostics.get("shuffled_cosine_size")
    if signed is not None and signed >= CLASS_PRIOR_COSINE:
        return [
            f"Shuffled labels give nearly the same direction (cosine {signed:.2f}): it is mostly the class prior, not medicine."
        ]
    if size is None or size < SAME_AXIS:
        return []
    # A strong effect is what states vary by most, so that shuffled labels find its axis too; but then the real labels
    # are told apart along it far better than any shuffled ones.
    if diagnostics["separation"] > max(diagnostics["shuffled_separation"], SMALL_SEPARATION):
        return []
    return [
        f"Shuffled labels give nearly the same axis (cosine {size:.2f} whatever its sign) and separate as well along "
        "it: it is what the states vary by most, whatever is true."
    ]


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"
