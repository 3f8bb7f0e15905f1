"""Pre-training: pure batches, the rate's schedule, and exact resumption after kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from starter import pretrain
from starter.batches import UNUSED, Shape, make_batch
from starter.world import COPY, RANDOM, TEXT

ROOT = Path(__file__).parent.parent
BASE = ROOT / "starter" / "base"
TINY = (
    "--width 64 --layers 1 --heads 2 --ff 64 --rows 2 --length 256 --warmup 10 --threads 1 --no-compile "
    "--steps 60 --decay-steps 20 --save-every 20 --check-every 40 --gate-every 20 --gate 0 --cases 2"
)


def test_batch_is_a_pure_function():
    """Equal (seed, step, level) give equal tensors; changing any of the three gives another batch."""
    tok, shape = AutoTokenizer.from_pretrained(BASE), Shape(2, 256)
    one, same = make_batch(tok, 1, 5, 0.5, shape), make_batch(tok, 1, 5, 0.5, shape)
    for field in ("inputs", "positions", "targets", "weights", "kinds"):
        assert torch.equal(getattr(one, field), getattr(same, field))
    for other in (
        make_batch(tok, 2, 5, 0.5, shape),
        make_batch(tok, 1, 6, 0.5, shape),
        make_batch(tok, 1, 5, 0.6, shape),
    ):
        assert not torch.equal(one.inputs, other.inputs)


def test_batch_scores_what_it_should():
    """K positions whatever the text; targets are the next tokens; padding weighs nothing, copied values weigh 1."""
    shape = Shape(4, 256)
    b = make_batch(AutoTokenizer.from_pretrained(BASE), 1, 3, 1.0, shape)
    assert b.inputs.shape == (4, 256)
    assert len(b.positions) == len(b.targets) == len(b.weights) == shape.scored == 512
    inside = b.positions % 256 < 255  # the next input is the target, except at the end of a row
    assert torch.equal(b.inputs.reshape(-1)[b.positions[inside] + 1], b.targets[inside])
    assert (b.weights[b.kinds == COPY] == 1).all() and (b.weights[b.kinds == UNUSED] == 0).all()
    text, first = b.weights[b.kinds == TEXT], b.weights[b.kinds == RANDOM]
    assert text.unique().numel() == 1 and text[0] / first[0] == pytest.approx(0.3 / 0.03)


def test_rate_warms_up_stays_and_falls_to_zero():
    """steps 100, decay 50, lr 1: 0.1 at step 0 of a warm-up of 10, 1 until step 100, half at 125, 1/50 at the last."""
    line = "--tokenizer t --out o --lr 1 --warmup 10 --steps 100 --decay-steps 50"
    args = pretrain.arguments(line.split())
    rates = [pretrain.rate(step, args) for step in (0, 9, 50, 100, 125, 149, 150)]
    assert rates == pytest.approx([0.1, 1, 1, 1, 0.5, 0.02, 0])


def test_rows_grow_at_level_one():
    """Half-length rows until the level is 1."""
    args = pretrain.arguments(["--tokenizer", "t", "--out", "o"])
    assert pretrain.shape_at(0.9, args) == Shape(8, 256)
    assert pretrain.shape_at(1.0, args) == Shape(8, 512)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The model in a run's checkpoint."""
    return torch.load(folder / "checkpoint.pt", weights_only=True)["model"]


def run_here(out: Path) -> dict:
    """The tiny run in this process."""
    threads = torch.get_num_threads()
    try:
        return pretrain.pretrain(pretrain.arguments([*TINY.split(), "--tokenizer", str(BASE), "--out", str(out)]))
    finally:
        torch.set_num_threads(threads)


def test_killed_run_resumes_to_the_same_weights(tmp_path: Path):
    """kill -9 after the first checkpoint, start again: weights and curve equal those of a run that nobody disturbed."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command = [sys.executable, "-m", "starter.pretrain", *TINY.split(), "--tokenizer", str(BASE), "--out", str(killed)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (killed / "checkpoint.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert torch.load(killed / "checkpoint.pt", weights_only=True)["state"]["step"] < 80
    state, expected = run_here(killed), run_here(whole)
    assert run_here(killed)["step"] == 80  # once more: nothing is left to do
    assert state["step"] == expected["step"] == 80 and state["tokens"] == expected["tokens"]
    assert [start["from_step"] > 0 for start in state["starts"]] == [False, True]
    first, second = weights_of(whole), weights_of(killed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    curves = [
        [{k: v for k, v in json.loads(line).items() if k not in ("wall_s", "cpu_s")} for line in text.splitlines()]
        for text in ((folder / "curve.jsonl").read_text() for folder in (whole, killed))
    ]
    assert curves[0] == curves[1] and [line["step"] for line in curves[0]] == [40, 80]
