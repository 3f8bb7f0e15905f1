"""From outside data/ into it: batches of rows land in .nightshift/inbox, are checked, and are moved in under one lock.

Nothing may write to data/ while stages run (DVC hashes a dependency after the command), so whoever collects only lands
batches, and `admit` moves them in while no night is running. Landing and admitting twice changes nothing: a row replaces
the one with its key, and of two with a time (`updated`) the later one stays, whichever came first.

A file of data/ that batches fill is sorted by key, so the same rows are the same bytes. After a kill at any line the
batches are still there or their rows are in data/ already, and admitting again completes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath

from tasks import bootstrap, tracked
from tasks.errors import DataError
from tasks.files import fsync_folder, read_json, write_atomic
from tasks.labelling import admission, quarantine
from tasks.labelling.admission import Row, Rows
from tasks.params import Params

INBOX = Path(".nightshift/inbox")
QUARANTINE = quarantine.FOLDER
KINDS = ("instructions", "preferences", "prompts")


@dataclass(frozen=True)
class Batch:
    """Rows for one file of data/."""

    file: str  # below data/, such as preferences/label-studio.jsonl
    key: str  # field that names a row: annotation, or id
    rows: list[Row]
    remove: list[str] = field(default_factory=list)  # keys whose rows go: deleted where they came from


@dataclass(frozen=True)
class Admitted:
    """What became of the inbox: file below data/ → rows."""

    added: dict[str, int]
    replaced: dict[str, int]
    removed: dict[str, int]
    refused: list[str]  # a line a row, quarantined
    tracked: str | None = None  # hash that data.dvc names now; None when nothing changed
    withdrawn: int = 0  # rows left out because their annotator has withdrawn

    def lines(self) -> list[str]:
        """What there is to say, nothing where nothing happened."""
        told = []
        for file in sorted({*self.added, *self.replaced, *self.removed}):
            counts = {"new": self.added, "changed": self.replaced, "removed": self.removed}
            told.append(f"{file}: " + ", ".join(f"{count[file]:,} {word}" for word, count in counts.items() if count.get(file)))
        if self.withdrawn:
            told.append(f"{self.withdrawn:,} rows of annotators who have withdrawn were left out")
        told += [f"refused: {line}" for line in self.refused]
        return told + ([f"tracked: data.dvc names {self.tracked}"] if self.tracked else [])


def land(root: Path, batch: Batch) -> Path:
    """Write a batch into the inbox, whole or not at all; returns its file. One that waits already is not written again."""
    place = PurePosixPath(batch.file)
    if place.suffix != ".jsonl" or len(place.parts) != 2 or place.parts[0] not in KINDS or place.name.startswith("."):
        raise DataError(batch.file, "is no file that batches fill", f"name one such as {KINDS[1]}/x.jsonl")
    nameless = [row for row in batch.rows if not isinstance(row.get(batch.key), str) or not row[batch.key]]
    if nameless:
        raise DataError(batch.file, f"{len(nameless)} rows have no {batch.key!r}", "give each a name of its own")
    pending = _pending(root)
    same = [(path, each) for path, each in pending if each.file == batch.file][-1:]
    if same and same[0][1] == batch:
        return same[0][0]
    part = root / INBOX / f".{os.getpid()}.part"
    write_atomic(part, _text(batch))
    number = max((int(path.stem) for path, _ in pending), default=0)
    while True:  # batches are admitted in the order in which they have landed; somebody else may be landing one now
        number += 1
        path = root / INBOX / f"{number:012d}.json"
        try:
            os.link(part, path)
        except FileExistsError:
            continue
        part.unlink()
        fsync_folder(path.parent)
        return path


def waiting(root: Path) -> int:
    """Batches that lie in the inbox."""
    return len(batches(root))


def due(root: Path) -> bool:
    """Whether there is something to admit, or an admission that was killed before DVC knew of it."""
    return bool(waiting(root)) or tracked.pending(root)


def present(root: Path, file: str, key: str) -> Rows:
    """Rows by key that a file of data/ has, or will have when the inbox is admitted."""
    pending = _pending(root)  # first: what is admitted meanwhile is in data/ by then, and comes twice rather than not at all
    rows = admission.stored(root, file, key)
    for _, each in pending:
        if each.file == file:
            admission.apply(rows, each)
    return rows


def admit(root: Path, params: Params) -> Admitted:
    """Check and move in what lies in the inbox, then `dvc add data`. The caller holds the night's lock."""
    paths = batches(root)
    if not due(root):
        return Admitted({}, {}, {}, [])
    bootstrap.bootstrap(root)  # a data/ that held nothing but these rows would pass for the whole
    changes = [admission.change(root, params, file, arrived) for file, arrived in _by_file(paths).items()]
    for change in changes:
        for name, why in change.refused.items():
            content = {"file": change.file, "key": name, "reason": why, "row": change.rows[name]}
            quarantine.keep(root, admission.refusal(change.file, name), content)
    hash_ = tracked.write(root, {change.file: change.content() for change in changes})
    for change in changes:
        quarantine.settle(root, (admission.refusal(change.file, name) for name in change.named if name not in change.refused))
    for path in paths:  # the oldest first: those that a kill leaves change nothing when they come again
        path.unlink()

    def counted(which: str) -> dict[str, int]:
        counts = {each.file: len(getattr(each, which)) for each in changes}
        return {file: count for file, count in counts.items() if count}

    return Admitted(
        added=counted("added"),
        replaced=counted("replaced"),
        removed=counted("removed"),
        refused=[f"{each.file}: {name}: {why}" for each in changes for name, why in sorted(each.refused.items())],
        tracked=hash_,
        withdrawn=sum(each.withdrawn for each in changes),
    )


def rewrite(path: Path, rows: list[Row]) -> None:
    """Let a batch that waits have these rows; without any, and with nothing to remove, it goes."""
    batch = replace(read(path), rows=rows)
    if rows or batch.remove:
        write_atomic(path, _text(batch))
    else:
        path.unlink()


def batches(root: Path) -> list[Path]:
    """Files of the inbox in the order in which they have landed."""
    return sorted(path for path in (root / INBOX).glob("*.json") if path.stem.isdigit())


def read(path: Path) -> Batch:
    """A batch that waits."""
    try:
        return Batch(**read_json(path))
    except TypeError:
        raise DataError(str(path), "is no batch", "look at it and remove it") from None


def _pending(root: Path) -> list[tuple[Path, Batch]]:
    """What waits, without what is admitted while we look."""
    found = []
    for path in batches(root):
        try:
            found.append((path, read(path)))
        except DataError:
            if path.exists():
                raise
    return found


def _text(batch: Batch) -> bytes:
    try:
        return json.dumps(asdict(batch), ensure_ascii=False, sort_keys=True, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise DataError(batch.file, f"has a row that no file can hold ({error})", "mend it where it comes from") from None


def _by_file(paths: Iterable[Path]) -> dict[str, list[Batch]]:
    found: dict[str, list[Batch]] = {}
    for path in paths:
        batch = read(path)
        same = found.setdefault(batch.file, [])
        if same and same[0].key != batch.key:
            what = f"names rows by {batch.key!r}, earlier ones by {same[0].key!r}"
            raise DataError(str(path), what, "look at it and remove it")
        same.append(batch)
    return found
