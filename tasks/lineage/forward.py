"""A judgement forward to what it shaped: the releases whose training used it, what it was there, and where it is in data/ now.

judgements.json of a release names annotations by annotator. An id is unique within one Label Studio server; rows from
elsewhere may use it again, so each annotator who has it is a finding of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tasks import records, withdrawn
from tasks.bootstrap import DATA
from tasks.errors import DataError
from tasks.files import read_jsonl
from tasks.formats.files import data_files
from tasks.labelling import rows
from tasks.lineage import cache
from tasks.lineage.judged import Id, Judged, judged
from tasks.lineage.night import night_of
from tasks.records import Record

KINDS = {"preferences": "preference pair", "instructions": "approved correction"}  # folder → what its rows are to training
ABOUT = ("id", "task", "place", "release", "updated", "skipped", "flags")  # of a row, that says where it comes from


@dataclass(frozen=True)
class Shaped:
    """A release, and which annotations of those that were asked for its training used."""

    release: str
    published: str
    live: bool
    withdrawn: str | None  # when it was rolled back
    model_of: str | None
    annotations: tuple[Id, ...]


@dataclass(frozen=True)
class Use:
    """What training made of an annotation."""

    kind: str
    id: str  # of the pair, or of the row
    annotators: tuple[str, ...]  # who said the same
    chosen: str  # what was preferred; the answer of a correction
    rejected: str | None


@dataclass(frozen=True)
class Place:
    """A row of data/ that is the annotation as its author says it now."""

    file: str  # with line or row
    kind: str
    about: dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """One annotation of one annotator."""

    annotation: Id
    annotator: str
    releases: tuple[Shaped, ...]  # the last first
    used_in: str | None = None  # the release whose training `uses` tells of
    uses: tuple[Use, ...] | None = None  # None: its dataset is not in DVC's cache
    places: tuple[Place, ...] = ()
    gone: str | None = None  # when the annotator has withdrawn


@dataclass(frozen=True)
class Forward:
    """Where a judgement, or a person's judgements, went."""

    findings: tuple[Finding, ...]
    untold: int  # releases that do not tell what they were trained on

    def told(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)


def of_people(root: Path, names: Sequence[str]) -> tuple[list[Shaped], int]:
    """Releases that were trained on the judgements of a person, who may have several names, and how many do not tell."""
    live, found, untold = records.live(root), [], 0

    @functools.cache  # releases share judgements
    def of(told: Judged) -> list[Id] | None:
        theirs = [ids for name in names if (ids := told.of(name)) is not None]
        return [id_ for ids in theirs for id_ in ids] if theirs else None

    for record, told in judged(root):
        untold += told is None
        if told and (ids := of(told)) is not None:
            found.append(_shaped(record, live, ids))
    return found, untold


def of_annotation(root: Path, annotation: str, annotator: str | None = None, release: str | None = None) -> Forward:
    """An annotation forward, of one annotator where it is given; its use is told for `release`, or the last that used it.

    DataError where no release and no row of data/ has it.
    """
    live, found, untold = records.live(root), {}, 0
    everything: dict[str, Record] = {}
    holders = functools.cache(lambda told: told.holders(annotation))  # releases share judgements
    for record, told in judged(root):
        untold += told is None
        for who, id_ in (holders(told) if told else {}).items():
            everything[record["release"]] = record
            found.setdefault(who, []).append(_shaped(record, live, [id_]))
    there = _places(root, annotation)
    people = [who for who in dict.fromkeys([*found, *there]) if annotator in (None, who)]
    if not people:
        raise DataError(f"--annotation {annotation}", *_nobody(root, annotation, annotator, [*found, *there]))
    withdrew = {row["annotator"]: row.get("when", "") for row in withdrawn.entries(root / DATA)}
    wanted = records.record(root, release)["release"] if release else None
    findings = []
    for who in people:
        finding = Finding(
            annotation=found[who][0].annotations[0] if who in found else annotation,
            annotator=who,
            releases=tuple(found.get(who, ())),
            places=tuple(there.get(who, ())),
            gone=withdrew.get(who),
        )
        told_of = next((of.release for of in finding.releases if wanted in (None, of.release)), None)
        if told_of:
            finding = replace(finding, used_in=told_of, uses=_uses(root, everything[told_of], annotation, who))
        findings.append(finding)
    return Forward(tuple(findings), untold)


def _shaped(record: Record, live: str | None, ids: Sequence[Id]) -> Shaped:
    name = record["release"]
    return Shaped(
        name, record["published"], name == live, record["withdrawn"], record["manifest"].get("model_of"), tuple(ids)
    )


def _places(root: Path, annotation: str) -> dict[str, list[Place]]:
    """Annotator → rows of data/ that are this annotation now."""
    found: dict[str, list[Place]] = {}
    for folder, kind in KINDS.items():
        for path in data_files(root / DATA / folder) if (root / DATA / folder).is_dir() else ():
            if not rows.readable(path):
                continue
            for where, row in rows.of_annotation(path, annotation):
                about = {key: row[key] for key in ABOUT if row.get(key)}
                place = Place(f"{path.relative_to(root).as_posix()}:{where}", kind, about)
                found.setdefault(rows.author_of(row, path), []).append(place)
    return found


def _uses(root: Path, record: Record, annotation: str, who: str) -> tuple[Use, ...] | None:
    """What a release's training made of an annotation: from the dataset that its night names, where the cache has it."""
    if of := record["manifest"].get("model_of"):
        record = records.record(root, of)
    made = night_of(root, record).stages.get("release")
    found: list[Use] = []
    for folder, kind in KINDS.items():
        read = next((item for item in made.inputs if item.path.endswith(f"{folder}/train.jsonl")), None) if made else None
        path = read and cache.at(root, read.md5)
        if not path:
            return None
        found += [_use(kind, row) for row in read_jsonl(path) if _is(row, annotation, who)]
    return tuple(found)


def _is(row: dict[str, Any], annotation: str, who: str) -> bool:
    if "annotators" in row:
        said = zip(row["annotators"], row["annotations"], strict=True)
        return any(name == who and rows.is_annotation(id_, annotation) for name, id_ in said)
    return row.get("annotator") == who and rows.is_annotation(row.get("annotation"), annotation)


def _use(kind: str, row: dict[str, Any]) -> Use:
    people = tuple(row.get("annotators") or [row["annotator"]])
    said = row["chosen"] if "chosen" in row else row["messages"][-1]["content"]
    return Use(kind, row["id"], people, said, row.get("rejected"))


def _nobody(root: Path, annotation: str, annotator: str | None, others: list[str]) -> tuple[str, str]:
    """What is wrong with an annotation that was not found, and what may have been meant: Label Studio's own number, perhaps,
    which is the beginning of the id here."""
    if others:
        return f"is none of {annotator}'s", f"it is by {', '.join(dict.fromkeys(others))}"
    last = next((told for _, told in judged(root) if told), None) if annotation.isdecimal() else None
    near = last and last.beginning(f"ls{annotation}-")
    hint = f"did you mean {near}?" if near else "ids are written as in releases/judgements and in data/preferences"
    return "has shaped no release and is in no row of data/", hint
