"""Cut documents into chunks: heading path → sentences → greedy packing to a token budget → overlap by whole sentences.

Libraries cut Chinese in mid-sentence by default, so the splitter is our own. What it holds to:
- a heading starts a new chunk, and each chunk knows its document's title and its path of headings;
- a sentence (. ! ? and 。！？；) is never cut unless it alone exceeds the budget, and a table or code block neither;
- `text == page[start:end]`, character for character, except that later parts of a long table repeat its head.
The budget is counted by the embedding model's own tokenizer and includes title and headings, which are embedded too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tasks.rag.chunks import SEPARATOR, Chunk, chunk_id
from tasks.rag.loaders import Document
from tasks.rag.prompt import language_of

Count = Callable[[str], int]  # text → tokens

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_ITEM = re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)、]|[（(]?[一二三四五六七八九十]{1,3}[)）、])\s+\S|\s*\d{1,3}、")
_TABLE = re.compile(r"\s*\|.*\|\s*$")
_DIVIDER = re.compile(r"\s*\|?[\s:|-]*-[\s:|-]*\|?\s*$")
_CLOSERS = "\"'”’」』）)]】"
# Chinese marks end a sentence wherever they stand; Latin ones before a space, and not before a small letter
_STOP = re.compile(rf"[。！？；…]+[{re.escape(_CLOSERS)}]*|[.!?]+[{re.escape(_CLOSERS)}]*(?=\s+[^\sa-z]|\s*$)")
_SHORT = re.compile(r"(?:\b(?i:mr|mrs|ms|dr|st|no|nos|vs|approx|e\.g|i\.e|fig|inc|ltd|co)|\b[A-Z])\.$")
_ROW = re.compile(r"[^\n]*\S[^\n]*")
_SPACE = re.compile(r"\s+")
_CLAUSE = re.compile(r"[，、；：]\s*|[,;:]\s+")


@dataclass(frozen=True)
class Block:
    """A stretch of a page: prose, table, code, or a heading with its level (1–6)."""

    kind: str
    start: int
    end: int
    level: int = 0
    title: str = ""


@dataclass(frozen=True)
class Unit:
    """What packing never cuts. `head` is put before it where it starts a chunk: the head of a table that was cut."""

    start: int
    end: int
    prose: bool = True  # a whole sentence: only those may overlap
    head: str = ""


def split(
    document: Document, count: Count, max_tokens: int, overlap_sentences: int, paragraphs: bool = False
) -> list[Chunk]:
    """All chunks of a document in reading order. The heading path carries over from page to page.

    A chunk joins what it can of a section, or, with `paragraphs`, of one paragraph, list or table.
    """
    chunks: list[Chunk] = []
    path: list[tuple[int, str]] = []
    title = title_of(document)
    for page in document.pages:
        for above, units in _sections(page.text, path, count, max_tokens, paragraphs):
            heading = SEPARATOR.join(above[1:] if title and above[:1] == (title,) else above)
            budget = _budget(above, count, max_tokens)
            for start, end, head in pack(page.text, units, count, budget, overlap_sentences):
                text = head + page.text[start:end]
                identity = chunk_id(document.source, len(chunks), text)
                language = language_of(f"{heading}\n{text}")
                chunks.append(Chunk(identity, document.source, page.number, heading, start, end, text, language, title))
    return chunks


def title_of(document: Document) -> str:
    """The first heading, where it stands above all others; else "": a list of equal sections has no title."""
    headings = [block for page in document.pages for block in blocks_of(page.text) if block.kind == "heading"]
    if not headings or any(block.level <= headings[0].level for block in headings[1:]):
        return ""
    return headings[0].title


def _budget(above: Sequence[str], count: Count, max_tokens: int) -> int:
    """Tokens left beside title and headings; at least half, however long they are."""
    return max(max_tokens - count(SEPARATOR.join(above) + "\n") if above else max_tokens, max_tokens // 2)


def _sections(
    text: str, path: list[tuple[int, str]], count: Count, max_tokens: int, paragraphs: bool
) -> Iterator[tuple[tuple[str, ...], list[Unit]]]:
    """What chunks may join: each path of headings with the units below it, all of them or paragraph by paragraph.

    A heading that nothing follows, not even a lower one, is a unit itself.
    """
    blocks = list(blocks_of(text))
    units: list[Unit] = []
    above = tuple(title for _, title in path)
    for number, block in enumerate(blocks):
        if block.kind != "heading":
            if units and paragraphs and _apart(text, blocks[number - 1], block):
                yield above, units
                units = []
            units += _units(text, block, count, _budget(above, count, max_tokens))
            continue
        if units:
            yield above, units
            units = []
        path[:] = [*((level, title) for level, title in path if level < block.level), (block.level, block.title)]
        above = tuple(title for _, title in path)
        following = blocks[number + 1] if number + 1 < len(blocks) else None
        if following is None or (following.kind == "heading" and following.level <= block.level):
            units = [Unit(block.start, block.end, prose=False)]
    if units:
        yield above, units


def _apart(text: str, before: Block, block: Block) -> bool:
    """Whether an empty line parts two blocks, and they are not items of one list."""
    items = before.kind == block.kind == "prose" and all(_ITEM.match(text, b.start) for b in (before, block))
    return text.count("\n", before.end, block.start) > 1 and not items


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
        elif mark := _ATX.match(line):
            if mark.group(2):
                yield Block("heading", start, start + len(line), len(mark.group(1)), mark.group(2).strip())
            number += 1
        elif _TABLE.match(line):
            last = number
            while last + 1 < len(lines) and _TABLE.match(lines[last + 1][1]):
                last += 1
            yield Block("table", start, lines[last][0] + len(lines[last][1]))
            number = last + 1
        elif _RULE.match(line):
            number += 1
        elif number + 1 < len(lines) and (mark := _SETEXT.match(lines[number + 1][1])) and not _ITEM.match(line):
            yield Block("heading", start, start + len(line), 1 if mark.group(1)[0] == "=" else 2, line.strip())
            number += 2
        else:
            last = number
            while last + 1 < len(lines) and _continues(lines[last + 1][1]):
                last += 1
            yield Block("prose", start, lines[last][0] + len(lines[last][1]))
            number = last + 1


def _continues(line: str) -> bool:
    """Whether a line goes on with the paragraph above it."""
    return bool(line.strip()) and not any(p.match(line) for p in (_FENCE, _ATX, _ITEM, _TABLE, _RULE))


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Offsets of the sentences of text[start:end], without the space between them."""
    begin = start
    for mark in _STOP.finditer(text, start, end):
        if mark.group().startswith(".") and _SHORT.search(text, begin, mark.end()):
            continue
        yield from _trimmed(text, begin, mark.end())
        begin = mark.end()
    yield from _trimmed(text, begin, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start < end:
        yield start, end


def _units(text: str, block: Block, count: Count, budget: int) -> list[Unit]:
    """The units of one block: sentences, or the whole table or code where it fits, else its rows or lines."""
    if block.kind == "prose":
        ends = sentences(text, block.start, block.end)
        return [piece for start, end in ends for piece in _cut(text, start, end, count, budget)]
    if count(text[block.start : block.end]) <= budget:
        return [Unit(block.start, block.end, prose=False)]
    rows = [(m.start(), m.end()) for m in _ROW.finditer(text, block.start, block.end)]
    if block.kind == "table" and len(rows) > 2 and _DIVIDER.match(text[slice(*rows[1])]):
        head = text[rows[0][0] : rows[1][1]] + "\n"
        if (cost := count(head)) <= budget // 2:
            # the rows that come first follow their head in the text; the others get it repeated
            first = Unit(rows[0][0], rows[2][1], prose=False)
            rest = (_cut(text, *row, count, budget - cost) for row in rows[3:])
            return [first, *(Unit(unit.start, unit.end, False, head) for units in rest for unit in units)]
    return [Unit(unit.start, unit.end, prose=False) for row in rows for unit in _cut(text, *row, count, budget)]


def _cut(text: str, start: int, end: int, count: Count, budget: int) -> list[Unit]:
    """One unit, or several where a single sentence exceeds the budget: halved at a clause, a space, or anywhere."""
    if end - start < 2 or count(text[start:end]) <= budget:
        return [Unit(start, end)]
    middle = (start + end) // 2
    for mark in (_CLAUSE, _SPACE):
        if places := [m.end() for m in mark.finditer(text, start, end) if start < m.end() < end]:
            middle = min(places, key=lambda place: (abs(place - middle), place))
            break
    halves = [*_trimmed(text, start, middle), *_trimmed(text, middle, end)]
    pieces = [unit for half in halves for unit in _cut(text, *half, count, budget)]
    return [Unit(piece.start, piece.end, prose=False) for piece in pieces]


def pack(text: str, units: Sequence[Unit], count: Count, budget: int, overlap: int) -> Iterator[tuple[int, int, str]]:
    """(start, end, head) of each chunk: as many units as fit; the next one starts up to `overlap` sentences earlier."""

    def fits(first: int, last: int) -> bool:
        return count(units[first].head + text[units[first].start : units[last].end]) <= budget

    first = 0
    while first < len(units):
        last = first
        while last + 1 < len(units) and fits(first, last + 1):
            last += 1
        yield units[first].start, units[last].end, units[first].head
        if last + 1 == len(units):
            return
        again = following = last + 1
        while (
            following - again < overlap
            and again - 1 > first
            and units[again - 1].prose
            and units[following].prose
            and fits(again - 1, following)
        ):
            again -= 1
        first = again
