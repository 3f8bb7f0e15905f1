"""A trace in words, for a terminal: short, with the whole a flag away. What people and models wrote is stripped of control
characters (tasks/terminal.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tasks.lineage.back import MANIFEST, Data, Part, Trace, stage_of
from tasks.lineage.forward import Finding, Forward, Shaped
from tasks.lineage.history import Changes
from tasks.lineage.night import File, Night, Stage
from tasks.reporting.words import plural
from tasks.terminal import plain

VERSIONS, PEOPLE, IDS, RELEASES, NAMES, WIDE = 8, 12, 6, 12, 3, 100  # of each, shown in a terminal; characters of a text


def back(found: Trace) -> Iterator[str]:
    """A release: what it is, its data, who judged, and the tree of stages from each part to the data."""
    record, manifest = found.record, found.record["manifest"]
    state = "live" if found.live else f"rolled back {moment(record['withdrawn'])}" if record["withdrawn"] else ""
    yield f"release   {found.release}{f' ({state})' if state else ''}"
    yield f"promoted  {moment(record['published'])}, after {record['previous'] or 'nothing'}"
    if of := manifest.get("model_of"):
        yield f"          new documents only: its model is that of {of}"
    dirty = record["git"]["uncommitted"]
    named = found.commit and f"{found.commit.hash[:10]}  {short(found.commit.subject)}"
    beside = f" ({plural(len(dirty), 'file')} uncommitted)" if dirty else ""
    yield f"commit    {named or record['git']['commit'] or 'none'}{beside}"
    for night in found.nights:
        if night.stages:
            of = "" if night.release == found.release else f", of {night.release}"
            yield f"dvc.lock  {night.where}{of}: has the hash recorded"
    for n, data in enumerate(found.data):
        which = "" if n == 0 else f", which the model of {data.release} learned from"
        yield from ["", *versions(data, which, VERSIONS if n == 0 else 1)]
    yield from ["", *judged(found)]
    told: set[tuple[str, str]] = set()
    for parts in found.groups():
        yield from ["", *tree(found, parts, told)]
    own = found.nights[0]
    if MANIFEST in own.stages:
        yield from ["", "manifest  what else was measured before the gate spoke", *branches(own, MANIFEST, told)]
    yield from ["", *(f"UNCLEAR: {plain(line)}" for line in found.unclear)] if found.unclear else []


def versions(data: Data, which: str, most: int) -> Iterator[str]:
    """A version of the data, and those before it, so many in all."""
    size = f", {data.files:,} files, {megabytes(data.bytes)}" if data.files and data.bytes is not None else ""
    yield f"data      {data.md5}{size}{which}"
    for version in data.versions[:most]:
        size = f"{version.files:>5,} files {megabytes(version.bytes):>9}"
        yield f"  {version.when[:10]}  {version.commit[:10]}  {size}  {short(version.subject)}"
        if version.changes:
            yield f"              {'':10}{changes(version.changes)}"
    if (more := len(data.versions) - most) > 0:
        yield f"  and {plural(more, 'version')} before{' (--json has all)' if most > 1 else ''}"


def judged(found: Trace) -> Iterator[str]:
    """The annotations that shaped it, by annotator."""
    told = found.judgements
    if told is None:
        yield "judged    the release does not tell whose judgements it was trained on"
        return
    yield f"judged    {plural(sum(map(len, told.values())), 'annotation')} by {plural(len(told), 'annotator')}"
    most = sorted(told, key=lambda who: (who not in found.withdrawn, -len(told[who]), who))
    for who in most[:PEOPLE]:
        ids = told[who]
        gone = f", withdrew {found.withdrawn[who][:10]}" if who in found.withdrawn else ""
        yield f"  {plain(who)}  {len(ids):,}: {_some(ids)}{gone}" if ids else f"  {plain(who)}  rows that tell no id{gone}"
    if (more := len(most) - PEOPLE) > 0:
        yield f"  and {plural(more, 'annotator')} with no more each (--json has all)"


def tree(found: Trace, parts: Sequence[Part], told: set[tuple[str, str]]) -> Iterator[str]:
    """Parts that one stage wrote, and under them the stages that they come from; what was `told` before is not told again."""
    for part in parts:
        of = "" if part.release == found.release else f"  of {part.release}"
        yield f"{part.name}  {part.path}  {megabytes(part.bytes)}  sha256 {part.sha256[:16]}{of}"
    stage, release = parts[0].stage, parts[0].release
    night = next(night for night in found.nights if night.release == release)
    yield from branches(night, stage, told) if stage else ["└─ (unclear)"]


def branches(night: Night, name: str, told: set[tuple[str, str]], lead: str = "", last: bool = True) -> Iterator[str]:
    """A stage with what it wrote, and under it what it read: stages, data, other sources."""
    arm, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
    told.add((night.release, name))
    stage = night.stages[name]
    yield f"{lead}{arm}{name} → {', '.join(map(_file, outputs(stage)))}"
    outside = [_file(item) for item in stage.inputs if night.kind(stage, item.path) in ("data", "source")]
    before = [source for source in night.sources(name) if (night.release, source) in told]
    above = [f"{', '.join(before)} (above)"] if before else []
    fresh = [source for source in night.sources(name) if source not in before]
    for n, source in enumerate(fresh, 1):
        if (night.release, source) in told:  # came up below one of the others
            above.append(f"{source} (above)")
        else:
            yield from branches(night, source, told, lead + below, n == len(fresh) and not outside and not above)
    for n, line in enumerate([*outside, *above], 1):
        yield f"{lead}{below}{'└─ ' if n == len(outside) + len(above) else '├─ '}{line}"


def one_stage(found: Trace, name: str) -> Iterator[str]:
    """A stage in full."""
    night, stage = stage_of(found, name)
    yield f"stage    {stage.name} of {night.release} ({night.where})"
    yield f"command  {' '.join(stage.command.split())}"
    for section, values in stage.params.items():
        yield f"{section}:" if isinstance(values, dict) else f"{section}: {values}"
        yield from (f"  {key}: {value}" for key, value in values.items()) if isinstance(values, dict) else ()
    for title, files in (("inputs", stage.inputs), ("outputs", stage.outputs)):
        yield title
        for item in files:
            kind = f"  {night.kind(stage, item.path)}" if title == "inputs" else ""
            yield f"  {item.md5:<36}  {megabytes(item.bytes):>9}  {item.path}{kind}"


def forward(found: Forward) -> Iterator[str]:
    """Annotations forward."""
    if len(found.findings) > 1:
        yield f"{len(found.findings)} annotators have an annotation of this id; --annotator WHO asks for one of them"
        yield ""
    for finding in found.findings:
        yield from one(finding)
        yield ""
    if found.untold:
        yield f"{plural(found.untold, 'older release does', 'older releases do')} not tell whose judgements were used"


def one(finding: Finding) -> Iterator[str]:
    """One annotation of one annotator."""
    yield f"annotation {plain(str(finding.annotation))} by {plain(finding.annotator)}"
    yield from shaped(finding.releases)
    if finding.uses is None and finding.used_in:
        yield f"  as what: not known, for the dataset of {finding.used_in} is not in DVC's cache (at its commit: dvc fetch)"
    for use in finding.uses or ():
        others = len(use.annotators) - 1
        too = f", as {plural(others, 'other')} said too" if others else ""
        yield f"  {use.kind} {plain(use.id)} of {finding.used_in}{too}"
        yield f"    {'preferred' if use.rejected is not None else 'answer':<10}{short(use.chosen)}"
        yield from [f"    {'to':<10}{short(use.rejected)}"] if use.rejected is not None else []
    for place in finding.places:
        about = ", ".join(f"{key} {short(str(value))}" for key, value in place.about.items())
        yield f"  in the data now: {plain(place.file)}{f' ({about})' if about else ''}"
    if finding.gone is not None:
        yield f"  {plain(finding.annotator)} has withdrawn ({finding.gone[:10]}): no night to come learns from it"
    elif not finding.places:
        yield "  not in data/ any more: deleted, replaced or left out since; no night to come learns from it"
    updated = max((place.about.get("updated", "") for place in finding.places), default="")
    if before := [of.release for of in finding.releases if of.published < updated]:
        said = f"{len(before)} of these releases may have learned what it said before"
        yield f"  its author changed it last on {updated[:10]}: {said}"


def people(who: Sequence[str], releases: Sequence[Shaped], untold: int) -> Iterator[str]:
    """A person's judgements forward."""
    yield " and ".join(map(plain, who))
    yield from shaped(releases, counted=True)
    if untold:
        yield f"  {plural(untold, 'older release does', 'older releases do')} not tell whose judgements were used"


