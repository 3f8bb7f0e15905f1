"""The trace of a release as a page: the night as a picture, and behind folds all that can be told.

Self-contained as the nightly report is, and made of the same parts; every text is escaped by the template.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tasks.bootstrap import DATA
from tasks.lineage import words
from tasks.lineage.back import Data, Trace
from tasks.lineage.night import Night, Stage, within
from tasks.reporting.figures import Bar, bars, fit
from tasks.reporting.graph import Node, graph
from tasks.reporting.page import render
from tasks.reporting.parts import Cell, Headline, Paragraph, Picture, Pictures, Section, Table
from tasks.reporting.words import plural
from tasks.terminal import plain

DRAWN = 14  # annotators in a picture; the table has them all
ROOM = 260  # for an annotator's name
SHOWN = 8  # versions of the data before the fold
BLUE = "Blue: what came out of it serves. An input that a longer way implies has no line of its own; the tables name all."


def page(found: Trace) -> str:
    """The page."""
    return render(
        title=f"{found.release} · Nightshift trace",
        eyebrow="Nightshift · where a release comes from",
        mood="bad" if found.unclear else "",
        heading=found.release,
        why=[lead(found), *found.unclear],
        headlines=list(headlines(found)),
        sections=[
            Section("way", "From the data to the release", [*pictures(found)]),
            Section("parts", "Parts", [parts(found)]),
            Section("data", "Data", [block for data in found.data for block in versions(found, data)]),
            Section("judgements", "Judgements", [*judgements(found)]),
            Section("stages", "Stages", [*stages(found)]),
            Section("record", "Record", [record(found)]),
        ],
    )


def lead(found: Trace) -> str:
    """What it is, in a few sentences."""
    at, told = found.record, found.judgements
    state = "Live" if found.live else "Rolled back" if at["withdrawn"] else "Not live"
    said = f"{state}; promoted {words.moment(at['published'])}"
    said += f" after {at['previous']}." if at["previous"] else ", the first release."
    if of := at["manifest"].get("model_of"):
        said += f" Only its documents are new: the model is that of {of}."
    if told is None:
        return f"{said} It does not tell whose judgements it was trained on."
    return f"{said} {plural(sum(map(len, told.values())), 'annotation')} by {plural(len(told), 'annotator')} shaped it."


def headlines(found: Trace) -> Iterator[Headline]:
    """The few figures at the top."""
    data = found.data[0]
    files = "–" if data.files is None else f"{data.files:,}"
    yield Headline("Files of data", files, f"version {data.md5[:10]}")
    first = f"first {data.versions[-1].when[:10]}" if data.versions else "no commit names one"
    yield Headline("Versions until then", f"{len(data.versions):,}", first)
    if found.judgements is not None:
        count = sum(map(len, found.judgements.values()))
        yield Headline("Annotations", f"{count:,}", f"by {plural(len(found.judgements), 'annotator')}")
    stages = sum(len(night.stages) for night in found.nights)
    yield Headline("Stages", f"{stages:,}", plural(len(found.nights), "night"))
    served = sum(part.bytes for part in found.parts if not _inside(found, part.path))
    yield Headline("Served", words.megabytes(served), plural(len(found.parts), "part"))


def pictures(found: Trace) -> Iterator[Any]:
    """The stages, and who judged."""
    items = [
        Picture("Stages" if len(found.nights) == 1 else f"Stages, night of {night.release}", drawn(found, night, data), BLUE)
        for night, data in zip(found.nights, found.data, strict=True)
        if night.stages
    ]
    if told := found.judgements:
        most = sorted(told, key=lambda who: (-len(told[who]), who))
        rows = [
            Bar(fit(plain(who), ROOM), [(len(told[who]), "rest" if who in found.withdrawn else "")], f"{len(told[who]):,}")
            for who in most[:DRAWN]
        ]
        rest = f" {len(most) - DRAWN:,} with fewer are in the table." if len(most) > DRAWN else ""
        gone = " Grey: has withdrawn since." if found.withdrawn else ""
        alt = f"Annotations by annotator: {len(most)} annotators"
        items.append(Picture("Annotations by annotator", bars(rows, alt), f"{rest}{gone}".strip()))
    yield Pictures(items) if items else Paragraph("There is nothing to draw: what made it is not at hand.")


def drawn(found: Trace, night: Night, data: Data) -> Any:
    """The stages of a night as a picture."""
    serving = {part.stage for part in found.parts if part.release == night.release}
    raw = Node("\0data", "data", data.md5[:8], "raw")
    nodes = [
        Node(name, name, _remark(stage), "part" if name in serving else "") for name, stage in night.stages.items()
    ]
    reads = {name for name, stage in night.stages.items() if any(within(item.path, DATA) for item in stage.inputs)}
    sources = {name: [*night.sources(name), *([raw.key] if name in reads else [])] for name in night.stages}
    return graph([raw, *nodes], sources, f"{len(nodes)} stages from the data to {', '.join(sorted(filter(None, serving)))}")


def parts(found: Trace) -> Table:
    """What serves, and the stage that each came out of."""
    rows = [
        (
            part.name,
            Cell(part.path, "code"),
            Cell(words.megabytes(part.bytes), "number"),
            part.stage or "unclear",
            *([Cell(part.release, "short")] if len(found.nights) > 1 else []),
            Cell(part.sha256, "hash"),
        )
        for group in found.groups()
        for part in group
    ]
    head = ("part", "path", "size", "stage", *(["night of"] if len(found.nights) > 1 else []), "SHA-256")
    return Table("What serves together", head, rows, words=len(head))


def versions(found: Trace, data: Data) -> Iterator[Any]:
    """What came in, and when."""
    of = "" if data.release == found.release else f", from which the model of {data.release} learned"
    size = f": {plural(data.files, 'file')}, {words.megabytes(data.bytes)}" if data.files and data.bytes is not None else ""
    yield Paragraph(f"Version {data.md5}{of}{size}.")
    rows = [
        (
            Cell(version.when[:10], "short"),
            Cell(version.commit[:10], "short"),
            Cell(f"{version.files:,}", "number"),
            Cell(words.megabytes(version.bytes), "number"),
            words.changes(version.changes) if version.changes else "–",
            plain(version.subject),
        )
        for version in data.versions
    ]
    head = ("when", "commit", "files", "size", "new +, changed ~, gone -", "said of it")
    shown = SHOWN if data is found.data[0] else 0
    if shown or not rows:
        yield Table("This version, and those before it", head, rows[:shown], words=6, empty="no commit names it")
    if rows[shown:]:
        title = f"{plural(len(rows) - shown, 'version')} before" if shown else "That version, and those before it"
        yield Table(title, head, rows[shown:], words=6, folded=True)


def judgements(found: Trace) -> Iterator[Any]:
    """Every annotation, by annotator."""
    if found.judgements is None:
        yield Paragraph("The release does not tell whose judgements it was trained on.")
        return
    yield Paragraph(
        "Annotators by pseudonym, with the ids of their annotations as data/ writes them. "
        "nightshift trace --annotation ID follows one to all releases that it has shaped."
    )
    rows = [
        (
            plain(who),
            Cell(f"{len(ids):,}", "number"),
            Cell(f"withdrew {found.withdrawn[who][:10]}", "bad") if who in found.withdrawn else "",
            Cell(plain(", ".join(map(str, ids))) or "its rows tell no id", "hash"),
        )
        for who, ids in found.judgements.items()
    ]
    yield Table(
        "Annotations that training used", ("annotator", "number", "since", "ids"), rows, words=4, empty="nobody's", folded=True
    )


def stages(found: Trace) -> Iterator[Any]:
    """Each stage with its command, parameters, inputs and outputs."""
    for night in found.nights:
        if night.stages:
            yield Paragraph(f"As dvc.lock of {night.release} says ({night.where}), which has the hash that the release names.")
        else:
            yield Paragraph(night.where)
        for name, stage in night.stages.items():
            rows = list(_rows(night, stage))
            wrote = ", ".join(out.path for out in words.outputs(stage))
            yield Table(f"{name} → {wrote}", ("what", "which", "size", "value or MD5"), rows, words=4, folded=True)


def _rows(night: Night, stage: Stage) -> Iterator[tuple[Any, ...]]:
    yield "command", "", "", Cell(" ".join(stage.command.split()), "hash")
    for section, values in stage.params.items():
        told = values.items() if isinstance(values, dict) else [("", values)]
        for key, value in told:
            yield "parameter", Cell(f"{section}.{key}".rstrip("."), "code"), "", Cell(str(value), "hash")
    for item in stage.inputs:
        kind = night.kind(stage, item.path)
        yield f"read, {kind}", Cell(item.path, "code"), _size(item.bytes), Cell(item.md5, "hash")
    for item in stage.outputs:
        yield "wrote", Cell(item.path, "code"), _size(item.bytes), Cell(item.md5, "hash")


def record(found: Trace) -> Table:
    """What the promotion wrote down."""
    at = found.record
    commit = found.commit
    rows = [
        ("promoted", words.moment(at["published"])),
        ("before", at["previous"] or "nothing"),
        *([("rolled back", words.moment(at["withdrawn"]))] if at["withdrawn"] else []),
        ("commit", Cell(at["git"]["commit"] or "none", "hash")),
        *([("", f"{commit.when[:10]}: {plain(commit.subject)}")] if commit else []),
        *([("uncommitted then", Cell(", ".join(at["git"]["uncommitted"]), "hash"))] if at["git"]["uncommitted"] else []),
        ("dvc.lock", Cell(at["dvc"]["lock_sha256"], "hash")),
        ("params.yaml", Cell(at["params_sha256"], "hash")),
        ("manifest", Cell(at["manifest_sha256"], "hash")),
    ]
    return Table("Written when it went live", ("what", "value"), rows, words=2)


def _remark(stage: Stage) -> str:
    sizes = [out.bytes for out in words.outputs(stage) if out.bytes is not None]
    return words.megabytes(sum(sizes)) if sizes else ""


def _size(count: int | None) -> Cell:
    return Cell(words.megabytes(count), "number")


def _inside(found: Trace, path: str) -> bool:
    return any(path.startswith(f"{part.path}/") for part in found.parts)
