"""Which commit a release was made from, and whether it has what the night read.

A night is one commit and its release another (docs/decisions/0004), so mostly the commit that a release names is that of
its night. Not always: a release may be promoted by hand after further commits, or before its night was committed. What
decides is dvc.lock, whose hash the release has too: it names code, data, parameters and champion files by hash, and so the
commit is the one where all of these are as it says.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import git, worktree
from tasks.errors import GateError, ServiceError
from tasks.files import write_atomic
from tasks.reproduce.workspace import Workspace, locked

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """A commit, and parameters that the night had and the commit has not ("section.key: there → then")."""

    commit: str
    restored: tuple[str, ...]

    @property
    def notes(self) -> list[str]:
        """What is worth saying about it."""
        if not self.restored:
            return []
        return ["params.yaml as it was that night, from dvc.lock; the commit has it otherwise:",
                *(f"  {line}" for line in self.restored)]  # fmt: skip


def commits(root: Path, record: Record) -> list[str]:
    """Commits that have the very dvc.lock of a release: the one it names, then those that brought this dvc.lock in.

    GateError where there is none.
    """
    wanted, named = record["dvc"]["lock_sha256"], record["git"]["commit"]
    found = [commit for commit in ([named] if named else []) + git.commits_of(root, "dvc.lock")
             if hashlib.sha256((git.read(root, commit, "dvc.lock") or "").encode()).hexdigest() == wanted]  # fmt: skip
    if not found:
        raise GateError(
            record["release"],
            f"no commit here has its dvc.lock (sha256 {wanted[:12]}…); the release names commit {(named or 'none')[:10]}",
            "fetch that commit (git fetch --unshallow); a night that was never committed cannot be made again",
        )
    return list(dict.fromkeys(found))


def find(there: Workspace, record: Record, candidates: list[str]) -> Origin:
    """Let the work tree have the first of `candidates` that has all that the night read; its parameters are restored.

    GateError, naming the files, where none has: then the night ran with changes that were never committed.
    """
    missing: dict[str, list[str]] = {}
    for commit in candidates:
        worktree.switch(there.root, commit)
        restored = restore_params(there.root)
        missing[commit] = changed_inputs(there)
        if not missing[commit]:
            return Origin(commit, tuple(restored))
    best = min(candidates, key=lambda commit: len(missing[commit]))
    raise GateError(
        record["release"],
        f"its night read what no commit has: {', '.join(missing[best])} (commit {best[:10]})",
        "what it made can be checked with --from-cache; commit changes before a night to make it again",
    )


def restore_params(root: Path) -> list[str]:
    """Give params.yaml the values of dvc.lock where they differ: a night commits what it made, not what a person has
    edited. Returns the differences."""
    import yaml

    path = root / "params.yaml"
    if not path.is_file():
        return []
    params: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    differences: dict[str, None] = {}
    for stage in locked((root / "dvc.lock").read_text(encoding="utf-8")).values():
        for name, then in (stage.get("params", {}).get(path.name) or {}).items():
            *sections, last = name.split(".")
            place = params
            for section in sections:
                place = place.setdefault(section, {})
            if place.get(last) != then:
                differences |= dict.fromkeys(_differences(name, place.get(last), then))
                place[last] = then
    if differences:
        write_atomic(path, yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
    return list(differences)


def _differences(name: str, there: Any, then: Any) -> list[str]:
    if isinstance(there, dict) and isinstance(then, dict):
        keys = [key for key in {**there, **then} if there.get(key) != then.get(key)]
        return [line for key in keys for line in _differences(f"{name}.{key}", there.get(key), then.get(key))]
    return [f"{name}: {json.dumps(there, ensure_ascii=False)} → {json.dumps(then, ensure_ascii=False)}"]


def changed_inputs(there: Workspace) -> list[str]:
    """Files of the repository, commands and parameters that are not what its dvc.lock says; data and products don't count."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with contextlib.chdir(there.root), Repo() as repo:  # DVC's names are relative to the folder
            status = repo.status()
    except DvcException as error:
        raise ServiceError("dvc status", str(error), "mend it, then run again") from error
    made = [out["path"] for stage in there.stages().values() for out in stage.get("outs", [])]
    made += [path.stem for path in there.root.glob("*.dvc")]  # raw data
    found: dict[str, None] = {}
    for stage, entries in status.items():
        if stage.endswith(".dvc"):
            continue
        for entry in entries:
            if isinstance(entry, str):
                found[f"{stage}: {entry}"] = None
            else:
                inputs = entry.get("changed deps", {})
                found |= dict.fromkeys(_flat(inputs, made))
    return list(found)


def _flat(changes: Mapping[str, Any], made: list[str]) -> list[str]:
    """Paths (and params.yaml's keys) among changed dependencies, without what lies in `made`."""
    names = [[f"{path}: {key}" for key in change] if isinstance(change, dict) else [path] for path, change in changes.items()
             if not any(path == out or path.startswith(f"{out}/") for out in made)]  # fmt: skip
    return [name for group in names for name in group]
