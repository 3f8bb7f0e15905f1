"""Ends a Ray that a stage has started for itself: `keeper.py FOLDER`, beside the stage, which holds its stdin open.

When the stage has ended, in whatever way (kill -9 too), stdin does, and all that still runs of its Ray is killed and its
folder removed. Most of Ray ends with the stage by itself; its agents look for their dead head for minutes. Standard library
only: it starts in 20 ms. Linux; elsewhere nothing is found below /proc, and Ray's own way has to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "NIGHTSHIFT_RAY"  # environment variable: the folder of the Ray that a process belongs to
PREFIX = "nightshift-ray-"
LOCK = "kept"


def main() -> None:
    """Wait for the end of the stage, then end what it leaves."""
    folder, stage = Path(sys.argv[1]), os.getppid()
    with held(folder, PREFIX):
        sys.stdin.read()
        while pids := [pid for pid in marked(folder) if pid != stage]:  # which may still have a log open
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def marked(folder: Path) -> list[int]:
    """Processes of the Ray in this folder: MARK is in their environment, unless their title has overwritten it, or they have a
    log there open. One that has ended and waits for its parent has neither."""
    found, mark = [], f"{MARK}={folder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if mark in (process / "environ").read_bytes().split(b"\0") or any(_open_below(process, folder)):
                found.append(int(process.name))
    return [pid for pid in found if pid != os.getpid()]


def _open_below(process: Path, folder: Path) -> Iterator[bool]:
    for file in os.listdir(process / "fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(process / "fd" / file).startswith(f"{folder}/")


@contextlib.contextmanager
def held(folder: Path, prefix: str) -> Iterator[None]:
    """Mark a folder as in use by this process; those of like name beside it that nobody uses any more are removed: their
    processes were killed."""
    with open(folder / f"{LOCK}.new", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / f"{LOCK}.new", folder / LOCK)  # held from the first moment that others can see it
        for path in folder.parent.glob(f"{prefix}*/{LOCK}"):
            with contextlib.suppress(OSError), open(path) as other:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
        yield


if __name__ == "__main__":
    main()