def shaped(releases: Sequence[Shaped], counted: bool = False) -> Iterator[str]:
    """Releases, the last first: how many, first and last, and a line each."""
    if not releases:
        yield "  has shaped no release"
        return
    live = next((of.release for of in releases if of.live), None)
    said = f"the live one, {live}, is among them" if live else "the live one is not among them"
    until = f" to {releases[0].release}" if len(releases) > 1 else ""
    yield f"  shaped {plural(len(releases), 'release')}, {releases[-1].release}{until}; {said}"
    for of in releases[:RELEASES]:
        count = f"  {plural(len(of.annotations), 'annotation')}" if counted else ""
        note = "  LIVE" if of.live else f"  rolled back {of.withdrawn[:10]}" if of.withdrawn else ""
        documents = f"  new documents, model of {of.model_of}" if of.model_of else ""
        yield f"    {of.release}  {moment(of.published)}{count}{documents}{note}"
    if (more := len(releases) - RELEASES) > 0:
        yield f"    and {more:,} before (--json has all)"


def changes(of: Changes) -> str:
    """What a version brought: + new, ~ changed, - gone, the first names of each."""
    kinds = (("+", of.added), ("~", of.changed), ("-", of.removed))
    return "  ".join(f"{sign}{len(files)} {_some(files, NAMES)}" for sign, files in kinds if files) or "the same files"


def moment(told: str) -> str:
    """2026-11-24T03:00:00.000Z → 2026-11-24 03:00 UTC."""
    return f"{told[:10]} {told[11:16]} UTC"


def megabytes(count: int | None) -> str:
    """Bytes in the unit that shows something."""
    if count is None:
        return "–"
    return f"{count / 1e6:,.2f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def short(text: str) -> str:
    """One line of somebody's text."""
    line = " ".join(plain(text).split())
    return line if len(line) <= WIDE else f"{line[: WIDE - 1]}…"


def _some(items: Sequence[Any], most: int = IDS) -> str:
    more = f" … {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(plain(str(item)) for item in items[:most]) + more


def outputs(stage: Stage) -> list[File]:
    """What it wrote besides its figures, or these where they are all."""
    return [out for out in stage.outputs if not out.path.startswith("metrics/")] or list(stage.outputs)


def _file(item: File) -> str:
    return f"{item.path}  {item.md5[:10]}"

