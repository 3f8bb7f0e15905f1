"""Two doors, one graph: fresh clones, kills and signals, each in processes of its own with a server of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import minigraph
import pytest
from test_flows_processes import alive

from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> dict[str, str]:
    """Environment of somebody with an empty home."""
    folder = tmp_path_factory.mktemp("home")
    env = {"HOME": str(folder), "PREFECT_HOME": str(folder / ".prefect")}
    return {key: value for key, value in minigraph.environment(**env).items() if key != "PREFECT_API_URL"}


def nightly(root: Path, home: dict[str, str], *words: str) -> str:
    """`python -m flows.nightly` there; its output."""
    done = subprocess.run([sys.executable, "-m", "flows.nightly", *words], cwd=root, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def clone(root: Path, to: Path) -> Path:
    """A fresh clone, with examples for its data."""
    subprocess.run(["git", "clone", "--quiet", str(root), str(to)], check=True)
    return to


def descendants(pid: int) -> list[int]:
    """All processes below one, and itself."""
    below = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return [pid, *(found for child in below for found in descendants(child))]


def test_two_fresh_clones_one_by_each_door(tmp_path, home):
    """With no server running, stages side by side in one and in order in the other: dvc.lock byte for byte the same."""
    root = minigraph.make(tmp_path)
    (root / "data").rename(root / "examples")
    minigraph.run(root, "git", "add", "examples")
    minigraph.run(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "examples")
    for start in ("before the first night", "after a promotion"):
        flow, shell = (clone(root, tmp_path / f"{start} {door}") for door in ("flow", "shell"))
        out = nightly(flow, home)
        subprocess.run([sys.executable, "-m", "tasks.cli", "bootstrap"], cwd=shell, env=home, check=True, capture_output=True)
        subprocess.run(
            [sys.executable, "-m", "dvc", "repro", "--force", "--no-run-cache"],
            cwd=shell,
            env=home,
            check=True,
            capture_output=True,
        )
        assert "data/ filled from examples/" in out
        assert (flow / "dvc.lock").read_bytes() == (shell / "dvc.lock").read_bytes(), start
        assert (flow / "data.dvc").read_bytes() == (shell / "data.dvc").read_bytes(), start
        began = time.monotonic()
        again = nightly(flow, home)
        assert "7 cached" in again, again
        print(f"{start}: a night with nothing to do took {time.monotonic() - began:.1f} s")
        root = flow


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_night_that_is_ended_leaves_nobody_and_can_go_on(tmp_path, home, number):
    """In the middle of two stages; the server, dvc and the stages go too; the next night ends with the usual hashes."""
    root, whole = minigraph.make(tmp_path / "a"), minigraph.make(tmp_path / "b")
    minigraph.dvc(whole, "repro")
    flow = subprocess.Popen(
        [sys.executable, "-m", "flows.nightly"],
        cwd=root,
        env={**home, "MINI_SLEEP": "sft=300 embed=300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has them ignore Ctrl-C, and their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def both_at_work() -> list[int]:
        """All of the night's processes, once the stages sft and embed are among them (their shells do not count)."""
        below = descendants(flow.pid)
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in below]
        stages = {words[2] for words in commands if words[1:2] == [b"stage.py"]}
        return below if stages == {b"sft", b"embed"} else []

    def look() -> list[int]:
        assert flow.poll() is None, flow.communicate()
        try:
            return both_at_work()
        except OSError:  # one of them has just ended
            return []

    family = until(look)
    assert len(family) >= 8  # flow; guard and server; twice guard, dvc and stage
    flow.send_signal(number)
    _, said = flow.communicate(timeout=60)
    until(lambda: not any(alive(pid) for pid in family))
    if number != signal.SIGKILL:
        assert flow.returncode in (130, 143, -signal.SIGTERM) and "Traceback" not in said, said
    nightly(root, home)
    assert (root / "dvc.lock").read_bytes() == (whole / "dvc.lock").read_bytes()
    assert os.path.getsize(root / "releases/LIVE") > 10
