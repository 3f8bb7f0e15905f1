"""What a page is made of: sections of paragraphs, points, code, tables, pictures and samples. The template knows these
kinds only.

Texts are plain strings: the template escapes them, so nothing that a model, an annotator or a document wrote can become
markup. The only ready markup is a picture (tasks/reporting/figures.py), which escapes what it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Paragraph:
    """A few sentences; `kind` "note" is set smaller. `link` is (address on the same disk, text)."""

    block: ClassVar[str] = "paragraph"
    text: str
    kind: str = ""
    link: tuple[str, str] | None = None


@dataclass(frozen=True)
class Points:
    """A list of sentences that stand side by side."""

    block: ClassVar[str] = "points"
    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Lines to be copied as they are."""

    block: ClassVar[str] = "code"
    text: str
    language: str = ""


@dataclass(frozen=True)
class Cell:
    """One cell that is no plain text: "code", "short" (code on one line), "hash" (breaks anywhere), "number", "good",
    "bad"."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table: the first cell of each row is its header. The first `words` columns are text, those after it numbers."""

    block: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    words: int = 1
    empty: str = "none"
    folded: bool = False  # behind a summary line: long tables whose gist is in the pictures above


@dataclass(frozen=True)
class Picture:
    """A small picture with its title above and a remark below."""

    title: str
    svg: Markup
    remark: str = ""


@dataclass(frozen=True)
class Pictures:
    """Small multiples: as many beside each other as the window holds."""

    block: ClassVar[str] = "pictures"
    items: Sequence[Picture]
    title: str = ""


@dataclass(frozen=True)
class Answer:
    """What one model said: verdicts are words, `good` says whether the first of them is what was wanted; None: nobody knows."""

    name: str
    text: str
    verdict: str
    good: bool | None
    remark: str = ""


@dataclass(frozen=True)
class Sample:
    """A question with its notes and the answers to it."""

    heading: str
    language: str  # BCP 47: en, zh
    question: str
    notes: Sequence[str]
    wanted: str | None  # None: nobody knows
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Samples:
    """Sample answers under a heading."""

    block: ClassVar[str] = "samples"
    title: str
    items: Sequence[Sample]


@dataclass(frozen=True)
class Section:
    """A heading with its blocks; `name` is its anchor."""

    name: str
    title: str
    blocks: Sequence[Paragraph | Points | Code | Table | Pictures | Samples] = field(default_factory=tuple)


@dataclass(frozen=True)
class Headline:
    """One of the few figures at the top."""

    name: str
    value: str
    remark: str
