"""Run one command that cannot outlive its parent: `guard.py PARENT COMMAND…`, started by flows.processes and deploy/up.py.

PARENT is the process id that started us; 0 takes whoever it is now.

When the flow ends, in whatever way (kill -9 too), the kernel signals this process, which then ends the command and
everything the command has started, also what moved into a group of its own or lost its parent. It is a program of its
own because a child that must survive its parent by a moment cannot be a thread of that parent, and because a
`preexec_fn` may deadlock in a process with threads. Standard library only: it starts in 20 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

GRACE = 3.0  # seconds between SIGTERM and SIGKILL
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>


def main() -> int:
    """Start the command in its own group, wait for it, leave nothing behind; returns its exit code (128 + signal)."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: stopping.append(number))
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if parent and os.getppid() != parent:  # it ended before the line above
            return 128 + signal.SIGTERM
    child = os.posix_spawnp(
        command[0], command, os.environ, setpgroup=0, setsigdef=[signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
    )
    status = wait(child, stopping)
    end_leftovers()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def wait(child: int, stopping: list[int]) -> int:
    """Wait status of the child; once a signal has come, its group gets SIGTERM, and SIGKILL after the grace."""
    deadline = 0.0
    pause = 0.01
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if stopping and not deadline:
            deadline = time.monotonic() + GRACE
            _signal_group(child, signal.SIGTERM)
        elif deadline and time.monotonic() > deadline:
            _signal_group(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def end_leftovers() -> None:
    """Kill and reap what is still below us: orphans come to the nearest subreaper, which we are."""
    while True:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def _signal_group(leader: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended; waitpid will say so
        os.killpg(leader, number)


if __name__ == "__main__":
    sys.exit(main())
