"""A release's commit in a work tree of its own: outside the checkout, with a DVC cache of its own, gone at the end.

Only one reproduction runs in a checkout (it takes all processors anyway), so whatever the note of a former one names while
the lock is ours belongs to nobody: it was killed, and is removed first.

DVC's cache of the checkout is only read: it is a remote of the work tree. What is computed there cannot be confused with
what was computed before, and what comes out wrong is nowhere found by a later `dvc repro`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tasks import environment, worktree
from tasks.errors import ParamsError
from tasks.files import read_json, write_json

HERE = "checkout"  # DVC's name for the remote that is the checkout's own cache
DVC = (sys.executable, "-m", "dvc")


@dataclass
class Workspace:
    """A work tree; `root` is where the project lies in it, `checkout` the project that it came from."""

    checkout: Path
    tree: Path
    root: Path
    cache: Path = Path()  # of the checkout
    lock: dict[str, Any] = field(default_factory=dict)  # stages of the release's dvc.lock

    def env(self) -> dict[str, str]:
        """What its processes get: this environment, and its own code before any that is installed."""
        first = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # dvc.yaml says `python`
        return {**os.environ, "PATH": first, "PYTHONPATH": str(self.root), "PYTHONNOUSERSITE": "1"}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command there, its two outputs apart; it ends when we do."""
        return subprocess.run(words, cwd=self.root, env=self.env(), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, preexec_fn=environment.end_with_parent)  # fmt: skip

    def stream(self, words: tuple[str, ...], log: IO[str], on_line: Callable[[str], None]) -> int:
        """A command there; each line goes to `log` and `on_line`. Returns its exit code."""
        process = subprocess.Popen(words, cwd=self.root, env=self.env(), stdin=subprocess.DEVNULL, text=True, errors="replace",
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   preexec_fn=environment.end_with_parent)  # fmt: skip
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                on_line(line.rstrip())
            return process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def stages(self) -> dict[str, Any]:
        """Stages of its dvc.lock."""
        return locked((self.root / "dvc.lock").read_text(encoding="utf-8"))


def locked(text: str) -> dict[str, Any]:
    """Stages of a dvc.lock."""
    import yaml

    return (yaml.safe_load(text) or {}).get("stages") or {}


@contextlib.contextmanager
def workspace(root: Path, commit: str, note: Path, within: Path | None, keep: bool) -> Iterator[Workspace]:
    """Check `commit` out below `within` (default: the temporary folder) and connect DVC.

    `note`: file that names the folder while it is there, for the next call in case this one is killed. The caller holds
    a lock. `keep` leaves the folder, and forgets it.
    """
    clean(root, note)
    if within is not None and not within.is_dir():
        raise ParamsError("--in", f"{within} is no folder", "make it first")
    if within is not None and within.resolve().is_relative_to(root.resolve()):
        raise ParamsError("--in", f"{within} lies in the checkout", "take a folder outside it")
    folder = (within or Path(tempfile.gettempdir())).resolve() / f"nightshift-reproduce-{secrets.token_hex(4)}"
    write_json(note, {"folder": str(folder)})
    try:
        folder.mkdir(mode=0o700)  # a remote's password may stand in DVC's settings
        there = Workspace(root, folder / "tree", worktree.add(root, folder / "tree", commit))
        connect(there)
        yield there
    finally:
        if keep:
            note.unlink()
        else:
            clean(root, note)


def clean(root: Path, note: Path) -> None:
    """Remove what a former call has left."""
    if note.is_file():
        folder, patience = Path(read_json(note)["folder"]), 50
        worktree.forget(root, folder / "tree")
        while folder.exists() and patience:  # a stage that is being ended may still write
            shutil.rmtree(folder, ignore_errors=True)
            patience -= 1
            time.sleep(0.1)
        note.unlink()


def connect(there: Workspace) -> None:
    """A DVC cache of its own; the checkout's cache and remotes, with their settings, to fetch from."""
    from dvc.repo import Repo

    with Repo(str(there.checkout)) as repo:
        remotes: Mapping[str, Any] = {name: dict(remote) for name, remote in repo.config["remote"].items()}
        cache, chosen = repo.cache.local_cache_dir, repo.config["core"].get("remote")
    with Repo(str(there.root)) as repo, repo.config.edit("local") as config:
        there.cache = Path(cache)
        config["cache"] = {"dir": str(there.root / ".dvc" / "cache")}
        config["remote"] = {**remotes, HERE: {"url": cache}}
        config["core"] = {"site_cache_dir": str(there.root / ".dvc" / "site"), **({"remote": chosen} if chosen else {})}
