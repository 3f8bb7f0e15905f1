"""What releases/ holds, read: the live release, all others, tonight's candidate, and where the bytes they name are.

    releases/LIVE                the id of the live release
    releases/<id>.json           its record: manifest, git commit, date, the night's metrics, DVC's names of its bytes
    releases/answers/<id>.json   its own answers, releases/search/<id>.json what its search found
    releases/judgements/<sha>.json   whose judgements it was trained on, by the first 16 hex digits of the file's hash

Nothing here writes: that is tasks/promote.py. Each file was put there whole, and LIVE after what it names, so a reader
needs no lock. A manifest says what a release is in four groups of {path, sha256, bytes}:

    parts        what serves together; each is verified before a release goes live, and again when it is loaded
    made_from    data set, base model, adapters, reward model, merged weights: what the model was made from
    evaluation   answers and search results that it was judged by
    metrics      the stages' figures, by stage

The last three are its origin. Records from before they were written have `parts` alone, and are read all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import stored
from tasks.errors import DataError, GateError
from tasks.files import read_json, sha256_file, sha256_tree, size

RELEASES = Path("releases")
ORIGIN = ("made_from", "evaluation", "metrics")

Record = dict[str, Any]


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


def record(root: Path, release: str) -> Record:
    """releases/<id>.json; an unambiguous beginning or end of an id will do. GateError when there is no such release."""
    whole = root / RELEASES / f"{release}.json"
    if "/" not in release and whole.is_file():
        return read_json(whole)
    found = [
        path for path in sorted((root / RELEASES).glob("*.json")) if path.stem.startswith(release) or path.stem.endswith(release)
    ]
    if len(found) != 1:
        raise GateError(release, "names several releases" if found else "is no release", "see them all: nightshift releases")
    return read_json(found[0])


def records(root: Path) -> list[Record]:
    """All releases, the last promoted first."""
    return sorted(
        (read_json(path) for path in (root / RELEASES).glob("*.json")), key=lambda item: item["published"], reverse=True
    )


def candidate(root: Path) -> tuple[str, Record] | None:
    """Hash and content of the manifest that the release stage wrote; None when there is none."""
    path = output_of(root, "release") / "manifest.json"
    return (sha256_file(path), read_json(path)) if path.is_file() else None


def released_as(root: Path, manifest: Mapping[str, Any]) -> Record | None:
    """The last release that serves the same: equal parts under the same name and license. None when it is a new one.

    The manifest's hash is too fine for this: the same model judged beside another champion has another one.
    """

    def served(of: Mapping[str, Any]) -> tuple:
        return of.get("name"), of.get("license"), {name: part["sha256"] for name, part in of["parts"].items()}

    return next((item for item in records(root) if served(item["manifest"]) == served(manifest)), None)


def part(path: Path, root: Path | None = None) -> dict[str, Any]:
    """A file or folder as a manifest names it: by its path below `root`, hash and bytes."""
    name = path if root is None else path.relative_to(root)
    return {"path": name.as_posix(), "sha256": sha256_tree(path), "bytes": size(path)}


def refusals(manifest: Mapping[str, Any]) -> list[str]:
    """Why the gate holds a candidate back, in its words."""
    return [reason["why"] for reason in manifest["gate"]["reasons"] if not reason["passed"]]


def origin(manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What a release was made from and judged by: "group name" → {path, sha256, bytes}; empty for an old record."""
    return {f"{group} {name}": part for group in ORIGIN for name, part in manifest.get(group, {}).items()}


def judgements_file(root: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Where the judgements that a manifest names are kept; None where it names none."""
    named = manifest.get("judgements")
    return root / RELEASES / "judgements" / f"{named['sha256'][:16]}.json" if named else None


def judgements_of(root: Path, manifest: Mapping[str, Any]) -> dict[str, list[str | int]] | None:
    """Annotator → annotations that a release was trained on; None where it does not tell (it is older than the question)."""
    path = judgements_file(root, manifest)
    return read_json(path) if path else None


def lock(root: Path) -> dict[str, Any]:
    """Hash of dvc.lock (with it all parameters and inputs of the night) and DVC's hash of every output."""
    path, stages = root / "dvc.lock", _stages(root)
    return {"lock_sha256": sha256_file(path), "outs": _outs(stages)}


def outdated(root: Path, stage: str) -> list[str]:
    """What a stage has read that was made anew since, by dvc.lock: what it wrote then is about other bytes."""
    stages = _stages(root)
    outs, read = _outs(stages), stages.get(stage, {}).get("deps", [])
    return [dep["path"] for dep in read if outs.get(dep["path"], dep.get("md5")) != dep.get("md5")]


def not_in_cache(root: Path, md5: Mapping[str, str | None]) -> list[str]:
    """Of path → DVC's hash, the paths whose bytes are not in DVC's cache; one without a hash cannot be looked for."""
    with stored.opened(root) as store:
        return [path for path, value in md5.items() if value and not store.exists(value)]


def missing_parts(root: Path, release: Mapping[str, Any]) -> list[str]:
    """Parts of a release that are not in DVC's cache: `dvc fetch` has to bring them before they can serve."""
    outs = release["dvc"]["outs"]
    return not_in_cache(root, {part["path"]: outs.get(part["path"]) for part in release["manifest"]["parts"].values()})


def _stages(root: Path) -> dict[str, Any]:
    import yaml

    return yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))["stages"]


def sizes(root: Path) -> dict[str, int]:
    """Stage → bytes of all its outputs, as dvc.lock has them."""
    return {name: sum(out.get("size", 0) for out in stage.get("outs", [])) for name, stage in _stages(root).items()}


def _outs(stages: Mapping[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}
