"""Trainings in one process and in two (sft.processes): time, work, and how far apart what they learn is.

    python -m benchmarks.training              the starter's base on 1,024 rows, on a CPU: one process with two threads,
                                               one with one, two with one each
    python -m benchmarks.training --device cuda --rows 2048      one GPU against two

Each run is the stage as `dvc repro` starts it; its seconds are its own, from the first to the last step. It works in a temporary
folder and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from benchmarks import stages
from benchmarks.stages import ROOT
from tasks.files import read_jsonl
from tests.training_fixtures import write_dataset

RUNS = ((1, 2), (1, 1), (2, 1))  # (processes, threads of each)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024, metavar="N", help="instruction rows, two passes (default: 1,024)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    params = stages.params()
    params["sft"] |= {"epochs": 2, "log_every": 1, "save_every": 1000, "batch_size": 16}
    params["sft"]["lora"]["dropout"] = 0.0  # each process would draw its own
    rows: list[tuple[int, int, float, float, list[float]]] = []
    with tempfile.TemporaryDirectory(prefix="training-") as name:
        folder = Path(name)
        write_dataset(folder / "dataset", instructions=given.rows, pairs=8, held_out=8)
        params["compute"] |= {"device": given.device, "threads": 2}
        stages.run(folder, "base", params, starter=ROOT / "starter/base", templates=ROOT / "tasks/templates")
        idle = {**params, "sft": {**params["sft"], "epochs": 1, "learning_rate": 1e-9}}  # what is around the steps
        write_dataset(folder / "little", instructions=16, pairs=8, held_out=8)
        for processes, threads in RUNS:
            told = {}
            for kind, cfg, dataset in (("around", idle, "little"), ("all", params, "dataset")):
                cfg = {**cfg, "compute": {**cfg["compute"], "threads": threads}, "sft": {**cfg["sft"], "processes": processes}}
                told[kind] = stages.run(folder, "sft", cfg, dataset=folder / f"{dataset}/instructions", base=folder / "base")
            curve = [point["loss"] for point in read_jsonl(folder / "sft/curve.jsonl")]
            every, around = told["all"], told["around"]
            rows.append((processes, threads, every.seconds - around.seconds, every.cpu - around.cpu, curve))
        steps = len(rows[0][4])
        print(json.dumps({"rows": given.rows, "steps": steps, "device": given.device, "cores": os.cpu_count()}))
    print("| processes × threads | seconds, first = 1 | CPU-seconds, first = 1 | largest difference of the loss |")
    print("| --- | --- | --- | --- |")
    for processes, threads, seconds, cpu, curve in rows:
        apart = max(abs(a - b) for a, b in zip(curve, rows[0][4], strict=True))
        took, work = f"{seconds / rows[0][2]:.2f} ({seconds:.1f} s)", f"{cpu / rows[0][3]:.2f}"
        print(f"| {processes} × {threads} | {took} | {work} | {apart:.1e} |")


if __name__ == "__main__":
    main()
