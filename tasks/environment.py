"""Settings that must hold in every process of Nightshift, in one place.

`apply` is called first thing by `python -m tasks`, by the flows and by the tests, before any library reads its environment.
A value the user has set already wins, so each of these can be overridden from outside. `pin` is for stages alone, and there
compute.reproducible wins: a promise about bytes must not depend on what somebody has exported.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ParamsError

if TYPE_CHECKING:
    from tasks.params import Compute

SETTINGS = {
    # No hub, no telemetry: the only network is what a stage is told to use.
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
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

# compute.reproducible: any-x86. Numeric libraries choose their code by the processor they find; here they all take what
# every x86-64-v3 processor (Intel since Haswell, AMD since Excavator) has. What holds, and what it costs: docs/decisions/0022.
ANY_X86 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",  # the one branch that MKL has for every make; AVX2 is another one on an AMD than on an Intel
    "MKL_DYNAMIC": "FALSE",  # as many threads as it is told, not as many as it finds cores
    "OMP_DYNAMIC": "FALSE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # numpy's and scipy's BLAS
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_KNL AVX512_KNM AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "ARROW_USER_SIMD_LEVEL": "AVX2",
}
NEEDED = {"avx2", "fma"}  # as /proc/cpuinfo spells them
READERS = ("torch", "numpy", "scipy", "pyarrow")  # libraries that read those settings when they are loaded

STAGE_TIMES = "NIGHTSHIFT_STAGE_TIMES"  # names the file into which a stage writes when it began and ended (tasks/costs.py)
TRAINING_ERROR = "NIGHTSHIFT_TRAINING_ERROR"  # names the file into which the first process of a training writes what ended it

RUNNERS = ("dvc", "flows.", "prefect")  # words in the command lines of the processes that run stages


def rank() -> int | None:
    """Number of this process among those of a training (tasks/training/launch.py); None in a process of its own, whatever a
    cluster has exported."""
    return int(os.environ["RANK"]) if TRAINING_ERROR in os.environ else None


def apply() -> None:
    """Set what is not set yet, for this process and its children. Cheap, and safe to call twice."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")


def pin(compute: Compute) -> None:
    """Set what `compute.reproducible` asks for in this process and its children; nothing for this-cpu.

    ParamsError on a processor that lacks the instructions. Must come before the libraries: RuntimeError where it does not.
    """
    if compute.reproducible == "this-cpu":
        return
    here = set(_processor("flags").split())  # empty where nobody tells
    if platform.machine() != "x86_64" or (here and not here >= NEEDED):
        lacks = " and ".join(sorted(NEEDED - here)) or "x86-64"
        raise ParamsError("compute.reproducible", f"is any-x86 and this processor lacks {lacks}", "take this-cpu")
    wanted = {**ANY_X86, "OMP_NUM_THREADS": str(compute.threads)}
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    if loaded := [name for name in READERS if name in sys.modules]:
        raise RuntimeError(f"{', '.join(loaded)} loaded before environment.pin: the settings would come too late")
    os.environ.update(wanted)


def processor() -> str | None:
    """Make, family and model of the processor, as it numbers itself; None where nobody tells."""
    told = [_processor(key) for key in ("vendor_id", "cpu family", "model")]
    return " ".join(told) if all(told) else None


def _processor(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((value.strip() for name, _, value in (line.partition(":") for line in lines) if name.strip() == key), "")


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
    end_with_parent()
    try:
        watched = [os.pidfd_open(pid) for pid in ancestors]
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)

    def wait() -> None:
        select.select(watched, [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="dies-with-parent", daemon=True).start()


def end_with_parent() -> None:
    """Let the kernel end this process when the one that started it ends; also as `preexec_fn`. Linux only."""
    pr_set_pdeathsig = 1
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


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
