"""Pictures of the report as inline SVG, written by hand: dots with intervals, curves, bars.

By hand because three kinds of picture are all there is, and because the page then rules them: colours are CSS
variables, so dark mode and print follow, text is real text in the reader's own font (Chinese included), and equal
figures give equal bytes with no ids, dates or glyph outlines to keep still. Every picture is 320 units wide and about
as many pixels on the page, so text keeps its size on a telephone. All text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

WIDTH = 320  # viewBox units; the page shows a unit as about a CSS pixel
ROW = 17  # height of a row of dots or bars
SHORT = 62  # room for a row's name on the left
VALUE = 46  # room for a value on the right
MINUS = "\u2212"
NARROW = "fijlrt .,:;'!|I()[]"


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot: a value with its interval, in the unit of the axis."""

    name: str
    value: float
    low: float
    high: float
    kind: str = ""  # CSS class: which model this is


@dataclass(frozen=True)
class Group:
    """Rows under one small heading (a language)."""

    name: str
    dots: Sequence[Dot]


@dataclass(frozen=True)
class Line:
    """One curve: (x, y) points in order of x; `kind` is its CSS class (colour and dashes). A few measurements that say
    nothing of what was between them are not `joined`."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "one"
    joined: bool = True


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart, made of stacked pieces: (value, CSS class)."""

    name: str
    pieces: Sequence[tuple[float, str]]
    label: str


@dataclass(frozen=True)
class Cell:
    """One cell of a grid; `hint` is what a pointer that rests on it shows."""

    row: str
    column: str
    value: float | None
    hint: str


def dots(groups: Sequence[Group], alt: str, room: float = SHORT, bounds: tuple[float, float] = (0.0, 1.0)) -> Markup:
    """Dots on a common scale, their 95 % intervals as lines, values at the right. `room` is kept for the rows' names.

    With the usual bounds the values are shares, shown in per cent; bounds on both sides of 0 show signed differences
    in points.
    """
    left, right = room, WIDTH - VALUE
    least, most = bounds
    show = signed_points if least < 0 else percent

    def at(value: float) -> float:
        return left + (right - left) * (min(max(value, least), most) - least) / (most - least)

    body, y = [], 0.0
    for group in groups:
        if group.name:
            body.append(_text(0, y + 12, group.name, "group"))
            y += ROW
        for dot in group.dots:
            middle = y + ROW / 2
            hint = f"{dot.name}: {show(dot.value)} ({show(dot.low)} to {show(dot.high)})"
            indent = 8 if group.name else 0
            body.append(_text(indent, middle + 4, fit(dot.name, left - indent - 8), "row"))
            body.append(Markup('<g class="{}"><title>{}</title>').format(dot.kind, hint))
            body.append(_line(at(dot.low), middle, at(dot.high), middle, "interval"))
            body.append(Markup('<circle cx="{}" cy="{}" r="4"/></g>').format(_n(at(dot.value)), _n(middle)))
            body.append(_text(WIDTH, middle + 4, show(dot.value), "value"))
            y += ROW
        y += 5
    axis = []
    for quarter in range(5):
        mark = least + (most - least) * quarter / 4
        axis.append(_line(at(mark), 0, at(mark), y, "grid" if mark or least >= 0 else "zero"))
        if quarter % 2 == 0:
            axis.append(
                _text(at(mark), y + 12, f"{mark * 100:.0f} %" if least >= 0 else signed_points(mark, 0), "tick")
            )
    return _svg([*axis, *body], y + 16, alt)


