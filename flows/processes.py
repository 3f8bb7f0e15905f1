"""Child processes of a night: their output line by line, their cost, and their end when the night ends."""

from __future__ import annotations

import codecs
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
_running: set[subprocess.Popen] = set()
_door = threading.Lock()
_closed: list[bool] = []


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it cost, its children included."""

    code: int
    lines: list[str]
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int  # of its largest process
    late: bool = False  # it was ended because its time was up


class Stopped(Exception):
    """The night is being stopped; no further command starts."""


def start(command: Sequence[str], root: Path, env: Mapping[str, str] | None = None, log: Path | None = None) -> subprocess.Popen:
    """Start a command under flows/guard.py in `root`; its output goes to the file `log`, or to a pipe."""
    output = log.open("ab") if log else subprocess.PIPE
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # dvc.yaml says `python`
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command],
        cwd=root,
        env={**os.environ, "PATH": path, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    if log:
        output.close()
    return process


def run(
    command: Sequence[str],
    root: Path,
    on_line: Callable[[str], None] = lambda _: None,
    env: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> Ended:
    """Run a command to its end, or for so many `seconds`. `on_line` gets each line as it comes; a progress bar's returns end
    lines too."""
    began = time.monotonic()
    with _door:
        if _closed:
            raise Stopped
        process = start(command, root, env)
        _running.add(process)
    late: list[bool] = []
    alarm = threading.Timer(seconds or 0, lambda: (late.append(True), _end(process)))
    if seconds:
        alarm.start()
    lines: list[str] = []
    rest, decode = "", codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        while chunk := os.read(process.stdout.fileno(), 65536):
            *complete, rest = re.split(r"\r\n|\n|\r", rest + decode(chunk))
            for line in complete:
                if line.strip():
                    lines.append(line.rstrip())
                    on_line(lines[-1])
        if rest.strip():
            lines.append(rest.rstrip())
            on_line(lines[-1])
    finally:
        alarm.cancel()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with _door:
            _running.discard(process)
    cpu = usage.ru_utime + usage.ru_stime
    return Ended(process.returncode, lines, time.monotonic() - began, cpu, usage.ru_maxrss * 1024, bool(late))


def stop(process: subprocess.Popen) -> None:
    """End one process and what it started; returns when it is gone."""
    process.terminate()
    process.wait()


def stop_all() -> None:
    """Ask every command of `run` to end, and start no further one."""
    with _door:
        _closed.append(True)
        for process in _running:
            _end(process)


def _end(process: subprocess.Popen) -> None:
    if process.returncode is None:  # not yet reaped by `run`, whose wait Popen.terminate would disturb
        os.kill(process.pid, signal.SIGTERM)


def reopen() -> None:
    """Allow commands again (a new night in the same process)."""
    _closed.clear()
