"""The two ways to have a release's artifacts again: compute them, or take them from DVC's cache and remote."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks import costs
from tasks.bootstrap import DATA, EXAMPLES, bootstrap, dvc_hash, tracked_hash
from tasks.errors import DataError
from tasks.files import write_atomic
from tasks.reproduce.workspace import DVC, HERE, Workspace

RUNNING = re.compile(r"Running stage '([^']+)':$")
TAIL = 15  # lines of a failed stage that are shown

Ended = Callable[[str, float], None]  # stage, seconds


def compute(there: Workspace, stages: Sequence[str], whole: bool, ended: Ended, log: Path) -> list[str]:
    """`dvc repro` of these stages (`whole`: that is all of them), nothing taken from a cache but the raw data.

    `ended` is called as soon as a stage has ended. Returns why not all of them did; empty when they did.
    """
    try:
        restore_data(there)
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
    work_alone(there.root)
    with open(log, "w", encoding="utf-8") as file:
        code = there.stream((*DVC, "repro", "--force", "--no-run-cache", *targets), file, on_line)
    if code:
        return [f"stage {running or 'data.dvc'} failed; all that was said: {log}", *(f"    {line}" for line in lines[-TAIL:])]
    finish()
    return []


def work_alone(root: Path) -> None:
    """Let each stage do its work itself, whatever cluster the night had: no byte depends on it (tasks/spread)."""
    import yaml

    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if params.get("scale", {}).get("engine", "local") != "local":
        params["scale"]["engine"] = "local"
        write_atomic(path, yaml.safe_dump(params, sort_keys=False, allow_unicode=True))


def restore_data(there: Workspace) -> None:
    """data/ as the commit's data.dvc names it: from the examples, the checkout's cache, or the remote. DataError where none
    has it."""
    examples = there.root / EXAMPLES
    if not (examples.is_dir() and dvc_hash(examples) == tracked_hash(there.root / f"{DATA}.dvc")):
        take(there, [f"{DATA}.dvc"], [HERE])
    bootstrap(there.root)


def restore(there: Workspace, stages: Sequence[str], whole: bool, ended: Ended, log: Path) -> list[str]:
    """The same artifacts out of the checkout's cache and, what that lacks, out of the remote. What is nowhere is
    missing afterwards; the lines say what DVC said about it."""
    clock = time.monotonic()
    failed = take(there, None if whole else list(stages), [HERE, None])
    write_atomic(log, "".join(f"{line}\n" for line in failed))
    for stage in stages:
        ended(stage, time.monotonic() - clock)
        clock = time.monotonic()
    return failed


def take(there: Workspace, targets: list[str] | None, remotes: list[str | None]) -> list[str]:
    """Fetch from each remote (None: the default one) what the former ones had not, and put it in place; what DVC said where
    something is in none."""
    from dvc.exceptions import CheckoutError, DvcException
    from dvc.repo import Repo

    said: list[str] = []
    with contextlib.chdir(there.root), Repo() as repo:
        for remote in remotes:
            try:
                repo.fetch(targets=targets, remote=remote)
                said = []
                break
            except DvcException as error:
                said = [f"dvc fetch: {line}" for line in str(error).splitlines() if line.strip()]
        with contextlib.suppress(CheckoutError):  # what it lacks is missing then, and found to be
            repo.checkout(targets=targets, force=True)
    return said


def forecast(checkout: Path, stages: Sequence[str]) -> str:
    """How long computing took when these stages ran here last."""
    last = {name: cost for run in costs.read(checkout) for name, cost in run.stages.items() if name in stages}
    if not last:
        return "how long it takes is not known here: no night has run in this checkout"
    minutes, cpu = (sum(getattr(cost, key) for cost in last.values()) / 60 for key in ("seconds", "cpu_seconds"))
    return f"{len(last)} of {len(stages)} stages took {minutes:.1f} min here last time ({cpu:.1f} min of one processor)"
