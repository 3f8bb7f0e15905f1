"""A Label Studio that lives in this process: tasks with annotations, changed as people and the real server change them.

What `changed` gives has the shape of the real server's answer (1.23.2, tasks with fields=all): annotations beside drafts
and predictions, an e-mail address in `created_username`, `updated_at` of a task moved by each new, edited or deleted
annotation. Its clock goes one second a change.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import minigraph

from tasks.labelling.task import Task, ask
from tasks.params import Params, load

OWNER = "owner@example.org"
SALT = "salt of the tests"
BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)
PROJECTS = {"compare": 5, "rank": 6, "correction": 7}


def question(n: int, count: int = 2) -> Task:
    """A task of two answers side by side, or of three or four to rank."""
    said = [f"It opens at {hour}:{n % 60:02d}." for hour in range(8, 8 + count)]
    asked = [{"role": "user", "content": f"When does store {n} open?"}]
    return ask(
        f"prompt-{n}", asked, said, language="en", model="sft-0123456789ab", release="2026-11-23-aabbccdd", why="uncertain"
    )


def correction(n: int) -> Task:
    """A user's correction of an answer, to be approved."""
    told = {
        **question(n).data(),
        "kind": "correction",
        "prompt_id": f"answer-{n}",
        "task_hash": f"{n:032x}",
        "order": [0, 1],
        "answers": {"A": "At nine.", "B": f"It opens at 8:{n % 60:02d}, says the door."},
        "why": "feedback",
    }
    return Task.model_validate(told)


def choices(**chosen: str | list[str]) -> list[dict[str, Any]]:
    """Results of Choices controls."""
    return [
        {
            "from_name": name,
            "to_name": "prompt",
            "type": "choices",
            "id": f"r-{name}",
            "value": {"choices": [value] if isinstance(value, str) else value},
        }
        for name, value in chosen.items()
    ]


def rank(letters: str, confirmed: bool = True) -> list[dict[str, Any]]:
    """Results of a Ranker and its confirmation."""
    ranked = {"from_name": "rank", "to_name": "answers", "type": "ranker", "value": {"ranker": {"rank": list(letters)}}}
    return [ranked, *(choices(confirmed="yes") if confirmed else [])]


def approved(text: str) -> list[dict[str, Any]]:
    """Results of an approved correction."""
    return [
        {"from_name": "text", "to_name": "prompt", "type": "textarea", "value": {"text": [text]}},
        *choices(decision="approve"),
    ]


class Server:
    """See the module."""

    def __init__(self) -> None:
        self.tasks: dict[int, dict[str, Any]] = {}
        self.seconds, self.last = 0, 0
        self.asked: list[str | None] = []  # `since` of each call of `changed`

    def now(self) -> str:
        """The next second."""
        self.seconds += 1
        return (BEGAN + timedelta(seconds=self.seconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def send(self, *tasks: Task, kind: str | None = None) -> list[int]:
        """New tasks; their ids."""
        made = []
        for task in tasks:
            number = len(self.tasks) + 100
            self.tasks[number] = {
                "id": number,
                "project": PROJECTS[kind or task.kind],
                "data": {**task.data(), "html": "<p>x</p>"},
                "annotations": [],
                "drafts": [{"id": 9, "result": choices(verdict="A"), "user": OWNER}],
                "predictions": [{"id": 8, "result": choices(verdict="B")}],
                "updated_at": self.now(),
            }
            made.append(number)
        return made

    def annotate(self, task: int, result: list[dict[str, Any]], user: int = 1, skip: bool = False) -> int:
        """A new annotation; its id."""
        self.last += 1
        now = self.now()
        self.tasks[task]["annotations"].append(
            {
                "id": self.last,
                "completed_by": user,
                "result": result,
                "was_cancelled": skip,
                "lead_time": 4.5,
                "created_at": now,
                "updated_at": now,
                "task": task,
                "project": self.tasks[task]["project"],
                "created_username": f" {OWNER}, {user}",
            }
        )
        self.tasks[task]["updated_at"] = self.now()
        return self.last

    def edit(self, task: int, annotation: int, **fields: Any) -> None:
        """Another result, or a skip."""
        mine = next(a for a in self.tasks[task]["annotations"] if a["id"] == annotation)
        mine.update(fields, updated_at=self.now())
        self.tasks[task]["updated_at"] = self.now()

    def delete(self, task: int, annotation: int) -> None:
        """Gone, and the task has changed."""
        kept = [a for a in self.tasks[task]["annotations"] if a["id"] != annotation]
        self.tasks[task].update(annotations=kept, updated_at=self.now())

    def find_projects(self) -> dict[str, int]:
        """All three."""
        return PROJECTS

    def changed(self, project: int, since: str | None) -> Iterator[dict[str, Any]]:
        """Oldest change first."""
        self.asked.append(since)
        after = since and datetime.fromisoformat(since)
        mine = [task for task in self.tasks.values() if task["project"] == project]
        for task in sorted(mine, key=lambda task: task["updated_at"]):
            if not after or datetime.fromisoformat(task["updated_at"]) > after:
                yield copy.deepcopy(task)

    def export(self, path: Path) -> Path:
        """Its JSON export, where the author is an object."""
        told = copy.deepcopy(list(self.tasks.values()))
        for annotation in (a for task in told for a in task["annotations"]):
            annotation["completed_by"] = {"id": annotation["completed_by"], "email": OWNER, "first_name": "O"}
        path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        return path


def house(folder: Path) -> tuple[Path, Params]:
    """A repository with git, DVC and a little data; and its parameters."""
    root = minigraph.make(folder)
    return root, load(root / "params.yaml")


def rows(root: Path, file: str = "preferences/label-studio.jsonl") -> list[dict[str, Any]]:
    """Rows of a file of data/."""
    path = root / "data" / file
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
