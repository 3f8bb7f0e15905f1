"""A table of checks: what was looked at, how far apart two readings are, and the verdict."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

WIDTHS = (40, 54, 12, 40)  # characters a column at most


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    check: str
    what: str
    difference: float | None  # largest |Δlogit|; None where nothing is multiplied
    passed: bool
    verdict: str


def same(check: str, what: str, found: dict[str, Any], wanted: dict[str, Any], limit: float) -> Row:
    """A row that passes where both agree to `limit` of the largest |logit|; 0 asks for the same bits."""
    delta, scale = difference(found, wanted)
    passed = delta <= limit * scale
    verdict = "identical" if delta == 0 else f"the same to {100 * limit:g} %"
    return Row(check, what, delta, passed, verdict if passed else "DIFFERS")


def apart(check: str, what: str, found: dict[str, Any], wanted: dict[str, Any], limit: float) -> Row:
    """A control: it passes where a reading is clearly not the right one, so that the row above could have failed."""
    delta, scale = difference(found, wanted)
    passed = delta > limit * scale
    return Row(check, what, delta, passed, "told apart" if passed else "NOT TOLD APART")


def difference(a: dict[str, Any], b: dict[str, Any]) -> tuple[float, float]:
    """(largest |Δlogit|, largest |logit| of `b`), from prompt → (T, V); what is not a number differs without bound."""
    largest = [(a[name] - b[name]).abs().max().item() for name in b]
    return (math.inf if any(map(math.isnan, largest)) else max(largest)), max(rows.abs().max().item() for rows in b.values())


def table(rows: Sequence[Row]) -> str:
    """The rows as text, wrapped where they are long."""
    lines = [("check", "what", "max |Δlogit|", "verdict")]
    lines += [(row.check, row.what, "" if row.difference is None else f"{row.difference:.2g}", row.verdict) for row in rows]
    widths = [min(max(len(line[n]) for line in lines), most) for n, most in enumerate(WIDTHS)]
    text = []
    for line in lines:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(line, widths, strict=True)]
        for n in range(max(map(len, cells))):
            words = [(cell[n] if n < len(cell) else "").ljust(width) for cell, width in zip(cells, widths, strict=True)]
            text.append("  ".join(words).rstrip())
    return "\n".join(text)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for a JSON file; a difference without bound is the word inf, which JSON has no number for."""
    return [asdict(row) | {"difference": row.difference if row.difference is None or math.isfinite(row.difference) else "inf"}
            for row in rows]
