"""The sections of a page as Markdown (GitHub's tables), for those who read it where the model lies.

Texts of others stay text: what Markdown or HTML would take for markup is escaped, a code span holds no backtick, and a
cell no line break. Pictures are left out: the tables beside them say the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.reporting.parts import Cell, Code, Paragraph, Pictures, Points, Samples, Section, Table

_MARKUP = re.compile(r"([\\`*_\[\]<>|~])")


def markdown(sections: Sequence[Section]) -> str:
    """All sections, each under a heading of the second level."""
    text = "".join(f"## {plain(section.title)}\n\n" + "".join(map(_block, section.blocks)) for section in sections)
    return text.rstrip() + "\n"


def plain(text: str) -> str:
    """Text that no reader of Markdown takes for markup."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def _block(block: Paragraph | Points | Code | Table | Pictures | Samples) -> str:
    match block:
        case Paragraph():
            link = f" [{plain(block.link[1])}]({block.link[0]})" if block.link else ""
            return f"{plain(block.text)}{link}\n\n"
        case Points():
            return "".join(f"- {plain(item)}\n" for item in block.items) + "\n"
        case Code():
            fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", block.text)), 0)
            return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}\n\n"
        case Table():
            return _table(block)
    return ""


def _table(table: Table) -> str:
    """The caption in bold, then the rows; numbers stand to the right, as on the page."""
    head = "| " + " | ".join(map(plain, table.head)) + " |"
    rule = "|" + "".join("---|" if n < table.words else "---:|" for n in range(len(table.head)))
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    rows = rows or [f"| {table.empty} |" + " |" * (len(table.head) - 1)]
    return f"**{plain(table.caption)}**\n\n" + "\n".join([head, rule, *rows]) + "\n\n"


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return plain(cell)
    if cell.kind in ("code", "hash") and cell.text and not re.search(r"[`|\n]", cell.text):
        return f"`{cell.text}`"
    return plain(cell.text)
