"""People whose judgements are not to be learned from any more: data/withdrawn.jsonl, a line a person.

It lies in data/, so every version of the data says who is left out of it, and an older file of judgements that comes back
(an export, a checkout) is left out all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tasks.errors import DataError
from tasks.files import read_jsonl

FILE = "withdrawn.jsonl"  # below data/


def entries(data: Path) -> list[dict[str, str]]:
    """{"annotator", "when"} of each, in the order of the file; none where there is no file."""
    path = data / FILE
    rows = read_jsonl(path) if path.is_file() else []
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("annotator"), str):
            raise DataError(f"{path}:{number}", "names no annotator", 'write it as {"annotator": "…", "when": "…"}')
    return rows


def names(data: Path) -> frozenset[str]:
    """Annotators who have withdrawn."""
    return frozenset(row["annotator"] for row in entries(data))


def added(data: Path, people: Iterable[str], when: str) -> dict[str, bytes]:
    """File below data/ → its content with those who were not there yet."""
    known = {row["annotator"]: row for row in entries(data)}
    rows = {**{name: {"annotator": name, "when": when} for name in people}, **known}
    return {FILE: "".join(json.dumps(rows[name], ensure_ascii=False) + "\n" for name in sorted(rows)).encode()}
