"""Whether what a manifest names is what is there: parts, what they were made from, and the figures they were judged by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import GateError
from tasks.files import read_json, sha256_file, sha256_tree
from tasks.records import lock, not_in_cache, origin, outdated


def verify(root: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """GateError that names each part whose bytes are not those of the manifest, and each thing it was made from or
    judged by that the workspace has otherwise.

    What it was made from need not be in the workspace, if dvc.lock names it and DVC's cache has it; a line about what is
    in neither: that can only be fetched from where it was pushed to.
    """
    absent, wrong = {}, []
    named = {name: (part, True) for name, part in manifest["parts"].items()}
    named |= {name: (part, False) for name, part in origin(manifest).items()}
    for name, (part, needed) in named.items():
        path = root / part["path"]
        if path.exists():
            wrong += [f"{name} ({part['path']}) has other bytes"] if sha256_tree(path) != part["sha256"] else []
        elif needed:
            wrong.append(f"{name} ({part['path']}) is missing")
        else:
            absent[part["path"]] = name
    if wrong:
        raise GateError("release", "; ".join(wrong), "restore the parts: dvc checkout, or dvc repro")
    if moved := outdated(root, "release"):
        raise GateError("release", f"{', '.join(moved)} was made anew since", "dvc repro release")
    outs = lock(root)["outs"] if absent else {}
    if unknown := sorted(absent.keys() - outs.keys()):
        raise GateError("release", f"{', '.join(unknown)} is missing, and dvc.lock does not name it", "dvc repro release")
    cached = {path: outs[path] for path, name in absent.items() if not name.startswith("metrics ")}  # git has those
    gone = not_in_cache(root, cached) if cached else []
    return tuple(
        f"{path} is in neither the workspace nor DVC's cache: dvc fetch {path}, to trace the release here" for path in gone
    )


def measured(root: Path, manifest: Mapping[str, Any], stages: Iterable[str]) -> dict[str, Any]:
    """The figures of these stages, as they were when the manifest was made: GateError where a file has changed since."""
    figures, named = {}, manifest.get("metrics", {})
    for stage in stages:
        path = root / "metrics" / f"{stage}.json"
        if stage in named and sha256_file(path) != named[stage]["sha256"]:
            raise GateError(str(path), "has other bytes than the manifest says", "dvc repro release")
        figures[stage] = read_json(path)
    return figures
