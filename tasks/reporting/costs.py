"""The page of what nights cost: the last one stage by stage, and all that are remembered beside each other."""

from __future__ import annotations

from collections.abc import Sequence

from tasks import costs
from tasks.costs import Run
from tasks.reporting.figures import Bar, Line, bars, curves
from tasks.reporting.page import render
from tasks.reporting.parts import Cell, Headline, Picture, Pictures, Section, Table
from tasks.reporting.words import per_cent, plural


def page(runs: Sequence[Run]) -> str:
    """The whole page; `runs` has at least one in which a stage ran, the oldest first."""
    told = [run for run in runs if run.stages]
    last = told[-1]
    when = last.began[:16].replace("T", " ")
    around = f"{per_cent(last.overhead or 0)} of the time no stage was at work: DVC, Prefect, commits, pushes."
    return render(
        title=f"What nights cost · {when}",
        eyebrow="Nightshift · costs",
        mood="",
        heading=f"The {last.flow} run of {when} took {costs.duration(last.seconds)}",
        why=[f"{plural(len(last.stages), 'stage')} ran. {around}"],
        headlines=[
            Headline("Time", costs.duration(last.seconds).replace(" ", "\u00a0"), "commits and pushes included"),
            Headline("Work", f"{last.cpu_seconds:,.0f}\u00a0CPU-s", "of all stages"),
            Headline("Memory", f"{last.peak_memory_bytes / 1e9:.2f}\u00a0GB", "of the largest process"),
            Headline("Outputs", f"{last.bytes / 1e6:,.0f}\u00a0MB", "before DVC finds what it has already"),
        ],
        sections=[Section("last", "The last run", _last(last, told)), Section("runs", "Over the nights", _over(told))],
    )


def _last(last: Run, told: Sequence[Run]) -> list[Pictures | Table]:
    rows = costs.table(last, told)
    drawn = [Bar(row["stage"], [(last.stages[row["stage"]].seconds, "one")], f"{row['seconds']} s") for row in rows]
    picture = Picture("Seconds a stage", bars(drawn, f"Seconds of {plural(len(rows), 'stage')}, the longest first"))
    caption = "Each stage: seconds with DVC around it, of its own process, and its median; its largest process; its outputs"
    names = list(rows[0])
    return [Pictures([picture]), Table(caption, names, [[row[name] for name in names] for row in rows])]


def _over(told: Sequence[Run]) -> list[Pictures | Table]:
    kinds = [
        ("Minutes a run", [(run.seconds / 60, run.own_seconds / 60) for run in told], ("whole", "a stage at work")),
        ("CPU-minutes a run", [(run.cpu_seconds / 60,) for run in told], ("all stages",)),
        ("Largest process, GB", [(run.peak_memory_bytes / 1e9,) for run in told], ("GB",)),
        ("Outputs, MB", [(run.bytes / 1e6,) for run in told], ("MB",)),
    ]
    pictures = []
    for title, values, names in kinds:
        lines = [Line(name, [(n + 1, value[at]) for n, value in enumerate(values)], kind, joined=len(values) > 2)
                 for at, (name, kind) in enumerate(zip(names, ("one", "two"), strict=False))]  # fmt: skip
        top = max(value for line in lines for _, value in line.points)
        alt = f"{title} over {plural(len(told), 'run')}, the last {lines[0].points[-1][1]:.1f}"
        pictures.append(Picture(title, curves(lines, alt, bounds=(0, top or 1), marks=_marks(len(told)))))
    rows = [
        [
            Cell(f"{run.began[:16].replace('T', ' ')}, {run.flow}"),
            costs.duration(run.seconds),
            f"{run.cpu_seconds:,.0f}",
            f"{run.peak_memory_bytes / 1e9:.2f}",
            f"{run.bytes / 1e6:,.0f}",
            per_cent(run.overhead or 0),
        ]
        for run in reversed(told)
    ]
    head = ["run", "time", "CPU-s", "GB", "MB out", "around the stages"]
    drawn = [Pictures(pictures)] if len(told) > 1 else []  # one run is no course of things
    return [*drawn, Table("Each run in which a stage ran, the last first", head, rows)]


def _marks(count: int) -> list[float]:
    """Numbers of runs along the axis."""
    step = max(1, round(count / 6))
    return [1.0, *(float(n) for n in range(1 + step, count, step)), float(count)] if count > 1 else []
