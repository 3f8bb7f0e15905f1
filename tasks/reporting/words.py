"""Numbers as a reader wants them. One place, so that the page says the same thing the same way everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.reporting.figures import MINUS, percent


def per_cent(share: float) -> str:
    """A share with its sign, kept on one line: 0.819 → "81.9 %"."""
    return f"{percent(share)}\u00a0%"


def interval(share: Mapping[str, Any]) -> str:
    """The 95 % interval of a share in per cent: "91.2 – 95.0"."""
    return f"{percent(share['low'])} – {percent(share['high'])}".replace("-", MINUS)


def signed(value: float, places: int = 1) -> str:
    """A difference with its sign, and a plain 0: 1.25 → "+1.3", -2.0 → "−2.0"."""
    text = f"{abs(value):.{places}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def tiny(value: float) -> str:
    """Three significant digits, without an exponent down to 0.0001: 0.00147 → "0.00147", 7.2e-7 → "7.20 · 10⁻⁷"."""
    if value == 0 or abs(value) >= 1e-4:
        return f"{value:.3g}".replace("-", MINUS)
    mantissa, exponent = f"{value:.2e}".split("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} · 10{raised}".replace("-", MINUS)


def megabytes(count: int) -> str:
    """Bytes in MB (10⁶) with two decimals below 100."""
    return f"{count / 1e6:,.2f}" if count < 1e8 else f"{count / 1e6:,.0f}"


def plural(count: int, noun: str, many: str | None = None) -> str:
    """1 row, 2 rows, 1,000 rows; `many` where an s is not enough."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def spoken_difference(difference: Mapping[str, Any]) -> str:
    """A Difference of shares in points with its interval: "+12.0 points (9.1 to 15.2)"."""
    low, high = (signed(100 * difference[end]) for end in ("low", "high"))
    return f"{signed(100 * difference['difference'])} points ({low} to {high})"


def stopped(alarm: Mapping[str, Any]) -> str:
    """That an alignment was ended before its time, and what came of it."""
    kept = f"the checkpoint of step {alarm['kept']:,} is the aligned model" if alarm["kept"] else "the SFT model stays"
    return f"Alignment was stopped at step {alarm['step']:,} by its rule {alarm['rule']}: {alarm['words']}; {kept}."
