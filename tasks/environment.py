"""Settings that must hold in every process of Nightshift, in one place.

Called first thing by `python -m tasks`, by the flows and by the tests, before any library reads its environment.
A value the user has set already wins, so each of these can be overridden from outside.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading

SETTINGS = {
    # No hub, no telemetry: the only network is what a stage is told to use.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Threads that spin while they wait make a run on shared cores up to ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    "KMP_BLOCKTIME": "0",
    "TOKENIZERS_PARALLELISM": "false",
    # gptqmodel asks for a pool of two workers and fails where it finds one CPU.
    "GPTQMODEL_CPU_WORKERS": "2",
    # The same sums in the same order on the same processor.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
    "MPLBACKEND": "Agg",
}

RUNNERS = ("dvc", "flows.", "prefect")  # words in the command lines of the processes that run stages


def apply() -> None:
    """Set what is not set yet, for this process and its children. Cheap, and safe to call twice."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")


def die_with_parent(levels: int = 3) -> None:
    """End this process when one of its next `levels` ancestors ends, however it ends.

    `dvc repro` runs a stage as dvc → sh → python. After `kill -9` of dvc the stage would live on as an orphan and write
    beside the next run. PR_SET_PDEATHSIG covers the direct parent at once; a thread that waits on pidfds covers the
    ancestors above it. Linux only; elsewhere a stage simply finishes its work.
    """
    if not sys.platform.startswith("linux"):
        return
    ancestors, pid = [], os.getppid()
    while pid > 1 and len(ancestors) < levels:
        ancestors.append(pid)
        pid = _parent(pid)
    # Up to the outermost of our runners; a login shell or an editor above them may go and the work stays.
    while ancestors and not any(word in _command(ancestors[-1]) for word in RUNNERS):
        ancestors.pop()
    if not ancestors:
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    try:
        watched = [os.pidfd_open(pid) for pid in ancestors]
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait() -> None:
        select.select(watched, [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="dies-with-parent", daemon=True).start()


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
