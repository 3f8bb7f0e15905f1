"""dvc.lock of the night that made a release: what ran with which command and parameters, on which bytes, to which bytes.

A release names the lock by its hash, so whatever is found is the right one or none. It is in the commit that the release
names (docs/decisions/0004); where that is gone (a branch that was squashed, a promotion before the commit) the same bytes
may be in the work tree or in another commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import git
from tasks.bootstrap import DATA

LOCK = "dvc.lock"


@dataclass(frozen=True)
class File:
    """A file or a folder as a stage read or wrote it."""

    path: str
    md5: str
    bytes: int | None = None
    files: int | None = None  # in a folder


@dataclass(frozen=True)
class Stage:
    """One stage as it ran."""

    name: str
    command: str
    params: dict[str, Any]  # section of params.yaml → its values then
    inputs: tuple[File, ...]
    outputs: tuple[File, ...]

    def writes(self, path: str) -> File | None:
        """The output that is at `path`, in it or around it."""
        return next((out for out in self.outputs if within(path, out.path) or within(out.path, path)), None)


@dataclass(frozen=True)
class Night:
    """The stages of a night, in the order of dvc.lock; none where the lock is nowhere."""

    release: str  # made by it
    commit: str | None  # that has this dvc.lock; None: the work tree, or nothing
    where: str  # found, in words; why not, where it was not
    stages: dict[str, Stage] = field(default_factory=dict)

    def writer(self, path: str) -> str | None:
        """The stage that wrote `path`; None for what came from outside: data, code, the live release."""
        return next((name for name, stage in self.stages.items() if stage.writes(path)), None)

    def sources(self, name: str) -> list[str]:
        """Stages whose outputs a stage has read, in the order of its inputs."""
        found = (self.writer(item.path) for item in self.stages[name].inputs)
        return list(dict.fromkeys(stage for stage in found if stage and stage != name))

    def upstream(self, *names: str) -> dict[str, Stage]:
        """These stages and all that they come from, each after those it has read from."""
        done: dict[str, Stage] = {}

        def visit(name: str) -> None:
            if name not in done and name in self.stages:
                for source in self.sources(name):
                    visit(source)
                done[name] = self.stages[name]

        for name in names:
            visit(name)
        return done

    def kind(self, stage: Stage, path: str) -> str:
        """What an input is: the name of the stage that wrote it, or "data", "source" (on the command line) or "code"."""
        if wrote := self.writer(path):
            return wrote
        return "data" if within(path, DATA) else "source" if path in stage.command.split() else "code"

    def breaks(self, names: Iterable[str], data: str) -> Iterator[str]:
        """Where one of these stages has read other bytes than were written for it: the night was not carried through.
        `data` is the hash of the data that the release names."""
        wrote = {DATA: data, **{out.path: out.md5 for stage in self.stages.values() for out in stage.outputs}}
        for name in names:
            for read in self.stages[name].inputs:
                if wrote.get(read.path, read.md5) != read.md5:
                    yield f"stage {name} has read {read.path} as {read.md5}; what was there after it is {wrote[read.path]}"


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder, or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def night_of(root: Path, record: Mapping[str, Any]) -> Night:
    """The night that made a release, found by the hash of its dvc.lock."""
    release, wanted, named = record["release"], record["dvc"]["lock_sha256"], record["git"]["commit"]
    for commit, text in _locks(root, named):
        if hashlib.sha256(text).hexdigest() == wanted:
            where = f"commit {commit[:10]}" if commit else "the work tree, not committed"
            return Night(release, commit, where, _stages(text))
    return Night(release, None, _why_not(root, named, wanted))


def _locks(root: Path, named: str | None) -> Iterator[tuple[str | None, bytes]]:
    """(commit, dvc.lock): of the commit named, of the work tree, of all others."""
    if named:
        (text,) = git.blobs(root, [f"{named}:./{LOCK}"])
        if text is not None:
            yield named, text
    if (root / LOCK).is_file():
        yield None, (root / LOCK).read_bytes()
    if git.is_repository(root):
        commits = [made.hash for made in git.log(root, "HEAD", LOCK)]
        for commit, text in zip(commits, git.blobs(root, [f"{commit}:./{LOCK}" for commit in commits]), strict=True):
            if text is not None:
                yield commit, text


def _why_not(root: Path, named: str | None, wanted: str) -> str:
    """That the lock is nowhere, why, and what brings it."""
    nowhere = f"dvc.lock {wanted[:12]} is nowhere: "
    if named is None:
        return nowhere + "the release was promoted outside git; what it ran on was not kept"
    if git.has(root, named):
        return nowhere + f"commit {named[:10]} has another one; it was promoted before it was committed, and never was"
    if git.is_shallow(root):
        return nowhere + f"commit {named[:10]} is not in this shallow clone; git fetch --unshallow"
    return nowhere + f"commit {named[:10]} is not here; fetch the branch that has it: git fetch --all"


def _stages(text: bytes) -> dict[str, Stage]:
    import yaml

    told = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stages"]
    return {name: _stage(name, entry) for name, entry in told.items()}


def _stage(name: str, entry: Mapping[str, Any]) -> Stage:
    def files(kind: str) -> tuple[File, ...]:
        return tuple(File(it["path"], it.get("md5", ""), it.get("size"), it.get("nfiles")) for it in entry.get(kind, []))

    command = entry["cmd"] if isinstance(entry["cmd"], str) else " && ".join(entry["cmd"])
    params = {key: value for values in entry.get("params", {}).values() for key, value in values.items()}
    return Stage(name, command, params, files("deps"), files("outs"))
