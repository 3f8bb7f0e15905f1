"""The two ways to have a release's artifacts again: compute them, or take them from DVC's cache and remote."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.bootstrap import bootstrap
from tasks.errors import DataError
from tasks.files import read_json
from tasks.reproduce.workspace import DVC, HERE, Workspace

RUNNING = re.compile(r"Running stage '([^']+)':$")
TAIL = 15  # lines of a failed stage that are shown

Ended = Callable[[str, float], None]  # stage, seconds


def compute(there: Workspace, stages: Sequence[str], whole: bool, ended: Ended, log: Path) -> list[str]:
    """`dvc repro` of these stages (`whole`: that is all of them), nothing taken from a cache but the raw data.

    `ended` is called as soon as a stage has ended. Returns why not all of them did; empty when they did.
    """
    there.run(*DVC, "fetch", "--remote", HERE, "data.dvc")  # what it has not, bootstrap looks for elsewhere
    try:
        bootstrap(there.root)
    except DataError as error:
        return [str(error)]
    clock, running, lines = time.monotonic(), "", []

    def on_line(line: str) -> None:
        nonlocal clock, running, lines
        begun = RUNNING.match(line)
        if begun:
            finish()
            clock, running, lines = time.monotonic(), begun[1], []
        elif line.strip():
            lines.append(line)

    def finish() -> None:
        if running in stages:
            ended(running, time.monotonic() - clock)

    targets = [] if whole else list(stages)
    with open(log, "w", encoding="utf-8") as file:
        code = there.stream((*DVC, "repro", "--force", "--no-run-cache", *targets), file, on_line)
    if code:
        return [f"stage {running or 'data.dvc'} failed; all that was said: {log}", *(f"    {line}" for line in lines[-TAIL:])]
    finish()
    return []


def restore(there: Workspace, stages: Sequence[str], whole: bool, ended: Ended, log: Path) -> list[str]:
    """The same artifacts out of the checkout's cache and, what that lacks, out of the remote. What is nowhere is
    missing afterwards; the lines say what DVC said about it."""
    clock = time.monotonic()
    targets = [] if whole else list(stages)
    with open(log, "w", encoding="utf-8") as file:
        there.stream((*DVC, "fetch", "--remote", HERE, *targets), file, lambda line: None)
        said: list[str] = []
        code = there.stream((*DVC, "fetch", *targets), file, said.append)
        there.stream((*DVC, "checkout", "--force", *targets), file, lambda line: None)
    for stage in stages:
        ended(stage, time.monotonic() - clock)
        clock = time.monotonic()
    return [f"dvc fetch: {line}" for line in said if line.strip()][-TAIL:] if code else []


def forecast(checkout: Path, stages: Sequence[str]) -> str:
    """What the last night here says about how long it will take."""
    costs = [read_json(path) for name in stages if (path := checkout / f".nightshift/costs/{name}.json").is_file()]
    if not costs:
        return "how long it takes is not known here: no night has run in this checkout"
    minutes, cpu = (sum(cost[key] for cost in costs) / 60 for key in ("seconds", "cpu_seconds"))
    return f"{len(costs)} of {len(stages)} stages took {minutes:.1f} min here last time, {cpu:.1f} of a processor"
