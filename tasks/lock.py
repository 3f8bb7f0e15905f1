"""Locks between processes of one folder. They go with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import ServiceError

WORK = Path(".nightshift")
NIGHT = WORK / "night.lock"
PROMOTION = WORK / "promotion.lock"


class BusyError(ServiceError):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """One night at a time in a folder, and nobody else who writes to data/ or commits; BusyError where there is one."""
    with held(root / NIGHT, "nightly", "another night"):
        yield


@contextlib.contextmanager
def held(path: Path, thing: str, who: str, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; BusyError when somebody else (`who`) still does after `patience` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    with open(path, "a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    what = f"{who} is running here (process {file.read().strip()})"
                    raise BusyError(thing, what, "wait for it, or end it") from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock file `path` now."""
    if not path.is_file():
        return False
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
