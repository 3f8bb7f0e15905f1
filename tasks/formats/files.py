"""The rows of a JSON or JSON Lines file, each with its place. Tolerates a byte order mark, CRLF and a wrong suffix."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.formats.rows import Problem

SUFFIXES = (".json", ".jsonl", ".ndjson")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

Row = tuple[str, dict[str, Any]]  # (where, the row)


def data_files(folder: Path) -> list[Path]:
    """The data files below `folder` in the order of their paths; hidden ones are passed over."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES)
    visible = (p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts))
    return sorted(visible, key=lambda p: p.relative_to(folder).as_posix())


def decoded(path: Path) -> tuple[str, str]:
    """A file's text and its encoding, told by the byte order mark. UnicodeDecodeError where it is in no such encoding."""
    data = path.read_bytes()
    encoding = next((e for mark, e in _MARKS if data.startswith(mark)), "utf-8")
    return data.decode(encoding), encoding


def rows(path: Path, name: str) -> Iterator[Row | Problem]:
    """Rows of one file, or what is wrong with it. `name` is how problems call the file."""
    try:
        text, _ = decoded(path)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        encoding = error.encoding.upper()
        yield Problem(f"{name}:{line}", f"is not {encoding} (byte {error.start})", "save the file as UTF-8", True)
        return
    if text.lstrip().startswith("["):
        yield from _array(text, name)
    else:
        yield from _lines(text, name)


def _array(text: str, name: str) -> Iterator[Row | Problem]:
    """Elements of a JSON array, counted from 1."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        yield Problem(f"{name}:{error.lineno}", f"is not a JSON array ({error.msg})", "mend it from that line on", True)
        return
    for number, row in enumerate(found, 1):
        yield _checked(row, f"{name}:row {number}")


def _lines(text: str, name: str) -> Iterator[Row | Problem]:
    """One object a line; blank lines are passed over. Only \\n ends a line, as JSON Lines has it."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == 1 and _whole(text):
                yield Problem(
                    f"{name}:1", "the file is one JSON object, not rows", "put the rows into an array: [{…}, {…}]", True
                )
                return
            yield Problem(f"{name}:{number}", f"is not JSON ({error.msg})", "mend or drop the line")
            continue
        yield _checked(row, f"{name}:{number}")


def _checked(row: object, where: str) -> Row | Problem:
    """A row must be an object."""
    if isinstance(row, dict):
        return where, row
    return Problem(where, "is not a JSON object", "write the row as {…}, or drop it")


def _whole(text: str) -> bool:
    """Whether the text is one JSON value over several lines."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
