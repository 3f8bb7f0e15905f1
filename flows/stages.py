"""One stage of dvc.yaml as a Prefect task: its lines, its cost, and why it failed."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from prefect import get_run_logger
from prefect.states import Completed, State

from flows import dvc, steps
from tasks import costs, environment
from tasks.errors import ServiceError
from tasks.files import read_json, write_atomic

CHATTER = re.compile(  # lines of DVC and of libraries that say nothing about the work; the log file has them all
    r"> |Running stage|Updating lock|Generating lock|Use `dvc|To track|To enable|\s+(git add|dvc config)"
    r"|[WEI]\d{4} [\d:.]+ |(WARN|WARNING|INFO)\b|[┌│└]|(GPT-QModel|Transformers|Torch|Triton) +:"
)
FULL = 16 * 2**20  # bytes; with less left a disk counts as full
TAIL = 15  # lines of a failed stage that are shown


@steps.step
def stage(name: str, night: steps.Night, unchanged: bool) -> State[dvc.Outcome | None]:
    """One stage of dvc.yaml. Ends as Completed, as Cached, or fails with the stage's own last lines."""
    log = get_run_logger()
    if unchanged:
        night.screen.ended(name, "cached", note=_note(night, name))
        return Completed(name="Cached", message="nothing it depends on has changed")
    night.screen.running(name)

    def on_line(line: str) -> None:
        log.info(line)
        if not CHATTER.match(line):
            night.screen.running(name, line)

    times = night.root / f".nightshift/times/{name}.json"
    times.unlink(missing_ok=True)
    began, patience = time.time(), night.params.nightly.lock_minutes * 60
    outcome = dvc.repro(night.root, name, patience, on_line, {environment.STAGE_TIMES: str(times)})
    ended = outcome.ended
    if outcome.state == "ran":
        own = read_json(times) if times.is_file() else {"began": began, "ended": began + ended.seconds}  # no stage of ours
        night.costs[name] = costs.Stage(**own, seconds=round(ended.seconds, 2), cpu_seconds=round(ended.cpu_seconds, 2),
                                        peak_memory_bytes=ended.peak_memory_bytes)  # fmt: skip
    try:  # what only helps to look back does not fail a stage
        write_atomic(night.root / f".nightshift/logs/{name}.log", "\n".join(ended.lines) + "\n")
    except OSError as error:
        log.warning("its log is not kept: %s", error)
    if outcome.state == "failed":
        night.screen.ended(name, "FAILED", ended.seconds)
        remedy = f"mend it and run again (what ran is kept); all of it: .nightshift/logs/{name}.log"
        raise ServiceError(f"stage {name}", _full(night.root) + _why(name, ended.lines), remedy)
    if outcome.state == "cached":
        night.screen.ended(name, "cached", ended.seconds, _note(night, name))
        return Completed(name="Cached", message="DVC had its outputs", data=outcome)
    night.screen.ended(name, "ran", ended.seconds, _note(night, name))
    return Completed(
        message=f"{ended.seconds:.1f} s, {ended.cpu_seconds:.1f} CPU-s, {ended.peak_memory_bytes / 1e9:.2f} GB",
        data=outcome,
    )


def _note(night: steps.Night, name: str) -> str:
    return ", ".join(f"{label} {value}" for label, value in list(night.figures(name).items())[:2])


def _full(root: Path) -> str:
    """Whoever stumbles over a full disk first seldom says that it is full."""
    free = shutil.disk_usage(root).free
    if free >= FULL:
        return ""
    return f"the disk is full, {free / 1e6:.0f} MB are left (nightshift gc removes what no release needs): "


def _why(name: str, lines: list[str]) -> str:
    """The stage's own words: its one-line error where it ended with one, else DVC's reason or the stage's last lines."""
    of_dvc = f"ERROR: failed to reproduce '{name}': "
    said = [line for line in lines if not (CHATTER.match(line) or line.startswith(of_dvc))]
    reasons = [line.removeprefix(of_dvc) for line in lines if line.startswith(of_dvc)]
    if reasons and not reasons[-1].startswith("failed to run: "):  # the command came through, DVC did not
        return reasons[-1]
    # Indented lines go on with the one before.
    error = max((number for number, line in enumerate(said) if not line.startswith(" ")), default=0)
    if said and said[error].startswith(f"{name}: "):
        return "\n".join(said[error:]).removeprefix(f"{name}: ")
    return "failed with\n" + "\n".join(f"    {line}" for line in (said or lines)[-TAIL:])
