"""What runs cost: the rows, what is made of them in the terminal and on the page, and what a kill leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import cli, costs, environment
from tasks.reporting import costs as pages


def stage(began: float, ended: float, **more) -> costs.Stage:
    """A stage that ran from `began` to `ended`, with two seconds of DVC around it."""
    given = {"seconds": ended - began + 2, "cpu_seconds": 2 * (ended - began), "peak_memory_bytes": 10**9, "bytes": 5 * 10**6}
    return costs.Stage(began=began, ended=ended, **{**given, **more})


def run(**stages: costs.Stage) -> costs.Run:
    """A night of 100 seconds."""
    return costs.Run(flow="nightly", began="2026-11-29T02:00:00+00:00", seconds=100, stages=stages)


NIGHT = run(sft=stage(0, 50), embed=stage(10, 20), align=stage(60, 90, peak_memory_bytes=3 * 10**9))


def test_what_is_around_the_stages():
    """Side by side they count once; gaps count as orchestration; a run without a stage has no share."""
    assert costs.union([(5, 6), (0, 3), (1, 2), (2, 4)]) == 5 and costs.union([]) == 0
    assert NIGHT.own_seconds == 80 and NIGHT.overhead == pytest.approx(0.2)
    assert run().overhead is None and costs.line(run()) == "1 min 40 s, no stage ran"
    said = "1 min 40 s, 180 CPU-s, largest process 3.00 GB, outputs 15 MB, 20.0% of the time around the stages"
    assert costs.line(NIGHT) == said


def test_a_torn_row_costs_itself_alone(tmp_path):
    """Killed in the middle of a write: the rows before and after it are read."""
    assert costs.read(tmp_path) == []
    costs.keep(tmp_path, NIGHT)
    with open(tmp_path / costs.KEPT, "a") as file:
        file.write('{"flow": "nightly", "be')
    costs.keep(tmp_path, run())
    assert costs.read(tmp_path) == [NIGHT, run()] and costs.read(tmp_path, 1) == [run()]


def test_the_command_line(tmp_path, capsys, monkeypatch):
    """The last run that ran anything, the dearest stage first, beside its median; then all runs; JSON for programs."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["costs"]) == 0 and "no run has been measured" in capsys.readouterr().out
    slow = run(sft=stage(0, 70))
    for one in (slow, NIGHT, run()):
        costs.keep(tmp_path, one)
    assert cli.main(["costs"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"nightly of 2026-11-29 02:00: {costs.line(NIGHT)}"
    assert [line.split()[0] for line in said[2:6]] == ["stage", "sft", "align", "embed"]
    assert said[3].split() == ["sft", "52.0", "50.0", "62.0", "100.0", "1.00", "5.0"]
    assert said[7] == "the last 3 runs" and said[8].endswith("no stage ran")
    assert cli.main(["costs", "--json", "--runs", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"] == {}
    assert cli.main(["costs", "--runs", "0"]) == 1 and "is no number of runs" in capsys.readouterr().err


def test_the_page():
    """Every stage and run is on it; names are escaped."""
    page = pages.page([run(sft=stage(0, 70)), run(), run(**{"<b>": stage(0, 5)}), NIGHT])
    assert "took 1 min 40 s" in page and "3.00\u00a0GB" in page and page.count("<svg") == 5
    assert "<b>" not in pages.page([run(**{"<b>": stage(0, 5)})]) and page.count("2026-11-29 02:00, nightly") == 3


def test_a_stage_tells_when_it_was_at_work(tmp_path):
    """Where it is asked to; its outputs know nothing of it."""
    root = Path(__file__).parent.parent
    words = ["base", "--starter", "starter/base", "--templates", "tasks/templates", "--out", str(tmp_path / "base")]
    env = {**os.environ, "NIGHTSHIFT_STAGE_TIMES": str(tmp_path / "times.json")}
    command = [sys.executable, "-m", "tasks", *words, "--metrics", str(tmp_path / "base.json")]
    subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)
    told = json.loads((tmp_path / "times.json").read_text())
    assert 0 < told["ended"] - told["began"] < 600 and environment.STAGE_TIMES == "NIGHTSHIFT_STAGE_TIMES"
    assert str(told["began"]) not in (tmp_path / "base.json").read_text()
