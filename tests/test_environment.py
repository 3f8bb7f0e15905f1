"""Process-wide settings, and stages that end with the process that runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks import environment

ROOT = Path(__file__).parent.parent

STAGE = "import time; from tasks import environment; environment.die_with_parent(); print('up', flush=True); time.sleep(60)"
# python, then sh, then the stage: what dvc does. Its command line, this text included, must name no runner by itself.
RUNNER = """
import subprocess, sys
subprocess.run(["/bin/sh", "-c", sys.argv[2] + "; true"])
"""


def test_what_the_user_set_wins(monkeypatch):
    """A setting from outside is kept, a missing one is filled in."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    environment.apply()
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pidfds are Linux's")
@pytest.mark.parametrize("word, lives", [("dvc", False), ("editor", True)])
def test_kill_9_of_the_runner_ends_the_stage(tmp_path, word, lives):
    """runner → sh → stage: after kill -9 of a runner named dvc the stage is gone; under an unknown parent it stays."""
    script = tmp_path / "stage.py"
    script.write_text(f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n" + STAGE)
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, word, f"{sys.executable} {script}"], env=env, stdout=subprocess.PIPE)
    assert runner.stdout.readline() == b"up\n"
    stage = int((tmp_path / "pid").read_text())
    try:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        deadline = time.monotonic() + (0.5 if lives else 5)
        while running(stage) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running(stage) == lives
    finally:
        if running(stage):
            os.kill(stage, signal.SIGKILL)
        runner.stdout.close()
