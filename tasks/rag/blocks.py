"""The blocks of a Markdown page, with their offsets: what may head a section, and what must not be cut in the middle.

Text is untrusted: finding them takes time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

HEADING_LENGTH = 300  # characters; a longer line is a paragraph: headings stand above every chunk of their section
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
ITEM = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[)）、])\s+\S|\s*\d{1,3}、")


@dataclass(frozen=True)
class Block:
    """A stretch of a page: prose, table, code, or a heading with its level (1–6)."""

    kind: str
    start: int
    end: int
    level: int = 0
    title: str = ""


def blocks_of(text: str) -> Iterator[Block]:
    """Headings, fenced code, tables, list items and paragraphs of Markdown, with their offsets."""
    lines, offset = [], 0
    for line in text.split("\n"):
        lines.append((offset, line))
        offset += len(line) + 1
    number = 0
    while number < len(lines):
        start, line = lines[number]
        if not line.strip():
            number += 1
        elif mark := _FENCE.match(line):
            last = number + 1
            while last < len(lines) and not lines[last][1].strip().startswith(mark.group(1)):
                last += 1
            last = min(last, len(lines) - 1)
            yield Block("code", start, lines[last][0] + len(lines[last][1]))
            number = last + 1
        elif (mark := _ATX.match(line)) and len(line) <= HEADING_LENGTH:
            if title := _title(line[mark.end() :]):
                yield Block("heading", start, start + len(line), len(mark.group(1)), title)
            number += 1
        elif _is_row(line):
            last = number
            while last + 1 < len(lines) and _is_row(lines[last + 1][1]):
                last += 1
            yield Block("table", start, lines[last][0] + len(lines[last][1]))
            number = last + 1
        elif _RULE.match(line):
            number += 1
        elif (mark := _SETEXT.match(lines[number + 1][1] if number + 1 < len(lines) else "")) and _is_title(line):
            yield Block("heading", start, start + len(line), 1 if mark.group(1)[0] == "=" else 2, line.strip())
            number += 2
        else:
            last = number
            while last + 1 < len(lines) and _continues(lines[last + 1][1]):
                last += 1
            yield Block("prose", start, lines[last][0] + len(lines[last][1]))
            number = last + 1


def _title(words: str) -> str:
    """The words of a heading without the marks that may close it: A # → A, but C# stays."""
    words = words.strip()
    bare = words.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else words


def _is_title(line: str) -> bool:
    """Whether a line can be made a heading by the one below it."""
    return len(line) <= HEADING_LENGTH and not ITEM.match(line)


def _is_row(line: str) -> bool:
    """Whether a line is a table's: | a | b |."""
    line = line.strip()
    return len(line) > 1 and line[0] == line[-1] == "|"


def is_divider(line: str) -> bool:
    """Whether a line parts a table's head from its rows: | --- | :-: |."""
    return "-" in line and not line.strip(" \t:|-")


def _continues(line: str) -> bool:
    """Whether a line goes on with the paragraph above it."""
    return bool(line.strip()) and not _is_row(line) and not any(p.match(line) for p in (_FENCE, _ATX, ITEM, _RULE))
