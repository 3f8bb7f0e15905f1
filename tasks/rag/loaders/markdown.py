"""Markdown, kept as it is but for what a reader never sees: front matter, comments, emphasis marks, link targets."""

from __future__ import annotations

import re

from tasks.rag.loaders import Page
from tasks.rag.loaders.text import decode, join

_FRONT = re.compile(r"\A---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
# lines that are no paragraph, or that end one: headings, tables, quotes, rules, list items; and hard breaks
_ALONE = re.compile(r"^\s*(#{1,6}\s|\||>|([-*_=])\2{2,}\s*$|-{2,}\s*$)")
_ITEM = re.compile(r"^\s*([-*+•]|\d{1,3}[.)、])\s*\S")
_INLINE = (
    (re.compile(r"!\[([^\]]*)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)"), r"\1"),  # picture → its caption
    (re.compile(r"\[([^\]]+)\]\([^()\s]*(?:\s+\"[^\"]*\")?\)"), r"\1"),  # link → its words
    (re.compile(r"<(https?://[^>\s]+)>"), r"\1"),
    (re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])"), r"\1"),
    (re.compile(r"(?<![\w])_(?=[^\s_])(.+?)(?<=[^\s_])_(?![\w])"), r"\1"),
    (re.compile(r"</?(?:br|b|i|em|strong|sup|sub|span|p|div)\b[^>]*>", re.IGNORECASE), " "),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|>-])"), r"\1"),
)


def load(data: bytes) -> tuple[list[Page], list[str]]:
    """One page; see the module."""
    return [Page(unwrap(plain(decode(data))))], []


def plain(text: str) -> str:
    """Markdown without inline marks. Fenced code is left alone."""
    text = _FRONT.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    out, fence = [], ""
    for line in _without_comments(text).split("\n"):
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark.group(1)
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not fence:
            for pattern, replacement in _INLINE:
                line = pattern.sub(replacement, line)
        out.append(line)
    return "\n".join(out)


def unwrap(text: str) -> str:
    """Paragraphs that were wrapped at a column as one line each: the model was trained on whole sentences."""
    out: list[str] = []
    fence, open_ = "", False  # open_: the last line is prose that may go on
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence or mark:
            out.append(line)
            if mark and not fence:
                fence = mark.group(1)
            elif line.strip().startswith(fence):
                fence = ""
            open_ = False
        elif not line.strip() or _ALONE.match(line):
            out.append(line)
            open_ = False
        elif open_ and not _ITEM.match(line):
            out[-1] = join(out[-1].rstrip(), line.strip())
            open_ = not line.endswith(("  ", "\\"))
        else:
            out.append(line)
            open_ = not line.endswith(("  ", "\\"))
    return "\n".join(out)


def _without_comments(text: str) -> str:
    """HTML comments go, unless they stand in fenced code."""
    parts = re.split(r"(^ {0,3}(?:```|~~~).*?^ {0,3}(?:```|~~~)[^\n]*$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if number % 2 else _COMMENT.sub("", part) for number, part in enumerate(parts))
