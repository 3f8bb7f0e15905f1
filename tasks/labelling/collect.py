"""What people have said since the last time, from a Label Studio server or from its JSON export, into the inbox.

A collection reads the tasks that have changed after a moment some minutes before the newest change seen (clocks and
transactions overlap), and lands what is new. The moment is the server's own, kept a server and project in
.nightshift/labelling/cursor.json, and moves only when what was read has landed: a kill at any line costs a second reading,
never a judgement. A row that is known already is not landed again.

Of a task that is read again all annotations are known, so one that is missing was deleted by its author: its row goes. An
annotation that has become malformed, or a correction that is no longer approved, says nothing any more: its row goes too. A
task that is gone from the server takes nothing with it, and an export deletes nothing: it may be older than the data.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tasks import lock, withdrawn
from tasks.bootstrap import DATA, bootstrap
from tasks.errors import ParamsError
from tasks.files import write_json
from tasks.labelling import annotations, export, inbox, people, quarantine, secrets
from tasks.labelling.annotations import CORRECTIONS, KEY, PREFERENCES, Quarantined, Said
from tasks.params import Params, load

CURSOR = Path(".nightshift/labelling/cursor.json")
LOCK = Path(".nightshift/labelling/collect.lock")
FILES = (PREFERENCES, CORRECTIONS)
NAMED = 5  # annotations that a summary names


class Source(Protocol):
    """A server: what tasks/labelling/label_studio.py connects to."""

    def find_projects(self) -> Mapping[Any, int]:
        """Kind of task → id of its project, of those that are there."""
        ...

    def changed(self, project: int, since: str | None) -> Iterator[dict[str, Any]]:
        """Tasks with all their annotations that have changed after `since`, all of them without it; one that changes
        meanwhile comes twice, its newer state last."""
        ...


@dataclass
class Collected:
    """What a collection has read and landed."""

    tasks: int = 0  # read
    landed: dict[str, int] = field(default_factory=dict)  # file below data/ → rows that are new or changed
    removed: dict[str, int] = field(default_factory=dict)  # file → rows that go
    counts: Counter[str] = field(default_factory=Counter)  # of what is landed: skipped, ties
    quarantined: list[Quarantined] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A summary for people."""
        what = [f"{count:,} rows for {file}" for file, count in self.landed.items() if count]
        what += [f"{count:,} {word}" for word, count in sorted(self.counts.items()) if count]
        what += [f"{count:,} rows of {file} go: deleted or taken back" for file, count in self.removed.items() if count]
        told = [f"{self.tasks:,} tasks read: {', '.join(what) or 'nothing new'}"]
        why = Counter(each.reason for each in self.quarantined)
        told += [f"{count:,} quarantined: {reason}" for reason, count in sorted(why.items(), key=lambda item: -item[1])[:NAMED]]
        if self.quarantined:
            told.append(
                f"see {quarantine.FOLDER}: {', '.join(each.name for each in self.quarantined[:NAMED])}"
                + (" …" if len(self.quarantined) > NAMED else "")
            )
        return told


def collect(root: Path, params: Params, source: Source | Sequence[Path], *, again: bool = False, dry: bool = False) -> Collected:
    """Read what is new and land it. `source` is a server, or files of its JSON export.

    `again` reads all tasks of the server, not only what has changed. `dry` reads and leaves nothing behind. Projects land one
    by one: when the server is lost in the middle, those before stay landed.
    """
    out = Collected()
    with lock.held(root / LOCK, "collect", "another collection", params.labelling.timeout_seconds):
        bootstrap(root)
        if not isinstance(source, Sequence):
            for project in sorted(set(source.find_projects().values())):
                _project(root, params, source, project, out, again, dry)
            return out
        read = [(path, export.tasks(path)) for path in source]  # all of them, before anything is landed
        for _, tasks in read:
            _take(root, tasks, None, params, out, whole=False, dry=dry)
    return out


def take_in(root: Path, params: Params) -> list[str]:
    """Admit the inbox if nobody is at work here; else it waits for the next night."""
    try:
        with lock.alone(root, "a collection", lock.MOMENT):
            return inbox.admit(root, params).lines()
    except lock.BusyError as busy:
        return waits(root, busy)


def waits(root: Path, busy: lock.BusyError) -> list[str]:
    """What there is to say of an inbox that could not be admitted."""
    count = inbox.waiting(root)
    return [f"{count:,} batches wait in {inbox.INBOX}: {busy.what}; the next night takes them in"] if count else []


def collect_now(root: Path, files: Sequence[Path], again: bool, dry: bool) -> list[str]:
    """`nightshift collect`: read, land and admit; a line each. Nothing is committed."""
    params = load(root / "params.yaml")
    with opened(root, params, files) as source:
        collected = collect(root, params, source, again=again, dry=dry)
    return collected.lines() if dry else [*collected.lines(), *take_in(root, params)]


@contextlib.contextmanager
def opened(root: Path, params: Params, files: Sequence[Path]) -> Iterator[Source | Sequence[Path]]:
    """The files, or where there are none the server that params.yaml names."""
    if files:
        yield files
        return
    if params.labelling.url is None:
        raise ParamsError(
            "labelling.url",
            "is null: there is no server to collect from",
            "name it in params.yaml, or give an export: --from FILE",
        )
    from tasks.labelling import label_studio  # the SDK takes a second

    with label_studio.connect(params.labelling.url, secrets.value(root, secrets.TOKEN), params.labelling) as server:
        yield server


