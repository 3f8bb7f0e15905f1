"""What waits for a person's word, the question that is put to them, and what follows from the answer.

    releases/rejected/<first 8 hex digits of the manifest's hash>.json   who said no, when and why; and to what

A yes is a promotion like any other. A no is kept, so that nobody is asked about the same parts again and no night makes
them live; `nightshift promote` still does, for that is a person's word too. Whoever answers may do so days later: `approve`
asks anew whether all is as it was when the question was put. What people write is untrusted text: it is stored in one
bounded line (`one_line`) and escaped where it is shown as Markdown (`markdown`).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tasks import documents_release, lock, promote, records, verify
from tasks.errors import NightshiftError
from tasks.figures import difference, text
from tasks.files import canonical_json, read_json, write_json

ASKING = lock.WORK / "approval.lock"  # held by the process that waits for an answer
REJECTED = records.RELEASES / "rejected"
MOST_WORDS, MOST_NAME = 500, 80  # characters of a comment and of a name that are kept
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")  # all of ASCII's: Markdown lets a backslash precede each

Record = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What a person is asked about, as it was when the question was put."""

    kind: Literal["release", "documents"]  # tonight's candidate, or the live model with tonight's documents
    manifest_sha256: str
    manifest: Record
    live: str | None  # the release that it was compared with
    again: bool = False  # although it was rejected or rolled back

    @property
    def name(self) -> str:
        """Eight hex digits, as at the end of the release's id."""
        return self.manifest_sha256[:8]


def waiting(root: Path, again: bool = False) -> Request | None:
    """What could be made live now and nobody has decided on: tonight's candidate, else tonight's documents alone.

    `again`: also what was rejected or rolled back. What the gate holds back, or what is not there with the bytes that its
    manifest names, is not waiting for anybody.
    """
    found = records.candidate(root)
    if found and found[1]["gate"]["promote"] and _undecided(root, found[1], again) and _whole(root, found[1]):
        return Request("release", *found, records.live(root), again)
    manifest = _documents(root)
    if manifest and _undecided(root, manifest, again):
        return Request("documents", _hash(manifest), manifest, records.live(root), again)
    return None


def overtaken(root: Path, request: Request) -> str | None:
    """Why there is nothing to decide any more; None while there is. Reads small files only, for it is asked every moment."""
    live = records.live(root)
    if live != request.live:
        same = live is not None and _served(records.record(root, live)["manifest"]) == _served(request.manifest)
        if same:
            return f"{live} is live already"
        return f"{live or 'nothing'} is live by now, and it was compared with {request.live or 'nothing'}"
    if not request.again and (rejected := rejection(root, request.manifest)):
        return rejected
    found = records.candidate(root)
    if request.kind == "release" and found and found[0] != request.manifest_sha256:
        return f"a newer candidate ({found[0][:8]}) has taken its place"
    return None


def approve(root: Path, request: Request, now: datetime) -> promote.Promoted | str:
    """Make it live if it still is what the person saw, else say what has become of it. Whoever calls holds the night's lock."""
    if why := overtaken(root, request):
        return why
    if request.kind == "documents":
        manifest = _documents(root)
        if manifest is None or _hash(manifest) != request.manifest_sha256:
            return "the documents have changed since"
        return documents_release.release(root, now, request.again)
    found = records.candidate(root)
    if found is None or found[0] != request.manifest_sha256:
        return f"a newer candidate ({found[0][:8]}) has taken its place" if found else "the candidate is not there any more"
    return promote.promote(root, now, request.again)


def reject(root: Path, request: Request, now: datetime, by: str, comment: str) -> None:
    """Keep a no. The first one stays."""
    path = root / REJECTED / f"{request.name}.json"
    if path.is_file():
        return
    write_json(
        path,
        {
            "kind": request.kind,
            "manifest_sha256": request.manifest_sha256,
            "serves": _served(request.manifest),
            "live": request.live,
            "rejected": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "by": one_line(by, MOST_NAME),
            "comment": one_line(comment, MOST_WORDS),
        },
    )


def rejection(root: Path, manifest: Mapping[str, Any]) -> str | None:
    """A line on who has rejected what serves the same as this manifest; None where nobody has."""
    serves = _served(manifest)
    for path in sorted((root / REJECTED).glob("*.json")):
        said = read_json(path)
        if said["serves"] == serves:
            who, why = f" by {said['by']}" if said["by"] else "", f": {said['comment']}" if said["comment"] else ""
            return f"rejected on {said['rejected'][:10]}{who}{why}"
    return None


def standing(root: Path) -> str:
    """What tonight's candidate, which the gate lets out, waits for (`nightshift status`)."""
    found = records.candidate(root)
    if found and (rejected := rejection(root, found[1])):
        return f"{rejected} (nightshift promote makes it live all the same)"
    if lock.is_held(root / ASKING):
        return "passed the gate and waits for approval in Prefect's UI; by hand: nightshift promote"
    return "passed the gate; make it live: nightshift promote"


def question(root: Path, request: Request, links: Mapping[str, str]) -> str:
    """What is put to the person, as Markdown: figures beside the live release's, the gate's words, where to read on."""
    before = records.record(root, request.live)["manifest"]["figures"] if request.live else {}
    what = "the live model with new documents" if request.kind == "documents" else "candidate"
    lines = [
        f"**Make {what} {request.name} live?** " + (f"{request.live} is live now." if request.live else "Nothing is live yet."),
        "",
        *([" · ".join(f"[{label}]({url})" for label, url in links.items()), ""] if links else []),
        "| figure | candidate | live | difference |",
        "| --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {markdown(label)} | {text(label, value)} | {text(label, before.get(label))} "
        f"| {difference(label, value, before.get(label))} |"
        for label, value in request.manifest["figures"].items()
    ]
    lines += ["", "| the gate lets it out |", "| --- |"]  # a table: Prefect's pages show no escaped text in lists
    return "\n".join([*lines, *(f"| {markdown(reason['why'])} |" for reason in request.manifest["gate"]["reasons"])])


def one_line(words: str, most: int) -> str:
    """What somebody has typed, as one line without characters that steer a terminal or turn text around."""
    kept = (" " if char.isspace() else char for char in words if char.isspace() or unicodedata.category(char)[0] != "C")
    line = " ".join("".join(kept).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def markdown(words: str) -> str:
    """Text that is shown as it is, whatever it contains."""
    return PUNCTUATION.sub(r"\\\1", one_line(words, 10 * MOST_WORDS))


def _undecided(root: Path, manifest: Mapping[str, Any], again: bool) -> bool:
    known = records.released_as(root, manifest)
    if known and known["release"] == records.live(root):
        return False
    return again or not ((known and known["withdrawn"]) or rejection(root, manifest))


def _whole(root: Path, manifest: Mapping[str, Any]) -> bool:
    try:
        verify.verify(root, manifest)
    except NightshiftError:
        return False
    return True


def _documents(root: Path) -> Record | None:
    try:
        found = documents_release.candidate(root)
    except NightshiftError:
        return None
    return found[0] if found and not found[1] and not documents_release.held_back_as_a_whole(root, found[0]) else None


def _served(manifest: Mapping[str, Any]) -> Record:
    parts = {name: part["sha256"] for name, part in manifest["parts"].items()}
    return {"name": manifest.get("name"), "license": manifest.get("license"), "parts": parts}


def _hash(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(manifest).encode()).hexdigest()
