"""Ends a Ray that a stage has started for itself: `keeper.py FOLDER`, beside the stage, which holds its stdin open.

When the stage has ended, in whatever way (kill -9 too), stdin does, and all that still runs of its Ray is killed and its
folder removed. Ray's own processes end with it as well, but two of them look for their dead head for a minute first. A
process of Ray is known by MARK in its environment. Standard library only: it starts in 20 ms. Linux; elsewhere nothing is
found below /proc, and Ray's own way has to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "NIGHTSHIFT_RAY"  # environment variable: the folder of the Ray that a process belongs to
PREFIX = "nightshift-ray-"
LOCK = "kept"


def main() -> None:
    """Wait for the end of the stage, then end what it leaves."""
    folder = Path(sys.argv[1])
    with open(folder / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(folder.parent)
        sys.stdin.read()
        while pids := marked(folder):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)


def marked(folder: Path) -> list[int]:
    """Processes of the Ray in this folder; a process that has ended and waits for its parent has no environment."""
    found, mark = [], f"{MARK}={folder}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def sweep(parent: Path) -> None:
    """Remove the folders of keepers that were killed themselves: nobody holds their lock."""
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        with contextlib.suppress(OSError), open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent, ignore_errors=True)


if __name__ == "__main__":
    main()
