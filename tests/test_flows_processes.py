"""Children of a night: their lines, their cost, and that none outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flows import processes
from tests.waiting import until

ROOT = Path(__file__).parent.parent
FAMILY = """
    import os, subprocess, sys, time
    pids = open("pids", "a", buffering=1)
    print(os.getpid(), file=pids)
    print(subprocess.Popen(["sleep", "300"]).pid, file=pids)                             # in our group
    print(subprocess.Popen(["sleep", "300"], start_new_session=True).pid, file=pids)     # away from it
    if os.fork() == 0:                                                                   # an orphan, deaf to SIGTERM
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            print(os.getpid(), file=pids)
            time.sleep(300)
        os._exit(0)
    time.sleep(300)
"""


def alive(pid: int) -> bool:
    """Whether the process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(folder: Path) -> list[int]:
    """Process ids that FAMILY has written, once all four are there."""
    path = folder / "pids"
    found = [int(line) for line in path.read_text().split()] if path.is_file() else []
    return found if len(found) == 4 else []


@pytest.fixture(autouse=True)
def opened():
    """Each test may start commands."""
    processes.reopen()


def run(code: str, folder: Path, lines: list[str]) -> processes.Ended:
    """Run a few lines of Python."""
    return processes.run([sys.executable, "-c", textwrap.dedent(code)], folder, lines.append)


def test_lines_come_one_by_one(tmp_path):
    """A progress bar's returns end lines, stderr is there too, and a character cut in two is put together."""
    lines: list[str] = []
    ended = run(
        r"""
        import os, sys, time
        os.write(1, b"10%\r20%\r\n\n" + "资料".encode()[:4]); time.sleep(0.2)
        os.write(1, "资料".encode()[4:] + b"\n"); os.write(2, b"to stderr\nno newline")
    """,
        tmp_path,
        lines,
    )
    assert ended.lines == lines == ["10%", "20%", "资料", "to stderr", "no newline"]
    assert ended.code == 0


def test_cost_counts_the_children_of_the_command(tmp_path):
    """A grandchild that holds 60 MB and works for a while is in the sum."""
    ended = run(
        """
        import subprocess, sys
        subprocess.run([sys.executable, "-c", "x = bytearray(60_000_000); sum(range(3_000_000))"])
    """,
        tmp_path,
        [],
    )
    assert ended.peak_memory_bytes > 60_000_000
    assert 0 < ended.cpu_seconds < 30 and ended.seconds > 0


def test_exit_codes(tmp_path):
    """The command's own code; 128 + n when signal n ended it, as a shell says it."""
    assert run("raise SystemExit(7)", tmp_path, []).code == 7
    assert run("import os; os.kill(os.getpid(), 9)", tmp_path, []).code == 128 + 9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parent-death signals are Linux's")
def test_kill_9_of_the_flow_leaves_nobody(tmp_path):
    """Group, other sessions, orphans deaf to SIGTERM: all are gone when the process that started them is killed."""
    (tmp_path / "family.py").write_text(textwrap.dedent(FAMILY))
    flow = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
        import sys
        from pathlib import Path
        from flows import processes
        processes.run([sys.executable, "family.py"], Path.cwd(), print)
    """),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    family = until(lambda: pids(tmp_path))
    assert all(alive(pid) for pid in family)
    flow.send_signal(signal.SIGKILL)
    flow.wait()
    until(lambda: not any(alive(pid) for pid in family))


def test_stop_all_ends_what_runs_and_starts_no_more(tmp_path):
    """The way of Ctrl-C: running commands end, the next one is refused."""
    import threading

    ended: list[processes.Ended] = []
    (tmp_path / "family.py").write_text(textwrap.dedent(FAMILY))
    thread = threading.Thread(
        target=lambda: ended.append(processes.run([sys.executable, "family.py"], tmp_path, lambda _: None))
    )
    thread.start()
    family = until(lambda: pids(tmp_path))
    processes.stop_all()
    thread.join(30)
    assert ended[0].code == 128 + signal.SIGTERM
    assert not any(alive(pid) for pid in family)
    with pytest.raises(processes.Stopped):
        processes.run(["true"], tmp_path, print)
