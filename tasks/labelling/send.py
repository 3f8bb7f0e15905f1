"""Tasks that are not there yet, to Label Studio: `send` asks people about the answers that stage `select` chose.

What users complained of comes first, also where the queue is full; the rest in the order of the stage, until
`labelling.queue` tasks wait for a person.
A task is known by its hash on the server and in data/preferences, so doing this twice, or again after a kill between two
chunks, sends nothing twice. The caller lets one `send` run at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from tasks import records
from tasks.errors import DataError, ParamsError
from tasks.files import read_jsonl
from tasks.labelling import html, label_studio, secrets
from tasks.labelling.label_studio import LabelStudio
from tasks.labelling.task import LETTERS, Kind, Task, Why, ask
from tasks.params import Params

JUDGED = ("preferences", "instructions")  # kinds of data whose rows name the task they come from
WORDS: dict[Why, str] = {
    "feedback": "users were not content",
    "uncertain": "the reward model is least sure",
    "random": "by chance",
}


@dataclass(frozen=True)
class Sent:
    """What a call sent, or would send."""

    tasks: Counter[tuple[Kind, Why]]
    there: int  # left out: on the server, or judged already
    beyond: int  # left for later: the queue is full
    waiting: int  # tasks that waited for a person before
    queue: int  # that may
    dry: bool

    def rows(self) -> list[dict[str, Any]]:
        """A table: tasks by kind and reason."""
        return [{"kind": kind, "why": WORDS[why], "tasks": count} for (kind, why), count in sorted(self.tasks.items())]

    def __str__(self) -> str:
        """One paragraph."""
        count = self.tasks.total()
        done = "to send" if self.dry else "sent"
        lines = [f"{count} {'task' if count == 1 else 'tasks'} {done}, {self.waiting} waited already "
                 f"(labelling.queue: {self.queue})"]
        lines += [f"  {row['tasks']} {row['kind']}: {row['why']}" for row in self.rows()]
        lines += [f"  {self.there} left out: sent or judged before"] if self.there else []
        lines += [f"  {self.beyond} left for later: the queue is full"] if self.beyond else []
        return "\n".join(lines)


def send(root: Path, params: Params, dry_run: bool = False, extra: Sequence[Task] = ()) -> Sent:
    """Fill the queue from stage select's output and `extra` tasks (corrections to approve); see the module.

    ParamsError when labelling is not set up, DataError when there is nothing to choose from, ServiceError from the server.
    """
    if params.labelling.url is None:
        raise ParamsError("labelling.url", "is null: there is no server to send to",
                          "run make label-studio and set it to http://127.0.0.1:8080, or write your own server's address")
    wanted = [*extra, *selected(root)]
    token = secrets.value(root, secrets.TOKEN)
    with label_studio.connect(params.labelling.url, token, params.labelling) as server:
        return _fill(server, wanted, judged(root / "data"), params.labelling.queue, dry_run)


def _fill(server: LabelStudio, wanted: Sequence[Task], known: set[str], queue: int, dry: bool) -> Sent:
    projects = server.find_projects() if dry else server.ensure_projects()
    for project in projects.values():
        known = known | (server.task_hashes(project) if dry else server.settle(project))
    waiting = sum(server.waiting(project) for project in projects.values())
    asked: dict[str, Task] = {}
    for task in wanted:
        asked.setdefault(task.task_hash, task)
    fresh = sorted((task for name, task in asked.items() if name not in known), key=lambda task: task.why != "feedback")
    urgent = sum(task.why == "feedback" for task in fresh)  # people complained: a full queue is no reason to wait
    chosen = fresh[: max(urgent, queue - waiting)]
    for kind in projects if not dry else ():
        server.add(projects[kind], [{**task.data(), **html.shown(task)} for task in chosen if task.kind == kind])
    tasks = Counter((task.kind, task.why) for task in chosen)
    return Sent(tasks, len(asked) - len(fresh), len(fresh) - len(chosen), waiting, queue, dry)


def selected(root: Path) -> list[Task]:
    """The tasks of stage select's output, in its order."""
    path = records.output_of(root, "select") / "selected.jsonl"
    if not path.is_file():
        raise DataError(str(path), "is missing: no answers have been chosen yet", "run a night: make nightly")
    release = records.live(root)
    return [_task(row, release, f"{path}:{number}") for number, row in enumerate(read_jsonl(path), 1)]


def judged(data: Path) -> set[str]:
    """Hashes of the tasks whose judgements are in data/ already."""
    return {row["task"] for kind in JUDGED for path in sorted((data / kind).rglob("*.jsonl")) for row in _lines(path)}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if '"task"' in line:  # rows of other origins need not be read
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue  # stage validate says so
                if isinstance(row, dict) and isinstance(row.get("task"), str):
                    yield row


def _task(row: dict[str, Any], release: str | None, place: str) -> Task:
    try:
        answers, why = row["answers"], row["why"]
        if not isinstance(answers, list) or not 2 <= len(set(answers)) == len(answers) <= len(LETTERS):
            raise ValueError
        if not row["messages"] or why not in get_args(Why):
            raise ValueError
        return ask(row["id"], row["messages"], answers, language=row["language"], model=row["model"], release=release, why=why)
    except (KeyError, TypeError, ValueError):
        raise DataError(place, "is no row of stage select: id, messages, language, two to four different answers, why, model",
                        "run the stage again: dvc repro --force select") from None
