"""What batches of the inbox come to: the rows that a file of data/ has afterwards, and those that are refused.

A row is checked as stage validate checks it (the same readers, the same Great Expectations suite), before it is in data/,
so that a bad one never stops a night. Only rows that are new or changed are looked at: importing the checks takes seconds.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tasks import withdrawn
from tasks.bootstrap import DATA
from tasks.errors import DataError
from tasks.files import read_jsonl, write_jsonl
from tasks.params import Params

if TYPE_CHECKING:
    from tasks.labelling.inbox import Batch

Row = dict[str, Any]
Rows = dict[str, Row]  # key → row


def refusal(file: str, name: str) -> str:
    """What the file of a row that was refused at the door is called in the quarantine."""
    return re.sub(r"[^\w.-]+", "_", f"row-{PurePosixPath(file).with_suffix('')}-{name}")[:150]


@dataclass(frozen=True)
class Change:
    """What the inbox does to one file of data/."""

    file: str
    before: Rows
    after: Rows
    rows: Rows  # that were checked
    refused: dict[str, str]  # key → why
    named: set[str]  # keys of which a batch speaks
    withdrawn: int

    def content(self) -> bytes:
        """The file: sorted by key, so that the same rows are the same bytes."""
        rows = (self.after[name] for name in sorted(self.after))
        return "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows).encode()

    @property
    def added(self) -> set[str]:
        """Keys that are new."""
        return self.after.keys() - self.before.keys()

    @property
    def removed(self) -> set[str]:
        """Keys that are gone."""
        return self.before.keys() - self.after.keys()

    @property
    def replaced(self) -> set[str]:
        """Keys whose rows say something else now."""
        return {name for name in self.before.keys() & self.after.keys() if self.before[name] != self.after[name]}


def change(root: Path, params: Params, file: str, arrived: Sequence[Batch]) -> Change:
    """What these batches for one file come to."""
    key = arrived[0].key
    before = stored(root, file, key)
    wanted = dict(before)
    for batch in arrived:
        apply(wanted, batch)
    left_out = withdrawn.names(root / DATA)
    theirs = {name for name, row in wanted.items() if row.get("annotator") in left_out}
    new = {name: row for name, row in wanted.items() if name not in theirs and before.get(name) != row}
    refused = refusals(params, file, new)
    # a row that is refused goes, and with it what it said before it was changed: that is nobody's word any more
    after = {name: row for name, row in wanted.items() if name not in theirs and name not in refused}
    named = {name for batch in arrived for name in (*batch.remove, *(row[key] for row in batch.rows))}
    return Change(file, before, after, new, refused, named, len(theirs - set(before)))


def refusals(params: Params, file: str, rows: Rows) -> dict[str, str]:
    """Key → why the readers or the checks of stage validate refuse the row."""
    if not rows:
        return {}
    from tasks import validate
    from tasks.validation import frames

    names, kind = list(rows), PurePosixPath(file).parts[0]
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(Path(folder) / file, rows.values())
        raw = frames.read(Path(folder))
    at = {f"{file}:{number}": name for number, name in enumerate(names, 1)}
    why = {at[problem.where]: problem.what for problem in getattr(raw, kind).problems}
    table = [row for row in frames.table(kind, raw) if at[row["where"]] not in why]
    results = validate.run(params.validate_, {kind: table}) if table else {}
    return why | {at[where]: "fails a check: " + ", ".join(checks) for where, checks in validate.refused_rows(results).items()}


def stored(root: Path, file: str, key: str) -> Rows:
    """Rows of a file of data/ by key."""
    path, rows = root / DATA / file, {}
    for number, row in enumerate(read_jsonl(path) if path.is_file() else [], 1):
        if not isinstance(row, dict) or not isinstance(row.get(key), str):
            raise DataError(f"{path}:{number}", f"has no {key!r}", "keep rows of other kinds in another file")
        rows[row[key]] = row
    return rows


def apply(rows: Rows, batch: Batch) -> None:
    """Let a batch replace and remove rows."""
    for row in batch.rows:
        known = rows.get(row[batch.key], {}).get("updated")
        told = row.get("updated")
        if not (isinstance(known, str) and isinstance(told, str) and known > told):
            rows[row[batch.key]] = row
    for name in batch.remove:
        rows.pop(name, None)
