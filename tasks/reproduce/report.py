"""What came out of a reproduction: as JSON, and as lines with a table."""

from __future__ import annotations

from pydantic import Field

from tasks.figures import difference, text
from tasks.reports import Report
from tasks.reproduce.compare import Artifact

SHOWN = 5  # differences of one artifact in the table


class Figure(Report):
    """One of the figures a release is known by."""

    label: str = Field(description="its name in release.figures; the last word is its unit")
    released: float | None = Field(description="its value in the release")
    now: float | None = Field(description="its value in this reproduction")


class Step(Report):
    """One stage."""

    stage: str = Field(description="its name in dvc.yaml")
    seconds: float = Field(description="seconds it took")


class Reproduction(Report):
    """All of it. It is about one run on one machine and no stage's output, so it has seconds and a folder in it."""

    release: str = Field(description="id of the release")
    commit: str = Field(description="git commit that was checked out")
    way: str = Field(description="computed, from cache, or dry run")
    stack: dict[str, str] = Field(description="what differs from the release's stack: key → then → now")
    promised: list[str] = Field(description="stages whose bytes have to be the same")
    params: list[str] = Field(description="parameters restored from dvc.lock, because the commit has others")
    elsewhere: list[str] = Field(description="parts that another release has brought, and that were not made here")
    steps: list[Step] = Field(description="stages in the order in which they ended")
    artifacts: list[Artifact] = Field(description="what was compared")
    figures: list[Figure] = Field(description="the figures the release is known by, then and now")
    failed: list[str] = Field(description="why not everything came out; empty when it did")
    folder: str | None = Field(description="the work tree, where it was kept")

    @property
    def passed(self) -> bool:
        """Whether everything that has to be identical is, and everything is there."""
        return not self.failed and all(one.same for one in self.artifacts if one.promised) and all(
            one.found is not None for one in self.artifacts)  # fmt: skip

    def lines(self) -> list[str]:
        """For people: a table, then what differs, then the verdict."""
        if self.way == "dry run":
            return []
        width = max((len(one.path) for one in self.artifacts), default=0)
        rows = [f"  {one.path:<{width}}  {one.kind:<18}{one.said}{'' if one.promised or one.same else ' (not promised)'}"
                for one in self.artifacts]  # fmt: skip
        rest = [line for one in self.artifacts if not one.same for line in _detail(one)]
        figures = [figure for figure in self.figures if figure.now != figure.released]
        moved = [f"  {one.label}: {text(one.label, one.released)} → {text(one.label, one.now)}"
                 f" ({difference(one.label, one.now, one.released)})" for one in figures]  # fmt: skip
        same = len(self.figures) - len(figures)
        return [
            *rows,
            *(["", "what differs:", *rest] if rest else []),
            *(["", f"figures ({same} of {len(self.figures)} the same):", *moved] if moved else []),
            *(["", *self.failed] if self.failed else []),
            *(f"{part} was not made here" for part in self.elsewhere),
            "",
            self.verdict,
            *([f"kept: {self.folder}"] if self.folder else []),
        ]

    @property
    def verdict(self) -> str:
        """The last line."""
        due = [one for one in self.artifacts if one.promised]
        others = [one for one in self.artifacts if not one.promised]
        said = f"{sum(one.same for one in due)} of {len(due)} artifacts that have to be identical are"
        if others:
            said += f"; {sum(one.same for one in others)} of {len(others)} others are too"
        return f"{self.release}: {'reproduced' if self.passed else 'NOT REPRODUCED'}: {said}"


def _detail(one: Artifact) -> list[str]:
    found = f"{one.released[:12]} → {(one.found or 'nothing')[:12]}"
    shown = [f"      {line}" for line in one.differing[:SHOWN]]
    more = len(one.differing) - SHOWN
    return [f"  {one.path} ({one.kind}): {found}", *shown, *([f"      and {more} more"] if more > 0 else [])]


def verdict_of(artifacts: list[Artifact]) -> str:
    """One stage in a few words, as it ends."""
    if not artifacts:
        return "makes nothing"
    if all(one.same for one in artifacts):
        return "identical"
    promised = "" if any(one.promised and not one.same for one in artifacts) else " (not promised)"
    return ", ".join(f"{one.path} {one.said}" for one in artifacts if not one.same) + promised
