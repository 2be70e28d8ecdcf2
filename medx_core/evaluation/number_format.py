"""Numbers as people read them: in the report, on the pages and in sentences. A minus is a true minus sign."""

MINUS = "\u2212"
THIN = "\u202f"
NOTHING = "–"


def signed(value: float, digits: int = 1) -> str:
    """Return "+4.1" or "−0.8"; a value that rounds to zero has no sign."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def plain(value: float, digits: int = 1) -> str:
    """Return "4.1" or "−0.8"."""
    return signed(value, digits).removeprefix("+")


def percent(share: float) -> str:
    """Return a share between 0 and 1 as "52.8 %"."""
    return f"{plain(100 * share)}{THIN}%"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points, "+4.1"."""
    return signed(100 * difference)


def ascii_points(difference: float) -> str:
    """Return the same with a hyphen for a minus, for sentences that programs and terminals read too."""
    return points(difference).replace(MINUS, "-")


def fraction(value: float) -> str:
    """Return an AUROC, a Brier score or the like as "0.674"."""
    return plain(value, 3)


def p_value(p: float) -> str:
    """Return a p value as "0.036" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: int) -> str:
    """Return a count as "2,500"."""
    return f"{n:,}"


def written(value: object) -> str:
    """Return a value of the JSON as text; floats have at most six significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
