"""Trainings in two processes under torchrun: the same as in one, up to rounding; errors, kills and what is left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import training_fixtures as tiny
import yaml
from safetensors.torch import load_file

from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tests.waiting import until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
OPTIONS = {"sft": ("dataset", "base"), "reward": ("dataset", "evaluation", "base", "sft"), "align": ("dataset", "base", "sft")}
PLAIN = {"lora": tiny.params().reward.lora.model_dump(mode="json")}  # no dropout: each process would draw its own


def run(folder: Path, stage: str, processes: int, **changes: object) -> subprocess.CompletedProcess[str]:
    """The stage as `dvc repro` runs it, in a folder of its own, with one thread a process."""
    return subprocess.run(command(folder, stage, processes, **changes), cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip


def command(folder: Path, stage: str, processes: int, **changes: object) -> list[str]:
    """Its command line; params.yaml lies in the folder."""
    params = tiny.params().model_dump(mode="json", by_alias=True)
    params["compute"] |= {"threads": 1, "device": "cpu"}
    params[stage] |= {**PLAIN, "processes": processes, **changes}
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    words = [word for name, path in tiny.inputs(stage).items() for word in (f"--{name}", str(path))]
    return [sys.executable, "-m", "tasks", stage, *words, "--out", "out", "--metrics", "metrics.json"]


@pytest.mark.parametrize("stage", ["sft", "reward", "align"])
def test_two_processes_learn_what_one_learns(stage, tmp_path):
    """Each batch holds the same rows, so every point of the curve and every weight agrees but for rounding. One folder, one
    report; nothing of the second process is left."""
    one, two = (tmp_path / str(count) for count in (1, 2))
    for folder, count in ((one, 1), (two, 2)):
        done = run(folder, stage, count)
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in two.iterdir()) == [".nightshift", "metrics.json", "out", "params.yaml"]
    assert tiny.names(one / "out") == tiny.names(two / "out")
    curves = [read_jsonl(folder / "out/curve.jsonl") for folder in (one, two)]
    assert [point["step"] for point in curves[0]] == [point["step"] for point in curves[1]]
    assert [point["loss"] for point in curves[1]] == pytest.approx([point["loss"] for point in curves[0]], abs=2e-4)
    weights = [load_file(folder / "out/adapter_model.safetensors") for folder in (one, two)]
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).abs().max() < 1e-3, name


def test_killed_in_the_middle_it_leaves_nobody_and_goes_on(tmp_path):
    """kill -9 of the stage ends torchrun and every process of the training; the next run resumes to the same bytes."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert run(calm, "sft", 2).returncode == 0
    process = subprocess.Popen(command(killed, "sft", 2), cwd=killed, env={**os.environ, "PYTHONPATH": str(ROOT)},
                               stderr=subprocess.DEVNULL)  # fmt: skip
    until(lambda: list(killed.glob(".nightshift/work/*/checkpoint-*/complete")))
    assert len(at_work(killed)) == 4  # the stage, torchrun, two processes
    process.kill()
    process.wait()
    until(lambda: not at_work(killed))
    done = run(killed, "sft", 2)
    assert done.returncode == 0 and done.stderr.count("resuming from checkpoint-") == 1, done.stderr
    assert sha256_tree(killed / "out") == sha256_tree(calm / "out")


def test_what_is_wrong_is_said_once_and_last(tmp_path):
    """The first process's error as the stage's own one line; a batch that cannot be shared evenly."""
    data = tmp_path / "data"
    for name in ("train", "eval"):
        write_jsonl(data / f"{name}.jsonl", [{"id": "1"}])
    words = command(tmp_path / "run", "sft", 2)
    words[words.index("--dataset") + 1] = str(data)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path / "run", capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.count("sft: ") == 1
    assert done.stderr.splitlines()[-1].startswith(f"sft: {data}/train.jsonl:1: ")
    assert not (tmp_path / "run/out").exists() and not list((tmp_path / "run").glob(".out.part-*"))
    assert "batch_size (8) must be a multiple of processes (3)" in run(tmp_path / "run", "sft", 3).stderr


def at_work(folder: Path) -> list[str]:
    """Commands of the processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").resolve() == folder and (command := (entry / "cmdline").read_bytes()):
                found.append(command.replace(b"\0", b" ").decode())
    return found
