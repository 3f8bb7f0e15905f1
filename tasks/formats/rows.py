"""The canonical rows, and the small checks that every reader shares.

Readers look at shape only: keys and types. Whether a text is too long, empty or doubtful is for the validate stage.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.rag import prompt

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
LANGUAGES = ("en", "zh")
FEEDBACK = "feedback"  # origin of a prompt: a user was not content with an answer to it
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]")


class BadRow(Exception):
    """A row that cannot be read: what is wrong, and what to do about it."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}; {remedy}")


@dataclass(frozen=True)
class Problem:
    """A row or file that could not be read. `where` is file:line, or file:row n in a JSON array.

    `whole_file`: nothing of the file could be used, so more is lost than one row.
    """

    where: str
    what: str
    remedy: str
    whole_file: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class Instruction:
    """A conversation to learn from; the last message should be the assistant's."""

    id: str
    messages: list[Message]
    language: str
    source: str
    form: str
    annotator: str | None = None  # who approved it, where somebody had to
    annotation: str | int | None = None


@dataclass(frozen=True)
class Ranking:
    """Answers to a prompt in the order that one annotator gave them, best first; letters of a tie share a list."""

    id: str
    messages: list[Message]
    answers: dict[str, str]
    ranking: list[list[str]]
    annotator: str
    annotation: str | int | None
    language: str
    source: str
    form: str
    skipped: bool = False  # the annotator would not say; the ranking is empty
    seconds: float | None = None  # that the annotator took
    letters_shown: bool = False  # whether A was shown first, B second, …: only then place can be told from preference
    flags: tuple[str, ...] = ()  # all_bad, unsafe: such a ranking makes no pairs
    reasons: tuple[str, ...] = ()  # helpful, honest, harmless: what decided
    updated: str = ""  # ISO 8601, when it was said; of two rankings by a person the later counts


@dataclass(frozen=True)
class Prompt:
    """A prompt to sample answers for."""

    id: str
    messages: list[Message]
    language: str
    source: str
    origin: str | None = None  # "feedback": a user was not content with an answer to it, so people are asked first
    answers: tuple[str, ...] = ()  # answers that people should judge beside the sampled ones


@dataclass(frozen=True)
class Case:
    """A row of an evaluation set. `fields` are the set's own, such as answer and cite, or chosen and rejected."""

    set: str
    id: str
    messages: list[Message]
    passages: list[str]
    language: str
    source: str
    fields: dict[str, Any]


def clean(text: str) -> str:
    """Text as it is kept: composed characters (NFC), \\n line ends, no space around it."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def control(texts: Iterable[str]) -> str | None:
    """The control characters in the texts, as "U+0007"; None where there are none. Line ends and tabs are allowed."""
    found = {c for text in texts for c in _CONTROL.findall(text)}
    return " ".join(f"U+{ord(c):04X}" for c in sorted(found)) or None


def text(row: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A string field, cleaned; absent or null gives `default`, and BadRow where there is none."""
    value = row.get(key)
    if value is None:
        if default is not None:
            return default
        raise BadRow(
            f"{key!r} is missing", f"give it a text, or drop the row (found: {', '.join(map(repr, row)) or 'nothing'})"
        )
    if not isinstance(value, str):
        raise BadRow(f"{key!r} is {_kind(value)}, not a text", "write it as a string, or drop the row")
    return clean(value)


def texts(row: Mapping[str, Any], key: str) -> list[str]:
    """A list of strings, cleaned; absent or null gives an empty one."""
    value = row.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRow(f"{key!r} is not a list of texts", 'write it as ["…", "…"], or drop the row')
    return [clean(item) for item in value]


def language(row: Mapping[str, Any], sample: str) -> str:
    """The row's own language, or the one that `sample` looks like."""
    return text(row, "language", "") or prompt.language_of(sample)


def annotation(row: Mapping[str, Any]) -> str | int | None:
    """Id of the annotation that a row is, where it tells."""
    given = row.get("annotation")
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | str)):
        raise BadRow("'annotation' is neither a number nor a text", "give it the annotation's id, or drop the row")
    return given


def identity(row: Mapping[str, Any], messages: list[Message]) -> str:
    """The row's own id; otherwise a hash of what it says, so that it does not depend on its place in a file."""
    given = row.get("id")
    if isinstance(given, str | int) and not isinstance(given, bool) and str(given):
        return str(given)
    return fingerprint(messages)


def fingerprint(messages: list[Message]) -> str:
    """Sixteen hex digits that stand for the messages' roles and texts."""
    told = "\0".join(f"{m['role']}\0{m['content']}" for m in messages)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def user(content: str) -> list[Message]:
    """A conversation of one user message."""
    return [{"role": "user", "content": content}]


def question(row: Mapping[str, Any], key: str = "question") -> list[Message]:
    """The prompt of a question with its passages, as tasks/rag/prompt.py renders it."""
    asked, passages = text(row, key), texts(row, "passages")
    return user(prompt.grounded(asked, passages, language(row, asked)))


def _kind(value: object) -> str:
    """A JSON value's type in a reader's words."""
    return {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}.get(
        type(value), "null"
    )
