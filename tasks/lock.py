"""Locks between processes of one folder. They go with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from tasks.errors import ServiceError

WORK = Path(".nightshift")
NIGHT = WORK / "night.lock"
PROMOTION = WORK / "promotion.lock"
A_NIGHT = "a night"  # the name of one that holds NIGHT
MOMENT = 60  # seconds to wait for others that need seconds themselves


class BusyError(ServiceError):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def alone(root: Path, name: str = "", patience: float = 0.0, told: Callable[[str], None] | None = None) -> Iterator[None]:
    """One night at a time in a folder, and nobody else who writes to data/ or commits; BusyError where there is one.

    `name`: what others read about who is at work ("a collection"). It waits for others up to `patience` seconds, and says so
    to `told`; but not for a night, which takes hours, nor for its own kind, which does the same work.
    """
    with held(root / NIGHT, "nightly", "another night", patience, name, frozenset({"", A_NIGHT, name}), told):
        yield


@contextlib.contextmanager
def held(
    path: Path,
    thing: str,
    who: str,
    patience: float = 0.0,
    name: str = "",
    not_for: frozenset[str] = frozenset(),
    told: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the lock file `path`; BusyError when somebody else still does after `patience` seconds, or is one of `not_for`.

    `name` is written into it; a holder without one is called `who`. `told` hears that it waits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    last = None
    with open(path, "a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                number, by = seen = _holder(file)
                what = f"{by or who} is running here (process {number})"
                # What the former holder has written is there for a moment yet: believed is what is read twice.
                if time.monotonic() >= deadline or (number and by in not_for and seen == last):
                    raise BusyError(thing, what, "wait for it, or end it") from None
                last = seen
                if told and by not in not_for:
                    told(f"{what}: waiting for it")
                    told = None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()} {name}".strip())
        file.flush()
        yield


def _holder(file: TextIO) -> tuple[str, str]:
    """(process, name) as the holder has written them, either may be empty."""
    file.seek(0)
    number, _, name = file.read().strip().partition(" ")
    return number, name


def of_dvc(entries: Path) -> set[int]:
    """Processes that DVC's list of who reads and writes (.dvc/tmp/rwlock) names. ServiceError where it is torn."""
    if not entries.is_file():
        return set()
    try:
        told = json.loads(entries.read_text(encoding="utf-8") or "{}")
        held = [one for kind in told.values() for each in kind.values() for one in (each if isinstance(each, list) else [each])]
        return {int(one["pid"]) for one in held if one}
    except (ValueError, AttributeError, TypeError, KeyError):
        raise ServiceError("dvc", f"{entries} is torn", f"when no dvc is at work: rm {entries}") from None


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
