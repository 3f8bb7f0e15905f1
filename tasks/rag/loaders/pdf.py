"""PDF page by page (pypdf), so that a citation can name the page. Big type becomes headings, wrapped lines are joined.

PDF knows neither paragraphs nor headings, only glyphs and places: a line is a heading when its type is clearly larger
than the body's, and it continues the line before when that one is full. Scanned pages have no text: they are
reported.
"""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tasks.rag.loaders import Page, Unreadable
from tasks.rag.loaders.text import FULL, join, width

BIGGER = 1.05  # times the body's size makes a heading
HEADING_LENGTH = 120  # characters
_ITEM = re.compile(r"([-–*•·]|\d{1,3}[.)、]|[（(]\d{1,3}[)）])\s*\S")


Run = tuple[str, float, float, bool]  # text, size, height, bold


@dataclass
class Line:
    """A line as drawn: text, size of most of its type in points, height of its baseline, whether all of it is bold."""

    text: str
    size: float
    y: float
    bold: bool = False


def load(data: bytes) -> tuple[list[Page], list[str]]:
    """All pages that have text; a note names those that have none."""
    import pypdf

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    reader = pypdf.PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unreadable("is encrypted; remove its password")
    pages = [_lines(page) for page in reader.pages]
    silent = [number for number, lines in enumerate(pages, 1) if not lines]
    if len(silent) == len(pages):
        return [], []
    _drop_running(pages)
    ranks = _ranks([line for lines in pages for line in lines])
    widest = max((width(line.text) for lines in pages for line in lines), default=0)
    notes = [f"no text on page {', '.join(map(str, silent))} (scanned?)"] if silent else []
    return [Page(_markdown(lines, ranks, widest), number) for number, lines in enumerate(pages, 1) if lines], notes


def _lines(page: Any) -> list[Line]:
    """The page's lines in reading order. pypdf hands over each run of text with its matrices and font size."""
    runs: list[Run] = []

    def visit(text: str, cm: list[float], tm: list[float], font: Any, size: float) -> None:
        scale = abs(tm[3] * cm[3]) or abs(tm[1] * cm[1]) or 1.0  # tm·cm; the second term for turned pages
        bold = "bold" in str((font or {}).get("/BaseFont", "")).lower()
        runs.append((text, round(size * scale, 1), round(tm[5] * cm[3] + cm[5], 1), bold))

    page.extract_text(visitor_text=visit)
    lines: list[Line] = []
    current: list[Run] = []
    for text, size, y, bold in runs:
        parts = text.split("\n")
        for number, part in enumerate(parts):
            if part.strip():
                current.append((part, size, y, bold))
            if number < len(parts) - 1:
                _close(lines, current)
    _close(lines, current)
    return lines


def _close(lines: list[Line], runs: list[Run]) -> None:
    """Append the runs as one line, with the size that most of its characters have."""
    if runs:
        sizes: Counter[float] = Counter()
        for text, size, _, _ in runs:
            sizes[size] += len(text)
        whole = "".join(text for text, _, _, _ in runs).strip()
        lines.append(Line(whole, sizes.most_common(1)[0][0], runs[0][2], all(bold for _, _, _, bold in runs)))
    runs.clear()


def _drop_running(pages: list[list[Line]]) -> None:
    """Take away heads, feet and page numbers: one first or last line, numbers apart, on most of three or more pages."""
    for at in (0, -1, -1):
        edge = [re.sub(r"\d+", "0", lines[at].text) if lines else None for lines in pages]
        seen = Counter(text for text in edge if text)
        for lines, text in zip(pages, edge, strict=True):
            if text and len(pages) >= 3 and seen[text] > len(pages) / 2 and len(lines) > 1:
                lines.pop(at)


def _ranks(lines: list[Line]) -> dict[tuple[float, bool], int]:
    """(size, bold) of headings → level: larger than the body's size, or bold where the body is not; largest first."""
    used: Counter[tuple[float, bool]] = Counter()
    for line in lines:
        used[line.size, line.bold] += len(line.text)
    if not used:
        return {}
    size, bold = used.most_common(1)[0][0]
    larger = {kind for kind in used if kind[0] > size * BIGGER or (kind == (size, True) and not bold)}
    return {kind: min(level, 6) for level, kind in enumerate(sorted(larger, reverse=True), 1)}


def _paragraphs(lines: list[Line], widest: int) -> list[Line]:
    """Wrapped lines joined: a full line goes on in the next of the same type; cells of one height form a table row."""
    out: list[Line] = []
    before: Line | None = None
    for line in lines:
        same = before is not None and (before.size, before.bold) == (line.size, line.bold)
        if before and abs(before.y - line.y) < 1:
            row = out[-1].text if out[-1].text.endswith(" |") else f"| {out[-1].text} |"
            out[-1] = Line(f"{row} {line.text} |", line.size, line.y, line.bold)
        elif (
            before
            and same
            and width(before.text) >= FULL * widest
            and not _ITEM.match(line.text)
            and out[-1].text[0] != "|"
        ):
            out[-1] = Line(join(out[-1].text, line.text), line.size, line.y, line.bold)
        else:
            out.append(line)
        before = line
    return out


def _markdown(lines: list[Line], ranks: dict[tuple[float, bool], int], widest: int) -> str:
    """The page as Markdown: headings marked, rows of a table and items of a list together."""
    out = []
    for line in _paragraphs(lines, widest):
        level = ranks.get((line.size, line.bold), 0)
        title = len(line.text) <= HEADING_LENGTH and not line.text.endswith((".", "。", "，", ",", ";", "；", "|"))
        out.append(f"{'#' * level} {line.text}" if level and title else line.text)
    text = re.sub(r" \|\n\n(?=\| )", " |\n", "\n\n".join(out))
    return re.sub(rf"^({_ITEM.pattern}.*)\n(?=\n{_ITEM.pattern})", r"\1", text, flags=re.MULTILINE)
