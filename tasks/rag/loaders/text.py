"""Plain text in any usual encoding. Lines that stand alone like titles become headings."""

from __future__ import annotations

import codecs
import re
from itertools import pairwise

from tasks.rag.loaders import Page, Unreadable
from tasks.rag.prompt import HAN

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Taken before rarer ones: on a short text cp1250 and its like pass for cp1252 and turn £ into Ł
LIKELY = ("cp1252", "big5", "cp932", "cp949", "cp1251")
FULL = 0.8  # of the widest line: a shorter one ends its paragraph
WRAPPED = 50  # half characters; where no line is wider, nothing was wrapped
TITLE_LENGTH = 60  # characters; a longer line is a sentence without its stop
_RULE = re.compile(r"^\s*([=\-~*_#])\1{2,}\s*$")
_NO_TITLE = re.compile(r"^\s*([-*•·>|\d]|\(|（)|[.!?;:,。！？；：，、]\s*$|^\s*$")


def decode(data: bytes) -> str:
    """Text of unknown encoding: byte order mark, UTF-8, UTF-16 by its zero bytes, GB18030, else what is most likely."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data.decode(encoding)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        if "\0" not in text:
            return text
    if b"\0" in data:
        # UTF-16 without a mark: the side on which it makes sense
        for encoding in ("utf-16-le", "utf-16-be"):
            text = data.decode(encoding, errors="replace")
            if _plausible(text):
                return text
        raise Unreadable("is no text (zero bytes)")
    if _common_chinese(data):
        return data.decode("gb18030")
    from charset_normalizer import from_bytes

    best = (from_bytes(data, cp_isolation=[*LIKELY]) or from_bytes(data)).best()
    if best is None:
        raise Unreadable("its encoding cannot be told; save it as UTF-8")
    return str(best)


def _plausible(text: str) -> bool:
    """Whether nearly all of a text is Latin, Chinese, or punctuation of theirs."""
    usual = sum(c in "\n\r\t" or " " <= c <= "\u024f" or "\u2010" <= c <= "\u203a" or "\u3000" <= c <= "\u303f"
                or "\u4e00" <= c <= "\u9fff" or "\uff00" <= c <= "\uffef" for c in text)  # fmt: skip
    return usual >= 0.95 * len(text)


def _common_chinese(data: bytes) -> bool:
    """Whether the bytes are GB18030 and mostly the 3,755 everyday characters of GB 2312 (lead bytes B0 to D7)."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return False
    wide = [c.encode("gb18030") for c in text if ord(c) > 127]
    everyday = sum(len(c) == 2 and (0xB0 <= c[0] <= 0xD7 or 0xA1 <= c[0] <= 0xA3) and c[1] >= 0xA1 for c in wide)
    return everyday >= 0.95 * len(wide)


def load(data: bytes) -> tuple[list[Page], list[str]]:
    """One page; see the module."""
    return [Page(unwrap(headed(decode(data))))], []


def headed(text: str) -> str:
    """Mark the headings of plain text: lines underlined with === or ---, and short lines that stand alone.

    The first heading is the title (#), the others are sections (##). A text whose every paragraph is a short line keeps
    them as they are: that is a list.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    titles, rules = [], set()
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        after = lines[number + 1] if number + 1 < len(lines) else ""
        alone = not before.strip() or number - 1 in rules
        if not alone or not line.strip() or len(line.strip()) > TITLE_LENGTH:
            continue
        if _RULE.match(after):
            titles.append(number)
            rules.add(number + 1)
        elif not after.strip() and not _NO_TITLE.search(line):
            titles.append(number)
    body = [n for n, line in enumerate(lines) if line.strip() and n not in titles and n not in rules]
    if not body:
        return text
    if titles and titles[-1] > body[-1] and titles[-1] + 1 not in rules:
        titles.pop()  # a last line, such as a signature, is the title of nothing
    out = []
    for number, line in enumerate(lines):
        if number in titles:
            out.append(("# " if number == titles[0] and number < body[0] else "## ") + line.strip())
        elif number not in rules:
            out.append(line)
    return "\n".join(out)


def unwrap(text: str) -> str:
    """Join lines that were wrapped at a column: a full line goes on in the next, a short one ends its paragraph."""
    lines = text.split("\n")
    widest = max(map(width, lines))
    if widest < WRAPPED:
        return text
    out = lines[:1]
    for before, line in pairwise(lines):
        full = width(before) >= FULL * widest and not before.startswith("#")
        if full and line.strip() and not re.match(r"\s*([-*•·#|]|\d{1,3}[.)、])", line):
            out[-1] = join(out[-1], line.strip())
        else:
            out.append(line)
    return "\n".join(out)


def join(first: str, second: str) -> str:
    """Two halves of a wrapped line: no space between Chinese, and a word cut by a hyphen becomes one again."""
    if re.search(rf"[{HAN}。，、；：！？）》」]$", first) and re.match(
        rf"[{HAN}0-9A-Za-z。，、；：！？（《「]", second
    ):
        return first + second
    if re.match(rf"[{HAN}。，、；：！？（《「]", second):
        return first + second
    if re.search(r"[a-z]-$", first) and re.match(r"[a-z]", second):
        return first[:-1] + second
    return f"{first} {second}"


def width(text: str) -> int:
    """Width in half characters: Chinese ones count two."""
    return sum(2 if ord(c) > 0x2E7F else 1 for c in text)