def curves(
    lines: Sequence[Line],
    alt: str,
    *,
    bounds: tuple[float, float] | None = None,
    height: int = 170,
    level: float | None = None,
    marks: Sequence[float] = (),
) -> Markup:
    """Curves over training steps, or over the values `marks` of x. `bounds` fixes the y axis (a share: 0 to 1); `level`
    draws a dotted line (chance)."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return _svg([_text(0, 14, "nothing recorded", "row")], 20, alt)
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points] + ([] if level is None else [level])
    y_ticks = ticks(*(bounds or (min(ys), max(ys))))
    x_ticks = list(marks) or ticks(min(0.0, *xs), max(xs), 4)
    x_low, x_high = (marks[0], marks[-1]) if len(marks) > 1 else (min(0.0, *xs), max(*xs, 1e-9))
    y_low, y_high = y_ticks[0], y_ticks[-1]
    top, left, right = 8.0 + ROW * math.ceil(len(drawn) / 2), 40.0, WIDTH - 8.0
    bottom = top + height

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (right - left) * (x - x_low) / (x_high - x_low),
            bottom - (bottom - top) * (y - y_low) / (y_high - y_low),
        )

    parts: list[Markup] = []
    for tick in y_ticks:
        y = at(x_low, tick)[1]
        parts += [_line(left, y, right, y, "grid"), _text(left - 6, y + 4, number(tick, y_ticks), "end")]
    for tick in x_ticks:
        if tick <= x_high:
            parts.append(_text(at(tick, y_low)[0], bottom + 15, number(tick, x_ticks), "tick"))
    if level is not None:
        y = at(x_low, level)[1]
        parts.append(_line(left, y, right, y, "level"))
    for index, line in enumerate(drawn):
        x, y = left + (right - left) / 2 * (index % 2), 10.0 + ROW * (index // 2)
        places = [at(*point) for point in line.points]
        parts.append(_text(x + 23, y, line.name, "row"))
        if line.joined and len(places) > 1:
            path = " ".join(f"{_n(px)},{_n(py)}" for px, py in places)
            parts.append(_line(x, y - 4, x + 18, y - 4, f"curve {line.kind}"))
            parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(line.kind, path))
        else:
            parts += [
                Markup('<circle class="point {}" cx="{}" cy="{}" r="3.5"/>').format(line.kind, _n(px), _n(py))
                for px, py in [(x + 14, y - 4), *places]
            ]
    return _svg(parts, bottom + 20, alt)


def bars(rows: Sequence[Bar], alt: str) -> Markup:
    """Stacked bars from 0 on a common scale, name above, label at the end of the bar or beside it."""
    most = max((sum(value for value, _ in row.pieces) for row in rows), default=0.0) or 1.0
    parts, y = [], 0.0
    for row in rows:
        parts += [_text(0, y + 12, row.name, "row"), _text(WIDTH, y + 12, row.label, "value")]
        x = 0.0
        for value, kind in row.pieces:
            width = WIDTH * value / most
            parts.append(
                Markup('<rect class="bar {}" x="{}" y="{}" width="{}" height="9"/>').format(
                    kind, _n(x), _n(y + ROW), _n(width)
                )
            )
            x += width
        y += ROW + 18
    return _svg(parts, y, alt)


def shades(cells: Sequence[Cell], alt: str) -> Markup:
    """A grid of cells whose colour is the stronger the larger their value, on a logarithmic scale; cells without a value
    are outlined. Rows and columns stand in the order in which they first occur."""
    rows, columns = (list(dict.fromkeys(getattr(cell, side) for cell in cells)) for side in ("row", "column"))
    known = [cell.value for cell in cells if cell.value]  # 0 has no logarithm, and no colour
    low, high = (math.log(min(known)), math.log(max(known))) if known else (0.0, 0.0)
    wide = min((WIDTH - SHORT) / max(len(columns), 1), 3.0 * ROW)
    parts = [_text(0, ROW * y + 12, fit(row, SHORT - 8), "row") for y, row in enumerate(rows)]
    for cell in cells:
        x, y = SHORT + wide * columns.index(cell.column), ROW * rows.index(cell.row)
        strength = 0.0 if not cell.value else 0.12 + 0.88 * ((math.log(cell.value) - low) / (high - low) if high > low else 1)
        kind = "cell none" if cell.value is None else "cell"
        box = Markup('<g><title>{}</title><rect class="{}" x="{}" y="{}" width="{}" height="{}" fill-opacity="{:.2f}"/></g>')
        parts.append(box.format(cell.hint, kind, _n(x + 0.5), _n(y + 0.5), _n(wide - 1), _n(ROW - 1), strength))
    every = math.ceil(len(columns) / 8)
    parts += [_text(SHORT + wide * (x + 0.5), ROW * len(rows) + 13, column, "tick")
              for x, column in enumerate(columns) if x % every == 0]
    return _svg(parts, ROW * len(rows) + 18, alt)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers that enclose low … high, about `count` steps of 1, 2, 2.5 or 5 times a power of ten."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def number(value: float, among: Sequence[float]) -> str:
    """A tick as text, with as many decimals as its axis needs."""
    step = min((abs(b - a) for a, b in pairwise(among)), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if any(abs(round(v, places) - v) > step * 1e-6 for v in among):
        places += 1
    return f"{value:,.{places}f}".replace("-", MINUS)


def percent(share: float) -> str:
    """A share in per cent with one decimal: 0.9375 → "93.8"."""
    return f"{share * 100:.1f}"


def fit(text: str, room: float) -> str:
    """Text cut to about `room` units of 12-unit type, … for what is missing; widths are those of a wide sans-serif."""
    widths = [12.0 if ord(c) > 0x2E7F else 4.2 if c in NARROW else 10.0 if c in "mwMW" else 7.4 for c in text]
    if sum(widths) <= room:
        return text
    kept = next((n for n in range(len(text), 0, -1) if sum(widths[:n]) + 10 <= room), 0)
    return text[:kept].rstrip() + "…"


def signed_points(difference: float, places: int = 1) -> str:
    """A difference of shares in points with its sign, a plain 0 where it rounds to none: 0.125 → "+12.5"."""
    text = f"{abs(difference) * 100:.{places}f}"
    return text if float(text) == 0 else f"{'+' if difference > 0 else MINUS}{text}"


def _svg(parts: Sequence[Markup], height: float, alt: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, _n(height), alt, Markup("").join(parts)
    )


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, _n(x), _n(y), escape(text))


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, _n(x1), _n(y1), _n(x2), _n(y2))


def _n(value: float) -> str:
    """A coordinate to a tenth of a unit: finer is invisible, and would be noise between processors."""
    return f"{round(value, 1) + 0.0:.1f}".removesuffix(".0")
