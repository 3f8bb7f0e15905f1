"""Hashes against those of the release: every output and metrics file of each stage, the parts, the manifest; and figures.

What is hashed are the bytes that lie there, not DVC's notes of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import promote
from tasks.bootstrap import dvc_hash
from tasks.errors import DataError
from tasks.files import read_json, sha256_file, sha256_tree
from tasks.reports import Report
from tasks.reproduce.workspace import Workspace

Record = Mapping[str, Any]
MOST = 20  # differences that are named of one file, or files of one folder


class Artifact(Report):
    """One thing that a release names by hash."""

    stage: str = Field(description="stage that makes it")
    path: str = Field(description="where it lies, from the project's root")
    kind: str = Field(description="output, metrics, part or manifest")
    released: str = Field(description="its hash there: md5 of DVC (a folder's ends in .dir); SHA-256 of parts and manifest")
    found: str | None = Field(description="hash of what came out; null where nothing did")
    promised: bool = Field(description="whether it has to be the same")
    differing: list[str] = Field(description="files of a folder, or figures (released → now), that differ; the first ones")

    @property
    def same(self) -> bool:
        """Whether it is identical."""
        return self.found == self.released

    @property
    def said(self) -> str:
        """In one word."""
        return "identical" if self.same else "missing" if self.found is None else "differs"


def outputs(there: Workspace, stage: str, promised: bool, record: Record) -> list[Artifact]:
    """What a stage of the release's dvc.lock has made, its metrics too."""
    found = []
    for out in there.lock[stage].get("outs", []):
        path, released = there.root / out["path"], out["md5"]
        actual = hashed(path)
        metrics = record["metrics"].get(path.stem) if path.parent.name == "metrics" else None
        if actual in (released, None):
            differing: list[str] = []
        elif metrics is not None:
            differing = figures(metrics, path)
        else:
            differing = files(there, released, path)
        kind = "output" if metrics is None else "metrics"
        found.append(Artifact(stage=stage, path=out["path"], kind=kind, released=released, found=actual, promised=promised,
                              differing=differing[:MOST]))  # fmt: skip
    return found


def hashed(path: Path) -> str | None:
    """What DVC calls a file or folder; None where there is none."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()
    return dvc_hash(path) if path.is_dir() else None


def files(there: Workspace, released: str, folder: Path) -> list[str]:
    """Files of a folder that differ from the released one, where a cache at hand has its list."""
    for cache in (there.root / ".dvc/cache", there.cache):
        listed = cache / "files/md5" / released[:2] / released[2:]
        if listed.is_file() and folder.is_dir():
            then = {item["relpath"]: item["md5"] for item in json.loads(listed.read_text(encoding="utf-8"))}
            now = {path.relative_to(folder).as_posix(): hashed(path) for path in sorted(folder.rglob("*")) if path.is_file()}
            return [name for name in sorted({**then, **now}) if then.get(name) != now.get(name)]
    return []


def figures(released: Any, path: Path) -> list[str]:
    """Values of a metrics file that differ, as "key: released → now"."""
    try:
        now = read_json(path)
    except DataError as error:
        return [str(error)]
    a, b = flat_all(released), flat_all(now)
    return [f"{key}: {a.get(key, 'absent')} → {b.get(key, 'absent')}" for key in {**a, **b} if a.get(key) != b.get(key)]


def flat_all(value: Any) -> dict[str, Any]:
    """Like listing.flat, and lists by number."""
    return dict(_flat("", value))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield name, value
        return
    for key, item in inner:
        yield from _flat(f"{name}.{key}" if name else str(key), item)


def parts(there: Workspace, record: Record, promised: Collection[str], made: Collection[str]) -> list[Artifact]:
    """The parts of the manifest that the stages `made` make, and the manifest itself, by SHA-256."""
    found = []
    for name, part in record["manifest"]["parts"].items():
        stage = maker(there.lock, part["path"])
        if stage in made:
            path = there.root / part["path"]
            actual = sha256_tree(path) if path.exists() else None
            found.append(_sha(stage, part["path"], f"part {name}", part["sha256"], actual, stage in promised))
    manifest = promote.output_of(there.root, "release") / "manifest.json"
    if "release" in made:
        actual = sha256_file(manifest) if manifest.is_file() else None
        name = manifest.relative_to(there.root).as_posix()
        found.append(_sha("release", name, "manifest", record["manifest_sha256"], actual, "release" in promised))
    return found


def _sha(stage: str, path: str, kind: str, released: str, found: str | None, promised: bool) -> Artifact:
    return Artifact(stage=stage, path=path, kind=kind, released=released, found=found, promised=promised, differing=[])


def maker(stages: Mapping[str, Any], path: str) -> str | None:
    """The stage that makes a path, or the folder it lies in."""
    return next((name for name, stage in stages.items() for out in stage.get("outs", [])
                 if path == out["path"] or path.startswith(f"{out['path']}/")), None)  # fmt: skip
