"""A stage as `dvc repro` starts it, in a process of its own, and what it took."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.files import read_json, size

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Took:
    """Cost and outcome of a stage."""

    seconds: float
    cpu: float  # seconds of all its processes
    peak: float  # GB, as the stage says of itself; 0 where it says nothing
    megabytes: float  # of its output
    report: dict[str, Any]  # metrics/<stage>.json


def params() -> dict[str, Any]:
    """params.yaml, to be changed."""
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def run(folder: Path, name: str, settings: dict[str, Any], out: str | None = None, **options: Path) -> Took:
    """Run a stage in `folder` with these params.yaml, into folder/out (its name if None). Ends this process with the stage's last
    words where it fails."""
    out = out or name
    (folder / "params.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    places = {"docs-out" if name == "validate" else "out": folder / out, "metrics": folder / f"{out}.json"}
    words = [word for option, path in {**options, **places}.items() for word in (f"--{option}", str(path))]
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-m", "tasks", name, *words], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-3000:]}")
    seconds, after = time.monotonic() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    peak = re.search(r"peak memory ([\d.]+) GB", done.stderr)
    return Took(seconds, cpu, float(peak[1]) if peak else 0.0, size(folder / out) / 1e6, read_json(folder / f"{out}.json"))
