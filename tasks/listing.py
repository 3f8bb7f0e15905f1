"""Releases in words: what is live beside what was, one release in full, and what differs between two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks import approval, promote, records
from tasks.figures import difference, text
from tasks.files import write_atomic

CARDS = Path("reports/cards")  # pages made when somebody asks for them; nothing reads them
GROUPS = {"parts": "parts, which serve together", "made_from": "made from", "evaluation": "judged by", "metrics": "figures in"}

Record = dict[str, Any]


def status(root: Path) -> list[str]:
    """The last release beside the one before it, what is live, and tonight's candidate where it is another one."""
    made, live = records.records(root), records.live(root)
    lines = []
    if live is None:
        lines.append("no release yet: `make nightly` makes one when its figures pass the gate")
    else:
        at = records.record(root, live)
        lines.append(f"live: {live}, promoted {_when(at['published'])}, commit {(at['git']['commit'] or 'none')[:10]}")
    if made:
        lines += ["", *side_by_side(made[0], made[1] if len(made) > 1 else None)]
    found = records.candidate(root)
    if found and not records.released_as(root, found[1]):
        manifest = found[1]
        lines += [
            "",
            "candidate: " + (approval.standing(root) if manifest["gate"]["promote"] else "held back by the gate"),
        ]
        lines += [f"  {why}" for why in records.refusals(manifest)]
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
    live = records.live(root)
    lines = []
    for item in records.records(root):
        data = item["manifest"]["data"]["md5"]
        note = f"rolled back {_when(item['withdrawn'])}" if item["withdrawn"] else ""
        note = "live" if item["release"] == live else note
        if of := item["manifest"].get("model_of"):
            note = f"documents, model of {of}  {note}".rstrip()
        lines.append(f"{item['release']}  {_when(item['published'])}  data {data[:10]}  {note}".rstrip())
    return lines or ["no release yet"]


def show(root: Path, name: str, other: str | None) -> list[str]:
    """One release in full, or what differs between two: parts, data, figures and the stacks they were made on."""
    release = records.record(root, name)
    return in_full(release) if other is None else beside(release, records.record(root, other))


def in_full(release: Record) -> list[str]:
    """Every fact of a release but the stages' own figures; what an old record does not tell is left out."""
    manifest, outs, lock = release["manifest"], release["dvc"]["outs"], release["manifest"]["stack"].get("lock")
    uncommitted = release["git"]["uncommitted"]
    lines = [
        f"release   {release['release']}" + (f" (rolled back {_when(release['withdrawn'])})" if release["withdrawn"] else ""),
        f"promoted  {_when(release['published'])}, after {release['previous'] or 'nothing'}",
        f"commit    {release['git']['commit'] or 'none'}"
        + (f", {len(uncommitted)} {'file' if len(uncommitted) == 1 else 'files'} uncommitted" if uncommitted else ""),
        *([f"model     of {manifest['model_of']}; only documents are new"] if "model_of" in manifest else []),
        f"data      {manifest['data']['md5']}",
        f"manifest  {release['manifest_sha256']}",
        f"dvc.lock  {release['dvc']['lock_sha256']}",
        f"params    {release['params_sha256']}",
        *([f"packages  {lock['sha256']}"] if lock else []),
        *judged(manifest),
        *verdict(manifest),
    ]
    for group, title in GROUPS.items():
        if named := manifest.get(group):
            lines += ["", title, *(_part(part, facts, outs) for part, facts in named.items())]
    lines += ["", "figures", *(f"  {label:<34}{text(label, value)}" for label, value in manifest["figures"].items())]
    lines += ["", "stack", *(f"  {key}: {value}" for key, value in flat(manifest["stack"]).items())]
    return [*lines, "", f"as a page: nightshift show {release['release']} --card"]


def _part(name: str, facts: Record, outs: Record) -> str:
    dvc = outs.get(facts["path"])
    return f"  {name:<14}{facts['sha256']}  {facts['bytes']:>13,} bytes  {facts['path']}" + (f"  dvc {dvc}" if dvc else "")


def verdict(manifest: Record) -> list[str]:
    """What the gate said: that it let it out by how many rules, and each rule that did not hold."""
    reasons = manifest["gate"]["reasons"]
    said = f"{sum(reason['passed'] for reason in reasons)} of {len(reasons)} rules held"
    return [f"gate      {said}", *(f"          {why}" for why in records.refusals(manifest))]


def beside(release: Record, compared: Record) -> list[str]:
    """What differs between two releases."""
    manifest, theirs = release["manifest"], compared["manifest"]
    lines = [f"{release['release']} beside {compared['release']}", "", *side_by_side(release, compared), ""]
    ours, others = ({**of["parts"], **of.get("made_from", {})} for of in (manifest, theirs))
    for part in [*ours, *(part for part in others if part not in ours)]:
        known = part in ours and part in others
        same = known and ours[part]["sha256"] == others[part]["sha256"]
        said = "the same bytes" if same else "other bytes" if known else "one of them does not tell"
        lines.append(f"{'part' if part in manifest['parts'] else 'made from'} {part}: {said}")
    lines.append(f"data: {'the same' if manifest['data']['md5'] == theirs['data']['md5'] else 'other data'}")
    lines += _settings(manifest.get("params"), theirs.get("params"))
    return lines + compare_stacks(manifest["stack"], theirs["stack"])


def _settings(ours: Record | None, theirs: Record | None) -> list[str]:
    """The parameters that differ, where both releases tell theirs."""
    if ours is None or theirs is None:
        return []
    a, b = flat(ours), flat(theirs)
    changed = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
    return [
        f"params: {'the same' if not changed else 'they differ'}",
        *(f"  {key}: {b.get(key, 'absent')} → {a.get(key, 'absent')}" for key in changed),
    ]


def card(root: Path, name: str) -> list[str]:
    """Write the model card of a release as a page, with its date and commit on it; says where it is."""
    from tasks.reporting.card import Facts, html

    release = records.record(root, name)
    path = CARDS / f"{release['release']}.html"
    write_atomic(root / path, html(Facts(release["manifest"], release["metrics"], release)))
    return [path.as_posix()]


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


def went_back(root: Path, done: promote.Promoted) -> list[str]:
    """What a rollback has done, and what has to be fetched before the release can be served from here."""
    lines = [f"{done.release} is live" + (" again" if done.flipped else " already"), *done.notes]
    if missing := records.missing_parts(root, records.record(root, done.release)):
        lines.append(f"not in this machine's cache: {', '.join(missing)}; at its commit, dvc fetch brings them")
    return lines
