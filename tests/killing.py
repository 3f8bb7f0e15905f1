"""A process that is killed at its n-th file operation, for every n: forked, so that nothing is imported again.

`os.fork`, then a profile hook that sees each C function before it is called: at the n-th call that changes a file the
child sends itself SIGKILL. Nothing is patched, and nothing of the child can clean up.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A file's write() fills a buffer of the process; it is flush that changes the file.
COMMANDS = frozenset({"fork_exec"})  # each begin of another program
CHANGES = frozenset({"flush", "fsync", "replace", "rename", "unlink", "remove", "mkdir", "rmdir", "truncate", "link"})


def killed_at(n: int, work: Callable[[], object], operations: frozenset[str] = CHANGES) -> bool:
    """Whether a child that does `work` was killed before its n-th operation (from 0); False: it came through first.

    AssertionError where it failed otherwise; what it said is on stderr then.
    """
    left = n

    def count(_frame: Any, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_call" and function.__name__ in operations and _of_files(function):
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    def run() -> None:
        sys.setprofile(count)
        work()
        sys.setprofile(None)

    status = in_a_child(run)
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def _of_files(function: Any) -> bool:
    """Text has a `replace`, too."""
    return function.__module__ in (os.replace.__module__, "_posixsubprocess") or isinstance(function.__self__, io.IOBase)


def in_a_child(work: Callable[[], object]) -> int:
    """Do it in a forked process; its exit code, or minus the signal that ended it."""
    return ended(start(work))


def start(work: Callable[[], object]) -> int:
    """Begin it in a forked process; its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        sys.setprofile(None)
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for it; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def marked(mark: str) -> dict[int, str]:
    """Every process that has NAME=value in its environment, with its command."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found
