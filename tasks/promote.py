"""Promotion: one pointer says what is live, and it is flipped only after every part has been verified.

    releases/answers/<id>.json   the release's own answers, which make it tomorrow's champion
    releases/search/<id>.json    what its search found, for the same purpose
    releases/judgements/<sha>.json   whose judgements it was trained on; nights that were trained on the same ones share it
    releases/<id>.json           the manifest, git commit, date, the night's metrics: never changed but for `withdrawn`
    releases/LIVE                the id of the live release
    champion.json                follows LIVE (`settle`), a copy of its file in releases/answers/
    champion-search.json         follows LIVE, a copy of its file in releases/search/
    the store's own pointer      follows LIVE (tasks/live_index.py)
    .nightshift/rollback.json    is there while a rollback is under way: from which release to which

An id is <date>-<first 8 hex digits of the manifest's hash>. Each file appears whole or not at all, and they are written
in the order above (a rollback marks what it leaves as `withdrawn` before it moves LIVE), by one process at a time. So
after a kill at any line the old or the new release is live, and doing the same again completes it: also when the
pointer had moved already, where one more rollback would go back too far.

Reading it all is tasks/records.py, and needs no lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tasks import champion, git, live_index
from tasks.errors import GateError
from tasks.files import read_json, sha256_file, write_atomic, write_json
from tasks.lock import PROMOTION, WORK, held
from tasks.records import RELEASES, candidate, judgements_file, live, lock, output_of, record, refusals, released_as
from tasks.verify import measured, verify

PATIENCE = 60.0  # seconds that a promotion waits for another one to end
ROLLBACK = WORK / "rollback.json"


class Follower(NamedTuple):
    """A file that follows LIVE, and the folder of releases/ that has one of its kind a release."""

    path: Path
    folder: str
    kind: type[champion.Live]


FOLLOWERS = (
    Follower(Path("champion.json"), "answers", champion.Champion),
    Follower(Path("champion-search.json"), "search", champion.SearchChampion),
)
COMMITTED = (str(RELEASES), *(str(follower.path) for follower in FOLLOWERS))  # what a promotion or a rollback leaves to commit


@dataclass(frozen=True)
class Promoted:
    """The release in question, and whether this call made it live."""

    release: str
    flipped: bool
    before: str | None  # what was live
    notes: tuple[str, ...] = ()  # what could not follow, or cannot be traced from here, and what to do


def promote(root: Path, now: datetime, again: bool = False) -> Promoted:
    """Make tonight's candidate live: verify, record, flip. Doing it twice does nothing the second time.

    GateError when there is no candidate, when the gate holds it back, when a part or what it was made from is not what
    the manifest says, or when this very release was rolled back before (`again` promotes it nevertheless). BusyError
    while another promotion or rollback is running.
    """
    with changing(root):
        found = candidate(root)
        if found is None:
            raise GateError("release", "there is no candidate", "run a night: make nightly")
        manifest_hash, manifest = found
        before, known = live(root), released_as(root, manifest)
        if known and known["release"] == before:
            return Promoted(before, False, before, finish(root))
        if not manifest["gate"]["promote"]:
            raise GateError(
                "release", f"the gate holds it back: {'; '.join(refusals(manifest))}", "metrics/gate.json has the rules"
            )
        check_withdrawn(known, again)
        notes = verify(root, manifest)
        live_index.ready(root, manifest)
        same = known and known["manifest_sha256"] == manifest_hash
        release = known["release"] if same else f"{now.astimezone(UTC):%Y-%m-%d}-{manifest_hash[:8]}"
        travelling = [champion.champion_from(release, output_of(root, of.kind.stage), of.kind) for of in FOLLOWERS]
        metrics = measured(root, manifest, (path.stem for path in sorted((root / "metrics").glob("*.json"))))
        done = publish(root, now, release, manifest_hash, manifest, travelling, lock(root), metrics)
        return Promoted(done.release, True, done.before, (*notes, *done.notes))


def rollback(root: Path, now: datetime, to: str | None = None) -> Promoted:
    """Make the release before the live one, or the named one, live again.

    The one left is marked, so that no night brings it back by itself. GateError when there is none to go back to.
    """
    with changing(root):
        before, journal = live(root), root / ROLLBACK
        if before is None:
            raise GateError("rollback", "nothing is live", "run a night: make nightly")
        under_way = read_json(journal) if journal.is_file() else {}
        if to is None and under_way.get("to") == before:  # an earlier call was killed after its flip
            return Promoted(before, True, under_way["from"], finish(root))
        current = record(root, before)
        target = to or current["previous"]
        if target is None:
            raise GateError(before, "is the first release: there is none to go back to", "name one: nightshift rollback RELEASE")
        wanted = record(root, target)["release"]
        if wanted == before:
            return Promoted(before, False, before, finish(root))
        write_json(journal, {"from": before, "to": wanted})
        write_json(root / RELEASES / f"{before}.json", {**current, "withdrawn": _moment(now)})
        return Promoted(wanted, True, before, _flip(root, wanted))


@contextlib.contextmanager
def changing(root: Path) -> Iterator[None]:
    """One process at a time changes what is live; what a killed one left half written beside its files is removed."""
    with held(root / PROMOTION, "releases", "another promotion or rollback", PATIENCE):
        for names in (f"{RELEASES}/**/.*.part-*", f"{WORK}/.{ROLLBACK.name}.part-*", *(f".{of.path}.part-*" for of in FOLLOWERS)):
            for leftover in root.glob(names):
                leftover.unlink(missing_ok=True)
        yield


def check_withdrawn(known: Mapping[str, Any] | None, again: bool) -> None:
    """GateError where a person has rolled this very release back and nobody says that it is meant `again`."""
    if known and known["withdrawn"] and not again:
        raise GateError(
            known["release"], f"was rolled back on {known['withdrawn']}", "nightshift promote --again, if you mean it"
        )


def publish(
    root: Path,
    now: datetime,
    release: str,
    manifest_hash: str,
    manifest: Mapping[str, Any],
    travelling: Sequence[champion.Live],
    dvc: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Promoted:
    """Write what a verified release leaves, in the order of this module's docstring, and flip. Only while `changing`.

    `travelling`: one file a follower; `dvc`: hash of dvc.lock and of each part's output. GateError where the judgements that
    the manifest names are nowhere.
    """
    before = live(root)
    uncommitted = [path for path in git.dirty(root) if not path.startswith(COMMITTED)]  # without what is written here
    _keep_judgements(root, manifest)
    for of, cases in zip(FOLLOWERS, travelling, strict=True):
        champion.write(root / RELEASES / of.folder / f"{release}.json", cases)
    write_json(
        root / RELEASES / f"{release}.json",
        {
            "release": release,
            "published": _moment(now),
            "previous": before,
            "withdrawn": None,
            "manifest": manifest,
            "manifest_sha256": manifest_hash,
            "git": {"commit": git.head(root), "uncommitted": uncommitted[: git.MAX_DIRTY]},
            "dvc": dvc,
            "params_sha256": sha256_file(root / "params.yaml"),
            "metrics": metrics,
        },
    )
    return Promoted(release, True, before, _flip(root, release))


def _keep_judgements(root: Path, manifest: Mapping[str, Any]) -> None:
    """Copy what stage release wrote, unless an earlier release has brought it."""
    path = judgements_file(root, manifest)
    wanted = path and manifest["judgements"]["sha256"]
    if path is None or (path.is_file() and sha256_file(path) == wanted):
        return
    source = output_of(root, "release") / "judgements.json"
    if not source.is_file() or sha256_file(source) != wanted:
        what = "is missing, and the candidate has other judgements"
        raise GateError(str(path), what, "git checkout releases, or dvc repro release")
    write_atomic(path, source.read_bytes())


def settle(root: Path) -> bool:
    """Let champion.json and champion-search.json follow LIVE; returns whether one had to be written (a promotion or a
    rollback was killed before it had written both)."""
    with changing(root):
        return _settle(root)


def _settle(root: Path) -> bool:
    release = live(root)
    if release is not None and (at := record(root, release))["withdrawn"]:
        write_json(root / RELEASES / f"{release}.json", {**at, "withdrawn": None})  # it is live: again, or still
    return any([_follow(root, release, of) for of in FOLLOWERS])  # a list: one that was written must not spare the other


def _follow(root: Path, release: str | None, of: Follower) -> bool:
    path = root / of.path
    at_hand = champion.read(path, of.kind) if path.is_file() else None
    if release is not None and at_hand is not None and at_hand.release == release:
        return False
    kept = root / RELEASES / of.folder / f"{release}.json"
    if release is None or (of.kind is champion.SearchChampion and not kept.is_file()):
        wanted = of.kind(release=None)  # nothing released, or before search was compared
    else:
        wanted = champion.read(kept, of.kind)
    if at_hand == wanted:
        return False
    champion.write(path, wanted)
    return at_hand is not None or wanted.release is not None  # an empty one where there was none interrupted nothing


def _moment(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _flip(root: Path, release: str) -> tuple[str, ...]:
    write_atomic(root / RELEASES / "LIVE", f"{release}\n")
    return finish(root)


def finish(root: Path) -> tuple[str, ...]:
    """Everything that follows LIVE; twice is once. The journal of a rollback goes last: without it, it is done. Only while
    `changing`; what could not follow, a line each."""
    _settle(root)
    at = record(root, live(root))
    notes = live_index.follow(root, at["manifest"])
    (root / ROLLBACK).unlink(missing_ok=True)
    return notes
