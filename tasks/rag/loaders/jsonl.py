"""JSON Lines, or a JSON array of objects: each object becomes a section (records.py). A broken line is a note.

Numbers stay as they are written: 4.50 is a price, and no float.
"""

from __future__ import annotations

import json
from typing import Any

from tasks.rag.loaders import Page, Unreadable
from tasks.rag.loaders.records import Record, few, flat, pages
from tasks.rag.loaders.text import decode


def load(data: bytes, stem: str) -> tuple[list[Page], list[str]]:
    """One page; see the module."""
    text = decode(data)
    found, notes = array(text) if text.lstrip().startswith("[") else lines(text)
    if not found:
        raise Unreadable(notes[0] if notes else "holds no objects")
    return pages(found, stem), few(notes)


def array(text: str) -> tuple[list[Record], list[str]]:
    """The objects of a JSON array, and a note for each item that is none."""
    try:
        items = parse(text)
    except ValueError as error:
        raise Unreadable(f"is not JSON ({error})") from None
    except RecursionError:
        raise Unreadable("is nested too deeply") from None
    return gather([(f"item {number}", item) for number, item in enumerate(items, 1)])


def lines(text: str) -> tuple[list[Record], list[str]]:
    """The objects of JSON Lines, or of one object over several lines; a note for each line that is none."""
    try:
        return gather([("its value", parse(text))])
    except (ValueError, RecursionError):
        pass
    items, notes = [], []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            items += [(f"line {number}", parse(line))] if line.strip() else []
        except ValueError:
            notes.append(f"line {number} is not JSON")
        except RecursionError:
            notes.append(f"line {number} is nested too deeply")
    found, more = gather(items)
    return found, [*notes, *more]


def gather(items: list[tuple[str, Any]]) -> tuple[list[Record], list[str]]:
    """Records of the objects that hold anything, and a note for each item that is no object."""
    notes = [f"{where} is no object" for where, item in items if not isinstance(item, dict)]
    return [item for _, item in items if isinstance(item, dict) and item], notes


def parse(text: str) -> Any:
    """JSON with its objects as records; ValueError when it is none, RecursionError when it is nested too deeply."""
    value = json.loads(text, parse_float=str, parse_int=str)
    return [record(each) for each in value] if isinstance(value, list) else record(value)


def record(value: Any) -> Any:
    """An object as one level of names and texts, without what is empty; anything else as it is."""
    return {name: text for name, text in flat(value) if text.strip()} if isinstance(value, dict) else value
