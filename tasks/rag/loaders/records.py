"""Rows of a table as Markdown: each row a section, named by its title column, its long text as paragraphs, the rest a list.

    ## How do I return a lamp?          title name subject question id …, else the first column
    Bring it back within 30 days.       text content body answer …
    - department: Lighting              every other column that has a value
    - 部门：灯具

Values are untrusted text. None can forge what gives a document its structure: each is one line, except the long text, whose
lines lose the marks that would make them headings, tables, rules or code fences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from tasks.rag.loaders import Page, tidy
from tasks.rag.loaders.text import unwrap
from tasks.rag.prompt import language_of

Record = dict[str, str]  # column → value, in the order of the columns

TITLES = ("title", "name", "subject", "question", "标题", "题目", "名称", "主题", "问题", "姓名", "id", "编号")
TEXTS = ("text", "content", "body", "answer", "description", "正文", "内容", "回答", "答案", "描述", "说明")
TITLE_LENGTH = 120  # characters; a longer title is cut in the heading and stands below it in full
BEGINNING = 40  # characters of a text that has nothing else to name it
NAMED = 5  # notes of one file that are told one by one
# what begins a heading, a table row or a code fence; and lines that are rules, or make the line above a heading
_MARKS = re.compile(r"(?:(?:#{1,6}(?=\s|$)|\||`{3,}|~{3,})\s*)+")
_RULE = re.compile(r"([-*_=])(?:\s*\1)*\s*")
_NO_NAME = re.compile(r"^[#\s]+|\s#+$")  # what a heading would lose of its words


def pages(records: Sequence[Record], stem: str) -> list[Page]:
    """One page. Several rows stand under the file's name as title, if it has a word: alone they would have none."""
    sections = [section(record, number) for number, record in enumerate(records, 1)]
    title = heading(stem.replace("_", " "))
    if len(sections) > 1 and any(c.isalpha() for c in title):
        sections.insert(0, f"# {title}")
    return [Page("\n\n".join(sections))]


def section(record: Record, number: int) -> str:
    """One row as a section; `number` names it where none of its values can."""
    values = {name: value for name, value in zip(unique(list(record)), record.values(), strict=True) if line(value)}
    title = next((name for name in named(values, TITLES) if heading(values[name])), None)
    text = next((name for name in named(values, TEXTS)), None)
    title = title or next((name for name in values if name != text and heading(values[name])), None)
    head = heading(values[title]) if title else heading(values[text], BEGINNING) if text else ""
    shown = {text, title if title and head == line(values[title]) else None}
    items = [item(name, value) for name, value in values.items() if name not in shown]
    parts = [f"## {head or f'row {number}'}", paragraphs(values[text]) if text else "", "\n".join(items)]
    return "\n\n".join(part for part in parts if part)


def named(values: Record, names: Sequence[str]) -> Iterator[str]:
    """The columns of these names, in the order of the names; case does not matter."""
    folded = {name.casefold(): name for name in reversed(values)}
    yield from (folded[name] for name in names if name in folded)


def heading(value: str, length: int = TITLE_LENGTH) -> str:
    """A value as the words of a heading; "" where it has none."""
    text = _NO_NAME.sub("", line(value))
    return text if len(text) <= length else f"{text[:length].rstrip()}…"


def item(name: str, value: str) -> str:
    """`- label: value` on one line; with a Chinese colon where the label is Chinese."""
    return f"- {name}{'：' if language_of(name) == 'zh' else ': '}{line(value)}"


def line(value: str) -> str:
    """A value on one line."""
    return " ".join(tidy(value).split())


def paragraphs(value: str) -> str:
    """A long text with its line breaks, and without the marks that would give it structure."""
    return unwrap("\n".join(map(unmarked, tidy(value).strip().split("\n"))))


def unmarked(text: str) -> str:
    """A line that is neither heading, table row, rule nor code fence, however many marks it begins with."""
    text = text.strip()
    if mark := _MARKS.match(text):
        text = text[mark.end() :]
    return "" if _RULE.fullmatch(text) else text


def unique(names: Sequence[str]) -> list[str]:
    """Column names that all differ: an empty one is "column 3", a second "price" is "price (2)"."""
    out: dict[str, int] = {}  # name → how often it was asked for
    for number, name in enumerate(names, 1):
        plain = again = line(name) or f"column {number}"
        while again in out:
            out[plain] += 1
            again = f"{plain} ({out[plain]})"
        out[again] = 1
    return list(out)


def flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """(name, text) of each value in a JSON object: nested ones as a.b, lists joined, nothing for null."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, joined(value)


def joined(value: object) -> str:
    """A JSON value as text: numbers and strings as they are written, lists joined by commas."""
    if isinstance(value, list):
        return ", ".join(text for each in value if (text := joined(each)))
    if isinstance(value, dict):
        return "; ".join(f"{name}: {text}" for name, text in flat(value))
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def few(notes: Sequence[str]) -> list[str]:
    """The first notes, and how many more there are: a file of broken lines must not fill the log."""
    rest = len(notes) - NAMED
    return [*notes[:NAMED], *([f"{rest} more of its lines cannot be used"] if rest > 0 else [])]
