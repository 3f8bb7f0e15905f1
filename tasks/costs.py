"""What nights cost: a row a run in .nightshift/costs.jsonl, beside all that is hashed: equal inputs never cost the same twice.

A stage's own work is its process; the rest of a run is orchestration: DVC around the stage, Prefect, commits and pushes.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.lock import WORK

KEPT = WORK / "costs.jsonl"
PAGE = WORK / "costs.html"


class Stage(BaseModel):
    """One stage that ran."""

    model_config = ConfigDict(extra="ignore")

    began: float = Field(description="begin of its own process, seconds since 1970")
    ended: float = Field(description="end of it")
    seconds: float = Field(description="with DVC around it")
    cpu_seconds: float = Field(description="of all its processes, DVC's too")
    peak_memory_bytes: int = Field(description="of its largest process")
    bytes: int = Field(default=0, description="size of its outputs")


class Run(BaseModel):
    """One run of a flow; a stage that was cached cost nothing, and is not in it."""

    model_config = ConfigDict(extra="ignore")

    flow: str = Field(description="nightly or reindex")
    began: str = Field(description="ISO 8601, local time")
    seconds: float = Field(description="from begin to end, commits and pushes included")
    stages: dict[str, Stage] = Field(description="stage → what it cost")

    @property
    def own_seconds(self) -> float:
        """Seconds in which at least one stage's own process was at work."""
        return union((one.began, one.ended) for one in self.stages.values())

    @property
    def overhead(self) -> float | None:
        """Share of the run in which no stage was at work; None where none ran."""
        return max(0.0, 1 - self.own_seconds / self.seconds) if self.stages and self.seconds else None

    @property
    def cpu_seconds(self) -> float:
        """Of all stages."""
        return sum(one.cpu_seconds for one in self.stages.values())

    @property
    def peak_memory_bytes(self) -> int:
        """Of the largest process."""
        return max((one.peak_memory_bytes for one in self.stages.values()), default=0)

    @property
    def bytes(self) -> int:
        """Of all outputs that were made."""
        return sum(one.bytes for one in self.stages.values())


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Length of what the spans (begin, end) cover together."""
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def keep(root: Path, run: Run) -> None:
    """Append a run; a row that a kill has torn is left behind as a line of its own."""
    path = root / KEPT
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        torn = file.tell() > 0 and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n"
        file.write((b"\n" if torn else b"") + run.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(root: Path, most: int = 30) -> list[Run]:
    """The last runs, the oldest first; lines that are none are passed over."""
    path, found = root / KEPT, []
    for line in reversed(path.read_bytes().splitlines() if path.is_file() else []):
        try:
            found.append(Run.model_validate_json(line))
        except ValidationError:
            continue
        if len(found) == most:
            break
    return found[::-1]


def usual(runs: Sequence[Run], stage: str) -> float | None:
    """Median seconds of a stage over the runs in which it ran."""
    seconds = [run.stages[stage].seconds for run in runs if stage in run.stages]
    return statistics.median(seconds) if seconds else None


def line(run: Run) -> str:
    """A run in one line."""
    if not run.stages:
        return f"{duration(run.seconds)}, no stage ran"
    space = f"largest process {run.peak_memory_bytes / 1e9:.2f} GB, outputs {run.bytes / 1e6:,.0f} MB"
    return f"{duration(run.seconds)}, {run.cpu_seconds:,.0f} CPU-s, {space}, {run.overhead:.1%} of the time around the stages"


def duration(seconds: float) -> str:
    """Seconds as a person says them: "95.0 s", "11 min 49 s"."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds // 60):,} min {int(seconds % 60)} s"


def table(run: Run, runs: Sequence[Run]) -> list[dict[str, str]]:
    """A row a stage of `run`, the dearest first, beside its median over `runs`."""
    order = sorted(run.stages.items(), key=lambda item: -item[1].seconds)
    return [
        {
            "stage": name,
            "seconds": f"{one.seconds:.1f}",
            "its own": f"{one.ended - one.began:.1f}",
            "usual": f"{usual(runs, name):.1f}",
            "CPU-s": f"{one.cpu_seconds:.1f}",
            "GB": f"{one.peak_memory_bytes / 1e9:.2f}",
            "MB out": f"{one.bytes / 1e6:,.1f}",
        }
        for name, one in order
    ]


def lines(root: Path, most: int) -> list[str]:
    """`nightshift costs`: the last run in which stages ran, stage by stage, and the runs before it."""
    runs = read(root, most)
    told = [run for run in runs if run.stages]
    if not told:
        return ["no run has been measured here yet: make nightly"]
    rows = table(told[-1], told)
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    said = [f"{told[-1].flow} of {told[-1].began[:16].replace('T', ' ')}: {line(told[-1])}", ""]
    for row in [{name: name for name in rows[0]}, *rows]:
        first, *others = row.items()
        said.append(f"  {first[1]:<{widths['stage']}}  " + "  ".join(f"{value:>{widths[name]}}" for name, value in others))
    said += ["", f"the last {len(runs)} runs" if len(runs) > 1 else "the only run"]
    said += [f"  {run.began[:16].replace('T', ' ')}  {run.flow:<8} {line(run)}" for run in reversed(runs)]
    return [*said, *([f"as a page: {root / PAGE}"] if (root / PAGE).is_file() else [])]
