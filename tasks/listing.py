"""Releases in words: what is live beside what was, one release in full, and what differs between two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import approval, promote
from tasks.figures import difference, text

Record = dict[str, Any]


def status(root: Path) -> list[str]:
    """The last release beside the one before it, what is live, and tonight's candidate where it is another one."""
    made, live = promote.records(root), promote.live(root)
    lines = []
    if live is None:
        lines.append("no release yet: `make nightly` makes one when its figures pass the gate")
    else:
        at = promote.record(root, live)
        lines.append(f"live: {live}, promoted {_when(at['published'])}, commit {(at['git']['commit'] or 'none')[:10]}")
    if made:
        lines += ["", *side_by_side(made[0], made[1] if len(made) > 1 else None)]
    found = promote.candidate(root)
    if found and not promote.released_as(root, found[1]):
        manifest = found[1]
        lines += [
            "",
            "candidate: " + (approval.standing(root) if manifest["gate"]["promote"] else "held back by the gate"),
        ]
        lines += [f"  {why}" for why in promote.refusals(manifest)]
    return lines


def side_by_side(new: Record, old: Record | None) -> list[str]:
    """Key figures of two releases with their differences, in columns."""
    values, before = new["manifest"]["figures"], (old or {"manifest": {"figures": {}}})["manifest"]["figures"]
    width = max(len(label) for label in (*values, *before, "release")) + 2
    rows = [("release", new["release"], old["release"] if old else "", "difference" if old else "")]
    rows += [
        (
            label,
            text(label, values.get(label)),
            text(label, before.get(label)) if old else "",
            difference(label, values.get(label), before.get(label)),
        )
        for label in {**values, **before}
    ]
    return [f"{label:<{width}}{a:>20}{b:>22}{c:>13}".rstrip() for label, a, b, c in rows]


def releases(root: Path) -> list[str]:
    """One line a release, the last first."""
    live = promote.live(root)
    lines = []
    for item in promote.records(root):
        data = item["manifest"]["data"]["md5"]
        note = f"rolled back {_when(item['withdrawn'])}" if item["withdrawn"] else ""
        note = "live" if item["release"] == live else note
        if of := item["manifest"].get("model_of"):
            note = f"documents, model of {of}  {note}".rstrip()
        lines.append(f"{item['release']}  {_when(item['published'])}  data {data[:10]}  {note}".rstrip())
    return lines or ["no release yet"]


def show(root: Path, name: str, other: str | None) -> list[str]:
    """One release in full, or what differs between two: parts, data, figures and the stacks they were made on."""
    release = promote.record(root, name)
    manifest = release["manifest"]
    if other is None:
        lines = [
            f"release   {release['release']}" + (f" (rolled back {_when(release['withdrawn'])})" if release["withdrawn"] else ""),
            f"promoted  {_when(release['published'])}, after {release['previous'] or 'nothing'}",
            f"commit    {release['git']['commit'] or 'none'}"
            + (f", {len(release['git']['uncommitted'])} files uncommitted" if release["git"]["uncommitted"] else ""),
            f"data      {manifest['data']['md5']}",
            f"manifest  {release['manifest_sha256']}",
            f"dvc.lock  {release['dvc']['lock_sha256']}",
            *judged(manifest),
            "",
            "parts",
        ]
        lines += [
            f"  {part:<14}{facts['sha256']}  {facts['bytes'] / 1e6:9.2f} MB  {facts['path']}"
            for part, facts in manifest["parts"].items()
        ]
        lines += [
            "",
            "figures",
            *(f"  {label:<34}{text(label, value)}" for label, value in manifest["figures"].items()),
            "",
            "stack",
        ]
        return lines + [f"  {key}: {value}" for key, value in flat(manifest["stack"]).items()]
    compared = promote.record(root, other)
    theirs = compared["manifest"]
    lines = [f"{release['release']} beside {compared['release']}", "", *side_by_side(release, compared), ""]
    for part in sorted({*manifest["parts"], *theirs["parts"]}):
        same = manifest["parts"].get(part, {}).get("sha256") == theirs["parts"].get(part, {}).get("sha256")
        lines.append(f"part {part}: {'the same bytes' if same else 'other bytes'}")
    lines.append(f"data: {'the same' if manifest['data']['md5'] == theirs['data']['md5'] else 'other data'}")
    return lines + compare_stacks(manifest["stack"], theirs["stack"])


def judged(manifest: Record) -> list[str]:
    """How many judgements a release was trained on; nothing where it does not tell."""
    told = manifest.get("judgements")
    return [f"judged    {told['annotations']:,} annotations by {told['annotators']} annotators"] if told else []


def compare_stacks(mine: Record, theirs: Record) -> list[str]:
    """Lines that say in what the stacks differ, and what that means for a comparison of bytes and figures."""
    a, b = flat(mine), flat(theirs)
    changed = [
        f"  {key}: {b.get(key, 'absent')} → {a.get(key, 'absent')}" for key in sorted({*a, *b}) if a.get(key) != b.get(key)
    ]
    if not changed:
        return ["stack: the same; other bytes come from other data, parameters or code"]
    return [
        "stack: made on different stacks: bytes may differ and figures move without anything else having changed",
        *changed,
    ]


def flat(values: Record, prefix: str = "") -> Record:
    """Nested keys joined with dots."""
    out: Record = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _when(moment: str) -> str:
    return f"{moment[:10]} {moment[11:16]} UTC"
