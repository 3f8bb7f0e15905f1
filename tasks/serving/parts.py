"""A release's parts on disk: .nightshift/serving/<release>/{model,embedded,index}, whole and verified or not there.

The workspace moves on every night, so a release is served from a folder of its own: hard links to DVC's cache, whose
objects never change, else copies. A folder is put together aside and renamed when each part has the manifest's hash.
Whoever loads a release holds a shared flock on its folder, which the kernel takes back when the process ends, however
it ends; all changes are made under one exclusive lock. So what is half made belongs to no living process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks import stored
from tasks.errors import DataError, StoreError
from tasks.files import replace_dir, sha256_tree

SERVING = Path(".nightshift/serving")
PARTS = ("model", "embedded", "index")  # of a manifest's parts; the chat template lies in the model's folder
KEPT = 2  # folders of earlier releases that stay: a rollback then has nothing to fetch


def materialise(root: Path, record: Mapping[str, Any]) -> tuple[Path, int]:
    """The folder with the parts of a release, and a descriptor that keeps it there until it is closed.

    StoreError where neither DVC's cache nor the workspace has the bytes.
    """
    folder = root / SERVING / record["release"]
    with _exclusive(root):
        _clear(root)
        if not _whole(folder, record):
            part = folder.with_name(f".part-{folder.name}")
            try:
                _assemble(root, record, part)
                replace_dir(part, folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        os.utime(folder)
        return folder, _hold(folder)


def prune(root: Path, live: str | None) -> list[str]:
    """Remove the folders of releases that are neither live nor in use nor among the last ones; their names."""
    removed = []
    with _exclusive(root):
        _clear(root)
        for folder in surplus(root, live):
            part = folder.with_name(f".part-{folder.name}")
            os.rename(folder, part)  # half a folder must not keep the name of a whole one
            shutil.rmtree(part)
            removed.append(folder.name)
    return removed


def surplus(root: Path, live: str | None) -> list[Path]:
    """The folders that `prune` removes."""
    folders = [path for path in (root / SERVING).glob("*") if path.is_dir() and not path.name.startswith(".")]
    others = sorted((path for path in folders if path.name != live), key=lambda path: -path.stat().st_mtime_ns)
    return [folder for folder in others[KEPT:] if not _in_use(folder)]


def halves(root: Path) -> list[Path]:
    """What a killed process has left; or, while nobody holds the lock, what one is about to finish."""
    return sorted((root / SERVING).glob(".part-*"))


def _clear(root: Path) -> None:
    for leftover in halves(root):
        shutil.rmtree(leftover)


def _whole(folder: Path, record: Mapping[str, Any]) -> bool:
    wanted = record["manifest"]["parts"]
    return all((folder / name).is_dir() and sha256_tree(folder / name) == wanted[name]["sha256"] for name in PARTS)


def _assemble(root: Path, record: Mapping[str, Any], target: Path) -> None:
    """Each part from DVC's cache, else from the workspace; what was brought is hashed, wherever it came from."""
    missing = []
    with stored.opened(root) as store:
        for name in PARTS:
            part = record["manifest"]["parts"].get(name)
            if part is None:
                raise DataError(record["release"], f"its manifest names no {name}", "promote a release of this version")
            md5 = record["dvc"]["outs"].get(part["path"])
            made = target / name
            if stored.lay_out(store, md5, made) and sha256_tree(made) == part["sha256"]:
                continue
            shutil.rmtree(made, ignore_errors=True)
            workspace = root / part["path"]
            if workspace.is_dir() and sha256_tree(workspace) == part["sha256"]:
                shutil.copytree(workspace, made)  # no links: the next night may write to these very files
                if sha256_tree(made) == part["sha256"]:
                    continue
            missing.append(part["path"])
    if missing:
        raise StoreError(
            record["release"],
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} in neither DVC's cache nor the workspace, or damaged",
            f"at commit {record['git']['commit'] or '(none was recorded)'}: dvc fetch {' '.join(missing)} (dvc pull brings them "
            "into the workspace, too)",
        )


@contextlib.contextmanager
def _exclusive(root: Path) -> Iterator[None]:
    (root / SERVING).mkdir(parents=True, exist_ok=True)
    handle = os.open(root / SERVING / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _hold(folder: Path) -> int:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def _in_use(folder: Path) -> bool:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
