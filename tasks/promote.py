"""Promotion: one pointer says what is live, and it is flipped only after every part has been verified.

    releases/answers/<id>.json   the release's own answers, which make it tomorrow's champion
    releases/search/<id>.json    what its search found, for the same purpose
    releases/judgements/<sha>.json   whose judgements it was trained on, by the first 16 hex digits of its hash: nights that
                                 were trained on the same ones share it
    releases/<id>.json           the manifest, git commit, date, the night's metrics: never changed but for `withdrawn`
    releases/LIVE                the id of the live release
    champion.json                follows LIVE (`settle`), a copy of its file in releases/answers/
    champion-search.json         follows LIVE, a copy of its file in releases/search/
    the store's own pointer      follows LIVE (tasks/live_index.py)

An id is <date>-<first 8 hex digits of the manifest's hash>. Each file appears whole or not at all, and they are written
in the order above (a rollback marks `withdrawn` before it moves LIVE), so after a kill at any line the old or the new
release is live and doing the same again completes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tasks import champion, git, live_index
from tasks.errors import DataError, GateError
from tasks.files import read_json, sha256_file, sha256_tree, write_atomic, write_json

RELEASES = Path("releases")


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
    notes: tuple[str, ...] = ()  # what could not follow, and what to do


def output_of(root: Path, stage: str) -> Path:
    """First output folder of a stage, from dvc.yaml: the only place where paths are written."""
    import yaml

    try:
        out = yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage]["outs"][0]
        return root / (next(iter(out)) if isinstance(out, dict) else out)  # a path, or path: {settings}
    except (OSError, KeyError, IndexError, yaml.YAMLError):
        raise DataError(
            str(root / "dvc.yaml"), f"has no stage {stage!r} with an output folder", "run from the repository's root"
        ) from None


def live(root: Path) -> str | None:
    """Id of the live release; None before the first one."""
    path = root / RELEASES / "LIVE"
    return (path.read_text(encoding="utf-8").strip() or None) if path.is_file() else None


def record(root: Path, release: str) -> dict[str, Any]:
    """releases/<id>.json; an unambiguous beginning or end of an id will do. GateError when there is no such release."""
    found = [
        path for path in sorted((root / RELEASES).glob("*.json")) if path.stem.startswith(release) or path.stem.endswith(release)
    ]
    if len(found) != 1:
        raise GateError(release, "names several releases" if found else "is no release", "see them all: nightshift releases")
    return read_json(found[0])


def records(root: Path) -> list[dict[str, Any]]:
    """All releases, the last promoted first."""
    return sorted(
        (read_json(path) for path in (root / RELEASES).glob("*.json")), key=lambda item: item["published"], reverse=True
    )


def candidate(root: Path) -> tuple[str, dict[str, Any]] | None:
    """Hash and content of the manifest that the release stage wrote; None when there is none."""
    path = output_of(root, "release") / "manifest.json"
    return (sha256_file(path), read_json(path)) if path.is_file() else None


def released_as(root: Path, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last release that serves the same: equal parts under the same name and license. None when it is a new one.

    The manifest's hash is too fine for this: the same model judged beside another champion has another one.
    """

    def served(of: Mapping[str, Any]) -> tuple:
        return of.get("name"), of.get("license"), {name: part["sha256"] for name, part in of["parts"].items()}

    return next((item for item in records(root) if served(item["manifest"]) == served(manifest)), None)


def verify(root: Path, manifest: Mapping[str, Any]) -> None:
    """GateError that names each part whose bytes are not those of the manifest."""
    wrong = []
    for name, part in manifest["parts"].items():
        path = root / part["path"]
        if not path.exists():
            wrong.append(f"{name} ({part['path']}) is missing")
        elif sha256_tree(path) != part["sha256"]:
            wrong.append(f"{name} ({part['path']}) has other bytes")
    if wrong:
        raise GateError("release", "; ".join(wrong), "restore the parts: dvc checkout, or dvc repro")


def refusals(manifest: Mapping[str, Any]) -> list[str]:
    """Why the gate holds a candidate back, in its words."""
    return [reason["why"] for reason in manifest["gate"]["reasons"] if not reason["passed"]]


