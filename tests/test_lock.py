"""Who waits for whom in one folder."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import lock
from tests import minigraph


@contextlib.contextmanager
def somebody(root: Path, name: str) -> Iterator[subprocess.Popen]:
    """Another process that holds the night's lock by this name until it is killed or a line is written to it."""
    code = f"""
from pathlib import Path
from tasks import lock
with lock.alone(Path.cwd(), {name!r}):
    print("held", flush=True)
    input()
"""
    words = [sys.executable, "-c", code]
    process = subprocess.Popen(
        words, cwd=root, env=minigraph.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("other", [lock.A_NIGHT, "a reindex"])
def test_nobody_waits_for_a_night_or_for_its_own_kind(tmp_path, other):
    """However patient: a run that waits for hours only does again what has been done."""
    told = []
    with (
        somebody(tmp_path, other) as process,
        pytest.raises(lock.BusyError, match=rf"{other} is running here \(process {process.pid}\)"),
        lock.alone(tmp_path, "a reindex", 600, told.append),
    ):
        pass
    assert told == []


def test_a_night_waits_for_a_collection(tmp_path):
    """It says so once, and begins when the other has ended; no longer than it has patience."""
    told = []
    with somebody(tmp_path, "a collection") as process:
        with pytest.raises(lock.BusyError, match="a collection is running here"), lock.alone(tmp_path, lock.A_NIGHT, 0.5):
            pass

        def end(line: str) -> None:
            told.append(line)
            process.stdin.write("\n")
            process.stdin.flush()

        with lock.alone(tmp_path, lock.A_NIGHT, 600, end):
            assert (tmp_path / lock.NIGHT).read_text().endswith(" a night")
    assert told == [f"a collection is running here (process {process.pid}): waiting for it"]


def test_a_killed_holder_holds_nothing(tmp_path):
    """The name that it left behind is not believed."""
    with somebody(tmp_path, lock.A_NIGHT) as process:
        process.kill()
        process.wait()
        assert (tmp_path / lock.NIGHT).read_text() == f"{process.pid} a night"
        with lock.alone(tmp_path, "a reindex"):
            assert (tmp_path / lock.NIGHT).read_text().endswith(" a reindex")
