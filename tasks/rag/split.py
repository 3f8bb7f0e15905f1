"""Cut documents into chunks: heading path → sentences → greedy packing to a token budget → overlap by whole sentences.

Libraries cut Chinese in mid-sentence by default, so the splitter is our own. What it holds to:
- a heading starts a new chunk, and each chunk knows its document's title and its path of headings;
- a sentence (. ! ? and 。！？；) is never cut unless it alone exceeds the budget, and a table or code block neither;
- `text == page[start:end]`, character for character, except that later parts of a long table repeat its head;
- every character that is neither space, heading nor rule is in a chunk.
The budget is counted by the embedding model's own tokenizer and includes title and headings, which are embedded too. Only
headings longer than half of it can exceed it. Text is untrusted: what is done here takes time in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tasks.rag.blocks import ITEM, Block, blocks_of, is_divider
from tasks.rag.chunks import SEPARATOR, Chunk, chunk_id
from tasks.rag.loaders import Document
from tasks.rag.prompt import language_of

Count = Callable[[str], int]  # text → tokens

_CLOSERS = "\"'”’」』）)]】"
# Chinese marks end a sentence wherever they stand; Latin ones before a space, and not before a small letter
_STOP = re.compile(rf"[。！？；…]+[{re.escape(_CLOSERS)}]*|(?<![.!?])[.!?]++[{re.escape(_CLOSERS)}]*+(?=\s+[^\sa-z]|\s*$)")
_SHORT = re.compile(r"(?:\b(?i:mr|mrs|ms|dr|st|no|nos|vs|approx|e\.g|i\.e|fig|inc|ltd|co)|\b[A-Z])\.$")
_NUMBER = re.compile(r"\s*\d{1,3}\.")
_SPACE = re.compile(r"\s+")
_CLAUSE = re.compile(r"[，、；：]\s*|[,;:]\s+")
TOKEN_LENGTH = 16  # characters a token, at most: some tokenizers call a megabyte without spaces one unknown word
_SHORT_LENGTH = 10  # characters that _SHORT looks at
_REACH = 1000  # characters around the middle of a sentence in which a place to cut it is looked for


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
    count = _bounded(count, TOKEN_LENGTH * max_tokens)
    chunks: list[Chunk] = []
    path: list[tuple[int, str]] = []
    title = title_of(document)
    for page in document.pages:
        for above, units in _sections(page.text, title, path, count, max_tokens, paragraphs):
            heading = SEPARATOR.join(above[1:] if title else above)
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


def _bounded(count: Count, longest: int) -> Count:
    """`count`, but a text of more than `longest` characters has as many tokens as characters, and is not looked at."""
    return lambda text: count(text) if len(text) <= longest else len(text)


def _budget(above: Sequence[str], count: Count, max_tokens: int) -> int:
    """Tokens left beside title and headings; at least half, however long they are."""
    return max(max_tokens - count(SEPARATOR.join(above) + "\n") if above else max_tokens, max_tokens // 2)


def _sections(
    text: str, title: str, path: list[tuple[int, str]], count: Count, max_tokens: int, paragraphs: bool
) -> Iterator[tuple[tuple[str, ...], list[Unit]]]:
    """What chunks may join: each path of headings with the units below it, all of them or paragraph by paragraph.

    The title is the first of each path, also of what stands before it. A heading that nothing follows, not even a lower
    one, is a unit itself.
    """
    blocks = list(blocks_of(text))
    units: list[Unit] = []
    above = _above(title, path)
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
        path[:] = [*(each for each in path if each[0] < block.level), (block.level, block.title)]
        above = _above(title, path)
        following = blocks[number + 1] if number + 1 < len(blocks) else None
        if following is None or (following.kind == "heading" and following.level <= block.level):
            cut = _cut(text, block.start, block.end, count, _budget(above, count, max_tokens))
            units = [Unit(unit.start, unit.end, prose=False) for unit in cut]
    if units:
        yield above, units


def _above(title: str, path: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """The headings above a text, the document's title first."""
    above = tuple(words for _, words in path)
    return above if not title or above[:1] == (title,) else (title, *above)


def _apart(text: str, before: Block, block: Block) -> bool:
    """Whether an empty line parts two blocks, and they are not items of one list."""
    items = before.kind == block.kind == "prose" and all(ITEM.match(text, b.start) for b in (before, block))
    return text.count("\n", before.end, block.start) > 1 and not items


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Offsets of the sentences of text[start:end], without the space between them."""
    begin = start
    for mark in _STOP.finditer(text, start, end):
        if begin == start and _NUMBER.fullmatch(text, begin, mark.end()):
            continue  # of a list's item
        if mark.group().startswith(".") and _SHORT.search(text, max(begin, mark.end() - _SHORT_LENGTH), mark.end()):
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
    rows = list(_rows(text, block))
    if block.kind == "table" and len(rows) > 2 and is_divider(text[slice(*rows[1])]):
        head = text[rows[0][0] : rows[1][1]] + "\n"
        if (cost := count(head)) <= budget // 2:
            # a first row that fits follows its head in the text; the others, and parts of a long one, get it repeated
            first = (rows[0][0], rows[2][1])
            follows = count(text[slice(*first)]) <= budget
            rest = (_cut(text, *row, count, budget - cost) for row in rows[3 if follows else 2 :])
            return [
                Unit(*(first if follows else (rows[0][0], rows[1][1])), prose=False),
                *(Unit(unit.start, unit.end, False, head) for units in rest for unit in units),
            ]
    return [Unit(unit.start, unit.end, prose=False) for row in rows for unit in _cut(text, *row, count, budget)]


def _rows(text: str, block: Block) -> Iterator[tuple[int, int]]:
    """Offsets of a block's lines that are not empty."""
    start = block.start
    for line in text[block.start : block.end].split("\n"):
        if line.strip():
            yield start, start + len(line)
        start += len(line) + 1


def _cut(text: str, start: int, end: int, count: Count, budget: int) -> list[Unit]:
    """One unit, or several where a single sentence exceeds the budget: halved at a clause, a space, or anywhere."""
    if end - start < 2 or count(text[start:end]) <= budget:
        return [Unit(start, end)]
    middle = _middle(text, start, end)
    halves = [*_trimmed(text, start, middle), *_trimmed(text, middle, end)]
    pieces = [unit for half in halves for unit in _cut(text, *half, count, budget)]
    return [Unit(piece.start, piece.end, prose=False) for piece in pieces]


def _middle(text: str, start: int, end: int) -> int:
    """Where to halve text[start:end]: the place nearest its middle after a clause, else after a space, else there."""
    middle = (start + end) // 2
    for mark in (_CLAUSE, _SPACE):
        near = mark.finditer(text, max(start, middle - _REACH), min(end, middle + _REACH))
        if places := [m.end() for m in near if start < m.end() < end]:
            return min(places, key=lambda place: (abs(place - middle), place))
    return middle


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
