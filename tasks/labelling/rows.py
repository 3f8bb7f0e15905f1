"""Files of rows in data/, whoever wrote them: who is named in one, and what is left of it without somebody.

What is left is as it was, line by line and in the file's own encoding; only a JSON array is written anew, because its rows
have no lines of their own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tasks.formats.files import decoded
from tasks.formats.rows import clean


def readable(path: Path) -> bool:
    """Whether the file is in an encoding that the readers of data/ know; in another one it holds no row for anybody."""
    try:
        decoded(path)
    except UnicodeDecodeError:
        return False
    return True


def annotators(path: Path) -> set[str]:
    """Whom the rows of a file name."""
    text, _ = decoded(path)
    rows = _array(text)
    found = (_author(row) for row in (rows if rows is not None else map(_row, text.split("\n"))))
    return {name for name in found if name}


def without(path: Path, names: Collection[str]) -> tuple[bytes, int]:
    """The file without the rows of these annotators, and how many those are."""
    text, encoding = decoded(path)
    rows = _array(text)
    if rows is not None:
        kept = [row for row in rows if _author(row) not in names]
        return (json.dumps(kept, ensure_ascii=False, indent=1) + "\n").encode(encoding), len(rows) - len(kept)
    lines = text.split("\n")
    left = [line for line in lines if _author(_row(line)) not in names]
    return ("\n".join(left)).encode(encoding) if any(left) else b"", len(lines) - len(left)


def of_annotation(path: Path, annotation: str) -> list[tuple[str, dict[str, Any]]]:
    """(line or row of the file, the row) of an annotation, a number or a text of the same characters."""
    text, _ = decoded(path)
    rows = _array(text)
    found = _lines(text, annotation) if rows is None else ((f"row {number}", row) for number, row in enumerate(rows, 1))
    return [(where, row) for where, row in found if isinstance(row, dict) and is_annotation(row.get("annotation"), annotation)]


def _lines(text: str, some: str) -> Iterator[tuple[str, Any]]:
    """(number, row) of each line in which a text stands: of a million lines, few are read."""
    at, number, counted = -1, 1, 0
    while (at := text.find(some, at + 1)) >= 0:
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        number, counted = number + text.count("\n", counted, start), start
        yield str(number), _row(text[start:] if end < 0 else text[start:end])
        if end < 0:
            return
        at = end


def is_annotation(given: Any, annotation: str) -> bool:
    """Whether a row's id is this annotation."""
    return isinstance(given, int | str) and not isinstance(given, bool) and str(given) == annotation


def author_of(row: dict[str, Any], path: Path) -> str:
    """Whose row: a pair whose annotator is not known counts as its file's (tasks/formats/pairs.py)."""
    return _author(row) or f"file:{path.stem}"


def _array(text: str) -> list[Any] | None:
    """Rows of a JSON array; None where the text is none, or a broken one, in which nothing is a row."""
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else None
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, list) else None


def _row(line: str) -> Any:
    try:
        return json.loads(line) if line.strip() else None
    except json.JSONDecodeError:
        return None


def _author(row: Any) -> str | None:
    name = row.get("annotator") if isinstance(row, dict) else None
    return clean(name) if isinstance(name, str) else None
