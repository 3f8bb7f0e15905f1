"""Forms of Label Studio's queries and answers. What reads an answer raises an error for what is not the server's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

Row = dict[str, Any]


def where(name: str, operator: str, kind: str, value: str | int) -> Row:
    """One condition on tasks."""
    return {"filter": f"filter:tasks:{name}", "operator": operator, "type": kind, "value": value}


def query(filters: Sequence[Row], order: str) -> str:
    """Tasks that all the conditions let through, by a field."""
    return json.dumps({"filters": {"conjunction": "and", "items": list(filters)}, "ordering": [f"tasks:{order}"]})


def projects(answer: Any) -> tuple[list[tuple[int, str]], int]:
    """Ids and titles of one page, and how many projects there are."""
    rows = [(project.id, project.title) for project in answer.results]
    if not all(isinstance(number, int) and isinstance(title, str) for number, title in rows):
        raise ValueError  # not to be seen is not to be missing: another project would be made
    return rows, int(answer.count)


def task(row: Row, timed: bool) -> Row:
    """A task as it came, `updated_at` in the form that filters read."""
    if not isinstance(row["id"], int) or not isinstance(row["data"], dict):
        raise ValueError
    return {**row, "updated_at": moment(row["updated_at"])} if timed else row


def hash_of(row: Row) -> str:
    """What a task asks (tasks/labelling/task.py); empty for a task of somebody else."""
    return str(row["data"].get("task_hash", ""))


def untouched(row: Row) -> bool:
    """Whether nobody has judged or skipped a task."""
    return row.get("total_annotations") == 0 and row.get("cancelled_annotations") == 0


def state(row: Row) -> tuple[int, str]:
    """A task at one moment."""
    return row["id"], row["updated_at"]


def moment(text: str) -> str:
    """A moment in UTC with microseconds; one without a zone is UTC."""
    read = datetime.fromisoformat(text)
    read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    return read.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
