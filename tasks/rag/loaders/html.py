"""HTML: the main part of a page as Markdown. What a reader does not see is not read: hidden text is how pages lie."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tasks.rag.loaders import Page
from tasks.rag.loaders.markdown import unwrap
from tasks.rag.prompt import language_of

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

_GONE = (
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "math",
    "canvas",
    "iframe",
    "object",
    "embed",
    "form",
    "button",
    "select",
    "input",
    "textarea",
    "nav",
    "aside",
    "footer",
    "dialog",
    "audio",
    "video",
    "img",
    "picture",
    "head",
)
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])", re.IGNORECASE
)
_KEEP_TEXT = ["a", "b", "strong", "i", "em", "u", "s", "del", "mark", "small", "span", "sub", "sup", "font", "abbr"]


def load(data: bytes) -> tuple[list[Page], list[str]]:
    """One page; the encoding is the one the page declares, else detected."""
    from bs4 import BeautifulSoup

    return [Page(to_markdown(BeautifulSoup(data, "lxml")))], []


def to_markdown(soup: BeautifulSoup) -> str:
    """The visible main part as Markdown, under the page's title when it has no heading of its own."""
    from bs4 import Comment
    from markdownify import MarkdownConverter

    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for tag in soup.find_all(_GONE):
        tag.extract()
    for tag in soup.find_all(_is_hidden):
        tag.extract()
    mains: list[Tag] = list(soup.find_all("main") or soup.find_all("article"))
    if not mains:
        for tag in soup.find_all("header"):
            tag.extract()
        mains = [soup.body or soup]
    for main in mains:
        _label_lists(soup, main)
    converter = MarkdownConverter(
        heading_style="ATX",
        bullets="-",
        strip=_KEEP_TEXT,
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
        table_infer_header=True,
    )
    # a main inside another would be written twice
    text = "\n\n".join(converter.convert_soup(main) for main in mains if not any(p in mains for p in main.parents))
    text = unwrap(re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip())
    if title and not re.search(r"^#", text, re.MULTILINE):
        text = f"# {title}\n\n{text}" if text else ""
    return text


def _label_lists(soup: BeautifulSoup, main: Tag) -> None:
    """Tables of labels and values become lists: two cells a row, no row of column heads. As a table, their first row
    would be taken for the head of the others."""
    for table in main.find_all("table"):
        rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
        if not rows or table.find("table") or any(len(cells) != 2 or cells[1].name == "th" for cells in rows):
            continue
        items = soup.new_tag("ul")
        for label, value in ([" ".join(cell.get_text(" ", strip=True).split()) for cell in cells] for cells in rows):
            item = soup.new_tag("li")
            item.string = f"{label}{'：' if language_of(label) == 'zh' else ': '}{value}"
            items.append(item)
        table.replace_with(items)


def _is_hidden(tag: Tag) -> bool:
    """`hidden`, aria-hidden, or an inline style that shows nothing."""
    return tag.has_attr("hidden") or tag.get("aria-hidden") == "true" or bool(_HIDDEN.search(str(tag.get("style", ""))))
