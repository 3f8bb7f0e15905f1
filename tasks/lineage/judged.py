"""What releases/ says: records, and whose judgements shaped which release.

With a thousand releases, reading must leave out what nobody asks for. Both kinds of file are canonical JSON (tasks/files.py):
each key of the whole, and each element of a list in it, has a line of its own, and a line end is in no string. So the metrics,
two thirds of a record, are cut out unread, and an annotation is found in a file of judgements without building the file's
lists. A file of judgements is named by its hash, which is checked first: it is what stage release wrote, or it is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import DataError
from tasks.files import read_json
from tasks.records import RELEASES, Record, judgements_file

Id = str | int
NUMBER = re.compile(r"-?[0-9]{1,18}")


def outlines(root: Path) -> list[Record]:
    """All records without their metrics, the last promoted first."""
    found = (outline(path) for path in (root / RELEASES).glob("*.json"))
    return sorted(found, key=lambda item: item["published"], reverse=True)


def outline(path: Path) -> Record:
    """A record without its metrics."""
    text = path.read_bytes()
    start = text.find(b'\n "metrics": {\n')
    end = text.find(b"\n },\n", start)
    if start < 0 or end < 0:  # no metrics, or laid out by another hand
        return {key: value for key, value in read_json(path).items() if key != "metrics"}
    try:
        return json.loads(text[:start] + text[end + len(b"\n },") :])
    except ValueError as error:
        raise DataError(str(path), f"is not JSON ({error})", "restore it: git checkout releases") from None


def judged(root: Path) -> Iterator[tuple[Record, Judged | None]]:
    """Each release with its judgements, the last promoted first; None where it does not tell. Releases that were trained
    on the same judgements share a file, which is read once."""
    known: dict[str, Judged] = {}
    for record in outlines(root):
        told = record["manifest"].get("judgements")
        if told and told["sha256"] not in known:
            known[told["sha256"]] = Judged.read(root, record["manifest"])
        yield record, known[told["sha256"]] if told else None


class Judged:
    """A file of judgements: annotator → ids of annotations."""

    def __init__(self, text: str):
        """`text` is canonical JSON."""
        self.text = text

    @classmethod
    def read(cls, root: Path, manifest: Mapping[str, Any]) -> Judged:
        """Those that a manifest names; DataError where they are missing or not what it names."""
        path = judgements_file(root, manifest)
        told = path.read_bytes() if path and path.is_file() else None
        if told is None or hashlib.sha256(told).hexdigest() != manifest["judgements"]["sha256"]:
            wrong = "is missing" if told is None else "holds other judgements than its name says"
            raise DataError(str(path), wrong, "restore it: git checkout releases")
        return cls(told.decode())

    def everybody(self) -> dict[str, list[Id]]:
        """The whole of it."""
        return json.loads(self.text)

    def of(self, annotator: str) -> list[Id] | None:
        """One person's annotations, none where their rows tell no id; None where they are not in it."""
        head = f"\n {_written(annotator)}: "
        start = self.text.find(head)
        return None if start < 0 else json.JSONDecoder().raw_decode(self.text, start + len(head))[0]

    def holders(self, annotation: str) -> dict[str, Id]:
        """Annotator → the annotation as it is written there: a number and a text of the same digits are one here."""
        found: dict[str, Id] = {}
        for written in (_written(annotation), *([annotation] if NUMBER.fullmatch(annotation) else [])):
            line, at = f"\n  {written}", -1
            while (at := self.text.find(line, at + 1)) >= 0:
                if self.text[at + len(line)] in ",\n":  # the whole line, not its beginning
                    key = self.text.rindex('\n "', 0, at) + 2
                    found[json.loads(self.text[key : self.text.index(": [\n", key)])] = json.loads(written)
        return found

    def beginning(self, start: str) -> str | None:
        """The first annotation that begins so."""
        line = f'\n  "{start}'
        at = self.text.find(line)
        return None if at < 0 else json.JSONDecoder().raw_decode(self.text, at + 3)[0]


def _written(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
