"""A release back to what it was made of: parts, stages, versions of the data, annotations.

Of a release in which only the documents are new (docs/decisions/0012) the model is another release's: its parts are traced
through that release's night. What cannot be told, and what does not fit together, is said beside the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import git, records, withdrawn
from tasks.bootstrap import DATA
from tasks.documents_release import NEW
from tasks.errors import DataError, GateError
from tasks.lineage import history
from tasks.lineage.history import Version
from tasks.lineage.judged import Id, Judged
from tasks.lineage.night import Night, Stage, night_of
from tasks.records import Record

MANIFEST = "release"  # the stage that writes it


@dataclass(frozen=True)
class Part:
    """One part of what serves, and the stage that it came out of."""

    name: str
    path: str
    sha256: str
    bytes: int
    release: str  # whose night made it
    stage: str | None  # None: its night's dvc.lock is nowhere


@dataclass(frozen=True)
class Data:
    """The raw data of a night, with its versions up to then: the first is this one, where git has it."""

    release: str
    md5: str
    files: int | None
    bytes: int | None
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Trace:
    """Where a release comes from."""

    record: Record  # without its metrics
    live: bool
    commit: git.Commit | None  # that the release names, where git has it
    nights: tuple[Night, ...]  # its own, then its model's; only the stages that it comes from
    parts: tuple[Part, ...]
    data: tuple[Data, ...]  # of the nights, one to one
    judgements: dict[str, list[Id]] | None  # annotator → annotations; None: it does not tell
    withdrawn: dict[str, str]  # of these annotators, those who have withdrawn since → when
    unclear: tuple[str, ...]  # what could not be told, and what does not fit

    @property
    def release(self) -> str:
        """Its id."""
        return self.record["release"]

    def groups(self) -> list[list[Part]]:
        """Parts by the stage that wrote them, in the order of the nights' stages; a folder before what lies in it."""
        order = [(night.release, name) for night in reversed(self.nights) for name in (None, *night.stages)]
        groups: dict[tuple[str, str | None], list[Part]] = {key: [] for key in order}
        for part in sorted(self.parts, key=lambda part: part.path):
            groups[part.release, part.stage].append(part)
        return [parts for parts in groups.values() if parts]

    def told(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)


def trace(root: Path, name: str | None) -> Trace:
    """Trace a release, by default the live one. GateError where there is none of that name."""
    named = name or records.live(root)
    if named is None:
        raise GateError("trace", "nothing is live", "run a night: make nightly")
    record = _without_metrics(records.record(root, named))
    manifest, unclear = record["manifest"], []
    owners = [record, *(_without_metrics(item) for item in _model_of(root, manifest, unclear))]
    nights, parts, data = [], [], []
    for owner in owners:
        night = night_of(root, owner)
        mine = _parts(manifest, night, owner is record, len(owners) > 1)
        ends = [part.stage for part in mine if part.stage] + ([MANIFEST] if len(owners) == 1 else [])
        stages = night.upstream(*ends)
        if not night.stages:
            unclear.append(night.where)
        elif missing := [part.name for part in mine if part.stage is None]:
            unclear.append(f"{', '.join(missing)}: no stage in dvc.lock of {owner['release']} writes it")
        unclear += night.breaks(stages, owner["manifest"]["data"]["md5"])
        nights.append(Night(night.release, night.commit, night.where, stages))
        parts += mine
        data.append(_data(root, owner, night, unclear))
    judgements = _judgements(root, manifest, unclear)
    gone = withdrawn.entries(root / DATA) if judgements and (root / DATA).is_dir() else []
    return Trace(
        record=record,
        live=record["release"] == records.live(root),
        commit=next(iter(git.log(root, at, most=1)), None) if (at := record["git"]["commit"]) else None,
        nights=tuple(nights),
        parts=tuple(parts),
        data=tuple(data),
        judgements=judgements,
        withdrawn={row["annotator"]: row.get("when", "") for row in gone if row["annotator"] in (judgements or {})},
        unclear=tuple(unclear),
    )


def _without_metrics(record: Mapping[str, Any]) -> Record:
    return {key: value for key, value in record.items() if key != "metrics"}


def _model_of(root: Path, manifest: Mapping[str, Any], unclear: list[str]) -> list[Record]:
    """The release whose model this one serves, where it is another."""
    if not (of := manifest.get("model_of")):
        return []
    try:
        return [records.record(root, of)]
    except GateError as error:
        unclear.append(f"the model is that of {error}")
        return []


def _parts(manifest: Mapping[str, Any], night: Night, own: bool, shared: bool) -> list[Part]:
    """The parts that a night made: of a release with another's model, the documents are its own, the rest the other's."""
    return [
        Part(name, facts["path"], facts["sha256"], facts["bytes"], night.release, night.writer(facts["path"]))
        for name, facts in manifest["parts"].items()
        if not shared or (name in NEW) == own
    ]


def _data(root: Path, record: Mapping[str, Any], night: Night, unclear: list[str]) -> Data:
    told = record["manifest"]["data"]
    found = history.versions(root, night.commit or "HEAD") if git.is_repository(root) else []
    at = next((n for n, version in enumerate(found) if version.md5 == told["md5"]), None)
    if at is None:
        why = "; the clone is shallow: git fetch --unshallow" if git.is_shallow(root) else ""
        unclear.append(f"data {told['md5']}: no commit of {history.POINTER} names it{why}")
    return Data(record["release"], told["md5"], told.get("files"), told.get("bytes"), tuple(found[at or 0 :]))


def _judgements(root: Path, manifest: Mapping[str, Any], unclear: list[str]) -> dict[str, list[Id]] | None:
    if not manifest.get("judgements"):
        return None
    try:
        return Judged.read(root, manifest).everybody()
    except DataError as error:
        unclear.append(str(error))
        return None


def stage_of(found: Trace, name: str) -> tuple[Night, Stage]:
    """A stage of a trace. DataError names those that are there."""
    for night in found.nights:
        if name in night.stages:
            return night, night.stages[name]
    there = list(dict.fromkeys(name for night in found.nights for name in night.stages))
    raise DataError(f"--stage {name}", f"is no stage that {found.release} comes from", f"there are {', '.join(there) or 'none'}")


def told_of_stage(found: Trace, name: str) -> dict[str, Any]:
    """A stage as JSON."""
    night, stage = stage_of(found, name)
    return {"release": night.release, "commit": night.commit, **asdict(stage)}
