"""`nightshift feedback`: what is kept and for how long, and how it is removed when somebody asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from tasks.errors import DataError
from tasks.feedback.harvest import FILE, prompt_id
from tasks.feedback.log import FOLDER, Log
from tasks.labelling.inbox import Batch, land
from tasks.params import Params


def _utc() -> datetime:
    return datetime.now(UTC)


def overview(root: Path, params: Params, now: Callable[[], datetime] = _utc) -> list[str]:
    """Counts in all and by release; never a text."""
    cfg = params.feedback
    lines = [f"feedback.log is {'on' if cfg.log else 'off'}; {FOLDER} is kept {cfg.days} days"]
    counts: dict[str, Counter[str]] = {}
    oldest: datetime | None = None
    for entry in Log(root, cfg.days, now).entries():
        of = counts.setdefault(entry.answered.release, Counter())
        of.update(["answers", *([entry.said.rating] if entry.said else [])])
        of["corrections"] += bool(entry.said and entry.said.correction)
        oldest = min(oldest or entry.answered.time, entry.answered.time)
    if oldest is None:
        return [*lines, "no answers kept"]
    columns = ("answers", "up", "down", "corrections")
    rows = [("release", *columns)]
    rows += [(release, *(str(of[name]) for name in columns)) for release, of in sorted(counts.items())]
    rows += [("all", *(str(sum(of[name] for of in counts.values())) for name in columns))]
    width = max(len(row[0]) for row in rows) + 2
    table = [f"{row[0]:<{width}}" + "".join(f"{cell:>13}" for cell in row[1:]) for row in rows]
    return [*lines, f"the oldest is of {oldest.astimezone(UTC):%Y-%m-%d %H:%M} UTC", "", *table]


def delete(root: Path, params: Params, answer: str) -> list[str]:
    """Remove one question, its answer and what was said of it; DataError where nothing has this id."""
    gone = Log(root, params.feedback.days).remove(answer)
    if gone is None:
        raise DataError(answer[:60], "is no answer that is kept", "take the answer's id, chatcmpl-…; by its age it may be gone")
    lines = [f"removed: the answer of {gone.answered.time:%Y-%m-%d}"]
    if gone.was_down:
        land(root, Batch(FILE, "id", [], [prompt_id(answer)]))
        lines.append(f"its prompt leaves data/{FILE} with the next night; earlier versions of data/ in DVC keep it")
    if gone.said and gone.said.correction:
        lines.append(f"its correction may lie in Label Studio: delete the task whose prompt_id is {answer}")
    return lines


def purge(root: Path, params: Params) -> list[str]:
    """Remove the whole log."""
    count = Log(root, params.feedback.days).purge()
    return [f"{FOLDER}: {count} files removed; prompts in data/ and tasks in Label Studio that came of it stay"]
