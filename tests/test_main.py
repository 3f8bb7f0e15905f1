"""The shell door: options from signatures, outputs complete or not at all, errors in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tasks.__main__ as door
from tasks.errors import DataError, ParamsError
from tasks.params import Seed
from tasks.reports import Report

ROOT = Path(__file__).parent.parent


class Copied(Report):
    """Report of the toy stage."""

    seed: int
    size: int


def copy(cfg: Seed, source: Path, out: Path) -> Copied:
    """A toy stage: copies its input, or fails half-way when the input says so."""
    (out / "first").write_text("1")
    text = source.read_text()
    if text == "bad":
        raise DataError(str(source), "is bad", "make it good")
    (out / "copy").write_text(text)
    return Copied(seed=cfg.value, size=len(text))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the toy stage on a text and return the folder it ran in."""
    monkeypatch.setattr(door, "stage_function", lambda name: copy)
    monkeypatch.setattr(door, "FAILED", tmp_path.with_name(f"{tmp_path.name}-failed"))

    def run(text: str) -> Path:
        (tmp_path / "source").write_text(text)
        door.run("copy", ["--source", str(tmp_path / "source"), "--out", str(tmp_path / "out"),
                          "--metrics", str(tmp_path / "metrics/copy.json"), "--params", str(ROOT / "params.yaml")])
        return tmp_path
    return run


def test_outputs_and_report_are_in_place(run):
    """Outputs, canonical report, and nothing else beside them."""
    folder = run("good")
    assert sorted(p.name for p in folder.iterdir()) == ["metrics", "out", "source"]
    assert (folder / "out/copy").read_text() == "good"
    assert (folder / "metrics/copy.json").read_text().splitlines()[1:] == [' "seed": 20261124,', ' "size": 4', "}"]


def test_a_failed_run_leaves_the_old_output_whole(run):
    """The half-written folder is gone, the good one from before stays."""
    run("good")
    with pytest.raises(DataError, match="is bad; make it good"):
        run("bad")
    assert (door.FAILED / "copy/out/first").read_text() == "1"  # kept to be read, out of the graph's way
    folder = Path(run("good again"))
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["copy", "first"]
    assert sorted(p.name for p in folder.iterdir()) == ["metrics", "out", "source"]


def count(out: Path, before: Path | None) -> Copied:
    """A toy stage that counts how often it has run, by its own former output."""
    size = int((before / "count").read_text()) + 1 if before else 1
    (out / "count").write_text(str(size))
    return Copied(seed=0, size=size)


def test_a_stage_may_read_its_former_output(tmp_path, monkeypatch):
    """Nothing at first, then what the last run left, also where a kill between two renames left it beside."""
    monkeypatch.setattr(door, "stage_function", lambda name: count)
    words = ["--out", str(tmp_path / "out"), "--metrics", str(tmp_path / "m.json"), "--params", str(ROOT / "params.yaml")]
    for size in (1, 2):
        door.run("count", words)
        assert (tmp_path / "out/count").read_text() == str(size)
    (tmp_path / "out").rename(tmp_path / ".out.old-1")
    door.run("count", words)
    assert (tmp_path / "out/count").read_text() == "3"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.json", "out"]
    with pytest.raises(SystemExit):
        door.run("count", [*words, "--before", str(tmp_path)])


def test_what_a_killed_run_left_is_cleared(run, tmp_path):
    """A part folder of a dead process does not pile up."""
    (tmp_path / ".out.part-1").mkdir()
    run("good")
    assert not (tmp_path / ".out.part-1").exists()


def test_a_missing_input_is_named_with_its_option(run, tmp_path, monkeypatch):
    """The option, the path and the remedy."""
    with pytest.raises(ParamsError, match=r"--source .*nowhere: does not exist; run the stage that writes it"):
        door.run("copy", ["--source", str(tmp_path / "nowhere"), "--out", "o", "--metrics", "m",
                          "--params", str(ROOT / "params.yaml")])


def test_the_real_door_knows_its_stages():
    """An unknown stage is refused with the list, before anything heavy is imported."""
    done = subprocess.run([sys.executable, "-m", "tasks", "stf"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "sft" in done.stderr
