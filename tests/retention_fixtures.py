"""Five nights of the small graph, and what each of them has put into DVC's cache: real git, real DVC."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tasks import git, home, promote, records
from tasks.retention import gc
from tests import minigraph

NIGHTS = ("milk\n", "hold the milk", "rice", "hold on", "hold out")  # what data/a.txt says; the gate holds back what says "hold"
HELD = (1, 3, 4)
CACHE, RUNS = ".dvc/cache/files/md5", ".dvc/cache/runs"
OUTPUTS = len(minigraph.STAGES)


@functools.cache
def _nights() -> tuple[Path, tuple[frozenset[str], ...]]:
    root = minigraph.make(minigraph.scratch("retention"))
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("nights: 14", "nights: 1"))
    assert text != (root / "params.yaml").read_text()
    git.commit(root, ["params.yaml"], "one night is kept")
    made, runs = [], [set()]
    for number, says in enumerate(NIGHTS):
        made.append(outputs(root, night(root, number + 2, says)))
        runs.append(set(stored(root, RUNS)))
    alone = [one.difference(*(other for other in made if other is not one)) for one in made]
    return root, tuple(frozenset(own | after - before) for own, before, after in zip(alone, runs, runs[1:], strict=False))


def outputs(root: Path, commit: str) -> set[str]:
    """Objects that a commit's dvc.lock and data.dvc name, and those of each folder's list, as files of the cache."""
    locked, data = (yaml.safe_load(git.read(root, commit, name)) for name in ("dvc.lock", "data.dvc"))
    named = {out["md5"] for stage in locked["stages"].values() for out in stage["outs"]} | {data["outs"][0]["md5"]}
    for list_ in [hash_ for hash_ in named if hash_.endswith(".dir")]:
        named |= {entry["md5"] for entry in json.loads((root / at(list_)).read_text())}
    return {at(hash_) for hash_ in named}


def at(hash_: str) -> str:
    """Where an object lies."""
    return f"{CACHE}/{hash_[:2]}/{hash_[2:]}"


def five_nights(folder: Path) -> tuple[Path, tuple[frozenset[str], ...]]:
    """A fresh copy of a checkout after five nights, two of which were released; and the files of DVC's cache that each night
    alone has: objects and entries of the run cache."""
    root, own = _nights()
    return Path(shutil.copytree(root, folder / "mini", symlinks=True)), own


@pytest.fixture
def nights(tmp_path, monkeypatch) -> tuple[Path, tuple[frozenset[str], ...]]:
    """The same for one test, which is in that folder."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    made = five_nights(tmp_path)
    monkeypatch.chdir(made[0])
    return made


def collect(root: Path, **options) -> list[str]:
    """`nightshift gc` without asking; the lines said."""
    return list(gc(root, yes=True, **options))


def objects(names: Iterable[str]) -> set[str]:
    """Those files of the cache that are objects."""
    return {name for name in names if name.startswith(CACHE)}


@contextlib.contextmanager
def day(number: int) -> Iterator[None]:
    """Commits are of this day."""
    os.environ["GIT_AUTHOR_DATE"] = f"2026-11-{number:02} 03:00:00 +0000"
    try:
        yield
    finally:
        del os.environ["GIT_AUTHOR_DATE"]


def night(root: Path, number: int, says: str) -> str:
    """What a night does here, in short: run, commit, promote what the gate lets out, commit that; the night's commit."""
    (root / "data/a.txt").write_text(says)
    minigraph.dvc(root, "add", "--quiet", "data")
    minigraph.dvc(root, "repro", "--quiet")
    with day(number):
        made = git.commit(root, ["data.dvc", "dvc.lock", "metrics"], "Night")
        if "hold" not in says:
            promote.promote(root, datetime(2026, 11, number, 3, tzinfo=UTC))
            git.commit(root, promote.COMMITTED, "Release")
    return made


def stored(root: Path, folder: str = ".dvc/cache") -> dict[str, bytes]:
    """Path → content of all files of the cache."""
    return files(root, root / folder)


def files(root: Path, folder: Path) -> dict[str, bytes]:
    """Path from `root` → content of all files below a folder; git's index and what a look touches are left out."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name not in ("index", "lock", "btime", "rwlock", "rwlock.lock")}  # fmt: skip


def releases(root: Path) -> list[str]:
    """Their ids, the first one first."""
    return [item["release"] for item in reversed(records.records(root))]


def push(root: Path) -> None:
    """Each night's outputs to the remote, night by night as nights do. (With --all-commits, DVC would take a relative address
    of a remote for one from the root of the disk.)"""
    for commit in git.log(root, "HEAD", "dvc.lock"):
        minigraph.run(root, "git", "checkout", "--quiet", commit.hash, "--", "dvc.lock", "data.dvc")
        minigraph.dvc(root, "push", "--quiet")
    minigraph.run(root, "git", "checkout", "--quiet", "HEAD", "--", "dvc.lock", "data.dvc")


def with_home(root: Path) -> Path:
    """Make the nights' home of a checkout; where it is."""
    return home.make(root).root


def restored(root: Path, commit: str, folder: Path) -> dict[str, bytes]:
    """Outputs and data of a commit, out of the cache of `root` alone, in a clone that has no remote."""
    minigraph.run(root, "git", "clone", "--quiet", "--no-checkout", str(root), str(folder))
    minigraph.run(folder, "git", "checkout", "--quiet", commit)
    minigraph.dvc(folder, "cache", "dir", "--local", str(root / ".dvc/cache"))
    minigraph.dvc(folder, "checkout", "--quiet")
    return files(folder, folder / "artifacts") | files(folder, folder / "data")

