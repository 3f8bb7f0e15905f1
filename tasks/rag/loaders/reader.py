"""Load documents in a process apart, one after another. A hung parser must not hang the night, nor a bomb fill the memory.

The process (`python -m tasks.rag.loaders BYTES`) gets a path a line and answers with a line of JSON. What bounds it:

- time     RLIMIT_CPU, set anew for each document: the kernel ends the process, in C code too. Processor time and not the
           clock, so that a busy machine does not decide which documents are read; a parser that waits for ever without
           using any ends by the clock, after IDLE times as long.
- memory   RLIMIT_AS: an allocation beyond MEMORY fails, in the process and nowhere else.
- secrets  it gets no environment but what SETTINGS names: a document that takes a parser over finds no key there.

The document it ended at is a problem like any other, and a new process goes on with the next one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tasks.rag.loaders import Document, Page, Unreadable

MEMORY = 3 * 2**30  # bytes of address space
IDLE = 10
SETTINGS = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "PYTHONUTF8", "TMPDIR")
ROOT = Path(__file__).parents[3]  # of the project's code


class Reader:
    """The loaders behind a process; `with Reader(…) as reader: reader.load(path, source)`."""

    def __init__(self, max_bytes: int, max_seconds: int):
        """`max_bytes` of a document's file and of its text; `max_seconds` of processor time for it."""
        self.max_bytes, self.max_seconds = max_bytes, max_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def load(self, path: Path, source: str) -> Document:
        """What loaders.load gives for the file; Unreadable with a reason for everything else that can happen."""
        process = self._process = self._process or self._start()
        ask = {"path": os.path.abspath(path), "source": source, "max_bytes": self.max_bytes, "max_seconds": self.max_seconds}
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(IDLE * self.max_seconds, stop)
        timer.start()
        try:
            process.stdin.write(json.dumps(ask).encode() + b"\n")
            process.stdin.flush()
            reply = process.stdout.readline()
        except OSError:
            reply = b""
        finally:
            timer.cancel()
        if not reply.endswith(b"\n"):
            self._end()
            raise Unreadable(self._why(process.returncode, late.is_set()))
        said = json.loads(reply)
        if "why" in said:
            raise Unreadable(said["why"])
        return Document(source, tuple(Page(text, number) for text, number in said["pages"]), tuple(said["notes"]))

    def _why(self, code: int, late: bool) -> str:
        """Why the process is no more."""
        if late or code == -signal.SIGXCPU:
            return f"takes more than {self.max_seconds} s to read; its parser was ended"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"is broken (its parser crashed: {name})"

    def _start(self) -> subprocess.Popen[bytes]:
        env = {name: os.environ[name] for name in SETTINGS if name in os.environ}
        return subprocess.Popen([sys.executable, "-m", "tasks.rag.loaders", str(MEMORY)], cwd=ROOT, env=env,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None