def promote(root: Path, now: datetime, again: bool = False) -> Promoted:
    """Make tonight's candidate live: verify, record, flip. Doing it twice does nothing the second time.

    GateError when there is no candidate, when the gate holds it back, when a part is not what the manifest says, or
    when this very release was rolled back before (`again` promotes it nevertheless).
    """
    found = candidate(root)
    if found is None:
        raise GateError("release", "there is no candidate", "run a night: make nightly")
    manifest_hash, manifest = found
    before, known = live(root), released_as(root, manifest)
    if known and known["release"] == before:
        settle(root)
        return Promoted(before, False, before)
    if not manifest["gate"]["promote"]:
        raise GateError("release", f"the gate holds it back: {'; '.join(refusals(manifest))}", "metrics/gate.json has the rules")
    if known and known["withdrawn"] and not again:
        raise GateError(
            known["release"], f"was rolled back on {known['withdrawn']}", "nightshift promote --again, if you mean it"
        )
    verify(root, manifest)
    live_index.ready(root, manifest)
    same = known and known["manifest_sha256"] == manifest_hash
    release = known["release"] if same else f"{now.astimezone(UTC):%Y-%m-%d}-{manifest_hash[:8]}"
    travelling = [champion.champion_from(release, output_of(root, of.kind.stage), of.kind) for of in FOLLOWERS]
    metrics = {path.stem: read_json(path) for path in sorted((root / "metrics").glob("*.json"))}
    return publish(root, now, release, manifest_hash, manifest, travelling, lock(root), metrics)


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
    """Write what a verified release leaves, in the order of this module's docstring, and flip.

    `travelling`: one file a follower; `dvc`: hash of dvc.lock and of each part's output. GateError where the judgements that
    the manifest names are nowhere.
    """
    before = live(root)
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
            "git": {"commit": git.head(root), "uncommitted": git.dirty(root)[: git.MAX_DIRTY]},
            "dvc": dvc,
            "params_sha256": sha256_file(root / "params.yaml"),
            "metrics": metrics,
        },
    )
    return Promoted(release, True, before, _flip(root, release))


def judgements_of(root: Path, manifest: Mapping[str, Any]) -> dict[str, list[str | int]] | None:
    """Annotator → annotations that a release was trained on; None where it does not tell (it is older than the question)."""
    path = _judgements_file(root, manifest)
    return read_json(path) if path else None


def _judgements_file(root: Path, manifest: Mapping[str, Any]) -> Path | None:
    named = manifest.get("judgements")
    return root / RELEASES / "judgements" / f"{named['sha256'][:16]}.json" if named else None


def _keep_judgements(root: Path, manifest: Mapping[str, Any]) -> None:
    """Copy what stage release wrote, unless an earlier release has brought it."""
    path = _judgements_file(root, manifest)
    wanted = path and manifest["judgements"]["sha256"]
    if path is None or (path.is_file() and sha256_file(path) == wanted):
        return
    source = output_of(root, "release") / "judgements.json"
    if not source.is_file() or sha256_file(source) != wanted:
        what = "is missing, and the candidate has other judgements"
        raise GateError(str(path), what, "git checkout releases, or dvc repro release")
    write_atomic(path, source.read_bytes())


def rollback(root: Path, now: datetime, to: str | None = None) -> Promoted:
    """Make the release before the live one, or the named one, live again.

    The one left is marked, so that no night brings it back by itself. GateError when there is none to go back to.
    """
    before = live(root)
    if to is None and before is not None and settle(root):
        return Promoted(before, True, None)  # an earlier call was killed after its flip; one more would go back too far
    if before is None:
        raise GateError("rollback", "nothing is live", "run a night: make nightly")
    current = record(root, before)
    target = to or current["previous"]
    if target is None:
        raise GateError(before, "is the first release: there is none to go back to", "name one: nightshift rollback RELEASE")
    wanted = record(root, target)
    if wanted["release"] == before:
        settle(root)
        return Promoted(before, False, before)
    write_json(root / RELEASES / f"{before}.json", {**current, "withdrawn": _moment(now)})
    if wanted["withdrawn"]:
        write_json(root / RELEASES / f"{wanted['release']}.json", {**wanted, "withdrawn": None})
    return Promoted(wanted["release"], True, before, _flip(root, wanted["release"]))


def missing_parts(root: Path, release: Mapping[str, Any]) -> list[str]:
    """Parts of a release whose bytes are not in DVC's cache: `dvc fetch` has to bring them before they can serve."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        hashes = {part["path"]: release["dvc"]["outs"].get(part["path"]) for part in release["manifest"]["parts"].values()}
        return [path for path, md5 in hashes.items() if md5 and not repo.cache.local.exists(md5)]


def settle(root: Path) -> bool:
    """Let champion.json and champion-search.json follow LIVE; returns whether one had to be written (a promotion was
    killed before it had written both)."""
    release = live(root)
    return any([_settle(root, release, of) for of in FOLLOWERS])  # a list: one that was written must not spare the other


def _settle(root: Path, release: str | None, of: Follower) -> bool:
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
    settle(root)
    return live_index.follow(root, record(root, release)["manifest"])


def lock(root: Path) -> dict[str, Any]:
    """Hash of dvc.lock (with it all parameters and inputs of the night) and DVC's hash of every output."""
    import yaml

    path = root / "dvc.lock"
    stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
    return {
        "lock_sha256": sha256_file(path),
        "outs": {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])},
    }