def _project(root: Path, params: Params, source: Source, project: int, out: Collected, again: bool, dry: bool) -> None:
    cursor = _cursor(root)
    place = f"{_address(params.labelling.url or '')} project {project}"
    newest = annotations.moment(cursor.get(place)) if place in cursor and not again else None
    since = newest - timedelta(minutes=params.labelling.reread_minutes) if newest else None
    tasks = source.changed(project, since and since.isoformat())
    newest = _take(root, tasks, project, params, out, whole=True, dry=dry, newest=newest)
    if newest is not None and not dry:
        write_json(root / CURSOR, {**cursor, place: newest.isoformat()})


def _take(
    root: Path,
    tasks: Iterable[Mapping[str, Any]],
    project: int | None,
    params: Params,
    out: Collected,
    *,
    whole: bool,
    dry: bool,
    newest: datetime | None = None,
) -> datetime | None:
    """Land what these tasks say, and return the newest change of them and `newest`. `whole`: what they lack was deleted."""
    # before anything is read: a row that is known now and missing then was deleted in between
    known = {file: inbox.present(root, file, KEY) for file in FILES}
    waiting = _refused(root)
    name, states = people.namer(root, params), {}
    for number, task in enumerate(tasks):
        # a server gives the newer state of a task last; files laid end to end have no such order, and each may hold more
        states[task.get("id") if whole else number] = annotations.read(task, project, name)
        newest = max(filter(None, (newest, annotations.moment(task.get("updated_at")))), default=None)
    read = list(states.values())
    _leave_out(read, withdrawn.names(root / DATA), out)
    batches = [_batch(file, read, known[file], waiting, whole) for file in FILES]
    out.tasks += len(read)
    for batch in batches:
        out.landed[batch.file] = out.landed.get(batch.file, 0) + len(batch.rows)
        out.removed[batch.file] = out.removed.get(batch.file, 0) + len(set(batch.remove) & known[batch.file].keys())
        out.counts["skipped"] += sum(row.get("skipped", False) for row in batch.rows)
        out.counts["ties"] += sum(len(group) > 1 for row in batch.rows for group in row.get("ranking", []))
    out.quarantined += [each for said in read for each in said.quarantined]
    if not dry:
        _quarantine(root, read, whole)
        for batch in batches:
            if batch.rows or batch.remove:
                inbox.land(root, batch)
    return newest


def _batch(file: str, read: Sequence[Said], known: inbox.Rows, waiting: inbox.Rows, whole: bool) -> inbox.Batch:
    """What has changed for one file of data/."""
    rows: inbox.Rows = {}
    for row in sorted((row for said in read for row in said.rows[file]), key=lambda row: row["updated"]):
        rows[row[KEY]] = row
    gone = set()
    for name, when in sorted((item for said in read for item in said.nothing.items()), key=lambda item: item[1]):
        if name in rows and when >= rows[name]["updated"]:
            del rows[name]
        if name in known and name not in rows and when >= known[name].get("updated", ""):
            gone.add(name)
    if whole:
        places = {(said.place, said.task_hash) for said in read}
        ours = {**known, **{name: row for name, row in waiting.items() if row["file"] == file}}
        gone |= {name for name, row in ours.items() if (row.get("place"), row.get("task")) in places and name not in rows}
    return inbox.Batch(file, KEY, [row for name, row in rows.items() if known.get(name) != row], sorted(gone))


def _leave_out(read: Sequence[Said], people_: frozenset[str], out: Collected) -> None:
    """Forget what people have said who have withdrawn."""
    for said in read:
        for file, rows in said.rows.items():
            kept = [row for row in rows if row["annotator"] not in people_]
            out.counts["left out: their annotator has withdrawn"] += len(rows) - len(kept)
            said.rows[file] = kept
        said.quarantined[:] = [each for each in said.quarantined if each.raw.get("annotator") not in people_]


def _quarantine(root: Path, read: Sequence[Said], whole: bool) -> None:
    there = quarantine.under(root, annotations.BEGINNING) if whole else []
    for said in read:
        for each in said.quarantined:
            content = {"annotation": each.annotation, "task": each.task, "project": each.project, "reason": each.reason}
            quarantine.keep(root, each.name, {**content, "raw": each.raw})
        quarantine.settle(root, said.read)
        if there:  # and those of annotations that are deleted
            project, _, task = said.place.partition("/")
            left = {name for name in there if name.startswith(annotations.file_name(project, task))}
            quarantine.settle(root, left - {each.name for each in said.quarantined})


def _refused(root: Path) -> inbox.Rows:
    """Rows that were read well and refused at the door, by key: those too may be deleted there."""
    kept = [content for content in quarantine.everything(root).values() if isinstance(content.get("row"), dict)]
    return {content["key"]: {**content["row"], "file": content["file"]} for content in kept}


def _cursor(root: Path) -> dict[str, str]:
    try:
        found = json.loads((root / CURSOR).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # everything is read once more
    return found if isinstance(found, dict) else {}


def _address(url: str) -> str:
    """The server's address without a name or password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}".rstrip("/")
