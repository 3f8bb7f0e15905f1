"""A killed training goes on from its newest complete checkpoint and ends with the same bytes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
import training_fixtures as tiny

from tasks.files import sha256_tree
from tasks.training import checkpoints


def left(stage: str) -> list[Path]:
    """Work folders of a stage that a run left behind."""
    return sorted((tiny.world() / checkpoints.WORK).glob(f"{stage}-*"))


def test_kill_9_while_a_checkpoint_is_written(tmp_path):
    """SIGKILL in the second save of SFT with dropout; the next run resumes from the first and is bit-identical."""
    whole = sha256_tree(tiny.trained("sft"))
    tiny.killed("sft", tmp_path / "dead", 2, torn=True)
    (work,) = left("sft")
    assert sorted(p.name for p in work.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-8"]
    assert not (work / "checkpoint-8" / checkpoints.MARKER).exists()

    tiny.run_stage("sft", tmp_path / "out", **tiny.inputs("sft"))
    assert sha256_tree(tmp_path / "out") == whole
    assert left("sft") == []  # nothing stays behind after success


@pytest.mark.parametrize("stage", ["reward", "align"])
def test_pairs_resume_bit_identically(stage, tmp_path, monkeypatch):
    """The same for the reward model (with its head) and for DPO (with its reference)."""
    whole = sha256_tree(tiny.trained(stage))
    others = left(stage)  # of runs that were refused on purpose, in other tests
    mark, seen = checkpoints.mark_complete, []

    def fail_second(checkpoint):
        seen.append(checkpoint)
        if len(seen) == 2:
            raise KeyboardInterrupt
        mark(checkpoint)

    monkeypatch.setattr(checkpoints, "mark_complete", fail_second)
    with pytest.raises(KeyboardInterrupt):
        tiny.run_stage(stage, tmp_path / "dead", **tiny.inputs(stage))
    monkeypatch.setattr(checkpoints, "mark_complete", mark)
    assert len(left(stage)) == len(others) + 1
    tiny.run_stage(stage, tmp_path / "out", **tiny.inputs(stage))
    assert sha256_tree(tmp_path / "out") == whole and left(stage) == others


def test_the_newest_complete_one_counts(tmp_path):
    """By number, not by name; what has no marker is removed, for the trainer would take it and fail."""
    for step in (4, 8, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
    for step in (4, 8):
        checkpoints.mark_complete(tmp_path / f"checkpoint-{step}")
    assert checkpoints.newest_complete(tmp_path) == tmp_path / "checkpoint-8"
    assert not (tmp_path / "checkpoint-12").exists()
    (tmp_path / "checkpoint-20").mkdir()
    checkpoints.mark_complete(tmp_path / "checkpoint-20")
    assert checkpoints.newest_complete(tmp_path) == tmp_path / "checkpoint-20"  # 20 > 8, though "2" < "8"


def test_nothing_to_resume(tmp_path):
    """An empty folder gives None."""
    assert checkpoints.newest_complete(tmp_path) is None


def test_the_fingerprint_follows_settings_and_inputs(tmp_path):
    """A changed rate, row or stage is another run; the same again is the same."""
    params = tiny.params()
    shutil.copytree(tiny.world() / "dataset", tmp_path / "data")
    args = ("sft", {"sft": params.sft}, {"dataset": tmp_path / "data"})
    first = checkpoints.fingerprint(*args)
    assert first == checkpoints.fingerprint(*args) and len(first) == 16
    rate = params.sft.model_copy(update={"learning_rate": 1e-4})
    assert checkpoints.fingerprint("sft", {"sft": rate}, {"dataset": tmp_path / "data"}) != first
    assert checkpoints.fingerprint("align", {"sft": params.sft}, {"dataset": tmp_path / "data"}) != first
    with open(tmp_path / "data" / "instructions" / "train.jsonl", "a") as file:
        file.write("{}\n")
    assert checkpoints.fingerprint(*args) != first


def test_forgotten_work_is_thrown_away_after_a_week(tmp_path, monkeypatch):
    """Another run's folder stays while it is fresh, for it may be running."""
    monkeypatch.chdir(tmp_path)
    fresh, old = checkpoints.WORK / "sft-fresh", checkpoints.WORK / "sft-old"
    for folder in (fresh, old):
        folder.mkdir(parents=True)
    eight_days_ago = time.time() - 8 * 24 * 3600
    os.utime(old, (eight_days_ago, eight_days_ago))
    mine = checkpoints.open_work("sft", {}, {})
    assert mine.is_dir() and fresh.is_dir() and not old.exists()
    checkpoints.close_work(mine)
    checkpoints.close_work(mine)  # twice is no error
    assert not mine.exists()
