"""What people said, into rows: nothing lost, nothing doubled, nothing invented.

A task of Label Studio comes with all its annotations, from the server or from its JSON export (where `completed_by` may be
an object, e-mail address and all). Each annotation is a row, or says that there is nothing to learn (a correction that was
skipped or rejected), or is malformed and comes with the reason: the server checks none of what it stores. Drafts and
predictions are nobody's judgement and are passed over, and so are controls that a team has added to its page.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from tasks.labelling import results
from tasks.labelling.people import masked
from tasks.labelling.task import LETTERS, Task, task_hash

PREFERENCES, CORRECTIONS = "preferences/label-studio.jsonl", "instructions/feedback.jsonl"  # below data/
KEY = "annotation"  # names a row of both
BEGINNING = "annotation"  # of the file names of what is quarantined
REASONS, FLAGS = ("helpful", "honest", "harmless"), ("all_bad", "unsafe")
KEPT = ("id", "result", "was_cancelled", "created_at", "updated_at", "lead_time", "task", "project")  # of what is quarantined

SURROGATE = re.compile(r"[\ud800-\udfff]")

Row = dict[str, Any]


@dataclass(frozen=True)
class Quarantined:
    """An annotation that is no row, and why."""

    annotation: str  # its id there
    task: str
    project: str
    reason: str
    raw: dict[str, Any]  # without anybody's address

    @property
    def name(self) -> str:
        """What its file is called: the same each time that it is read."""
        return file_name(self.project, self.task, self.annotation)

    def __str__(self) -> str:
        return f"annotation {self.annotation} of task {self.task}, project {self.project}: {self.reason}"


@dataclass(frozen=True)
class Said:
    """What the annotations of one task come to."""

    place: str  # project/task in Label Studio
    task_hash: str | None  # None: not a task of ours
    rows: dict[str, list[Row]] = field(default_factory=lambda: {PREFERENCES: [], CORRECTIONS: []})  # file below data/ → rows
    nothing: dict[str, str] = field(default_factory=dict)  # of which there is nothing to learn (skipped, rejected) → when
    quarantined: list[Quarantined] = field(default_factory=list)
    read: list[str] = field(default_factory=list)  # file names (as of quarantined ones) of those that are well


def read(task: Mapping[str, Any], project: int | None, name: Callable[[int], str]) -> Said:
    """Rows of one task. `project` where the task does not tell; `name` gives an annotator's name by their id."""
    at = _text(task.get("project") if task.get("project") is not None else project), _text(task.get("id"))
    asked, why = _asked(task.get("data"))
    said = Said("/".join(at), asked and asked.task_hash)
    for annotation in task.get("annotations") or []:
        id_ = _id(annotation)
        try:
            if asked is None:
                raise results.Malformed(why)
            _one(said, asked, annotation, name)
            said.read.append(file_name(*at, id_))
        except results.Malformed as reason:
            said.quarantined.append(Quarantined(id_, at[1], at[0], str(reason), _raw(annotation, task.get("data"), name)))
    return said


def file_name(project: str, task: str, annotation: str = "") -> str:
    """What a quarantined annotation's file is called; without `annotation`, what all of a task begin with."""
    return "-".join([BEGINNING, *(re.sub(r"\W+", "_", part)[:40] for part in (project, task, annotation))])


def moment(told: Any) -> datetime | None:
    """A time as the server tells it; None where it tells none."""
    try:
        at = datetime.fromisoformat(told)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _asked(data: Any) -> tuple[Task | None, str]:
    """The task as it was sent; else None, and what is wrong with it."""
    if not isinstance(data, dict) or "nightshift" not in data:
        return None, "its task is none of Nightshift's (no 'nightshift' in its data)"
    try:
        task = Task.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"its task's data is not as it was sent: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    counts = {"compare": (2,), "rank": (3, 4), "correction": (2,)}[task.kind]
    if len(task.answers) not in counts or "".join(task.answers) != LETTERS[: len(task.answers)]:
        return None, f"its task's data is not as it was sent: a {task.kind} of the answers {', '.join(task.answers) or 'none'}"
    if not re.fullmatch(r"[0-9a-f]{32}", task.task_hash) or not task.messages:
        return None, "its task's data is not as it was sent: 'task_hash' or 'messages'"
    if task.kind != "correction":
        try:
            same = task_hash(task.kind, task.messages, list(task.answers.values())) == task.task_hash
        except KeyError as missing:
            return None, f"its task's data is not as it was sent: a message without {missing}"
        if not same or sorted(task.order) != list(range(len(task.answers))):
            return None, "its task's data is not as it was sent: its texts are not those that its hash names"
    return task, ""


def _one(said: Said, asked: Task, annotation: Any, name: Callable[[int], str]) -> None:
    """Add one annotation; Malformed says why not."""
    if not isinstance(annotation, dict) or type(annotation.get("id")) is not int:
        raise results.Malformed("it has no id")
    if SURROGATE.search(json.dumps([annotation, asked.data()], ensure_ascii=False)):
        raise results.Malformed("it holds half a character, which no file can hold")
    skipped = annotation.get("was_cancelled") or False
    if not isinstance(skipped, bool):
        raise results.Malformed("'was_cancelled' is neither true nor false")
    about = {
        "annotator": name(_person(annotation)),
        KEY: f"ls{annotation['id']}-{asked.task_hash[:8]}",
        "updated": _moment(annotation),
        "language": asked.language,
        "release": asked.release,
        "task": asked.task_hash,
        "place": said.place,
    }
    set_ = annotation.get("result")  # controls of the page
    if not isinstance(set_, list) or not all(isinstance(item, dict) for item in set_):
        raise results.Malformed("its result is not a list of controls")
    if asked.kind != "correction":
        said.rows[PREFERENCES].append(_preference(asked, about, set_, skipped, annotation.get("lead_time")))
    elif skipped or results.single(set_, "decision", ("approve", "reject"), "decision") == "reject":
        said.nothing[about[KEY]] = about["updated"]
    else:
        answered = {"role": "assistant", "content": results.corrected(set_)}
        said.rows[CORRECTIONS].append({"id": f"feedback-{asked.prompt_id}", "messages": [*asked.messages, answered], **about})


def _preference(asked: Task, about: Row, set_: Sequence[Row], skipped: bool, lead_time: Any) -> Row:
    ranking, reasons, flags = [], [], []
    if not skipped:
        ranking = results.compared(set_) if asked.kind == "compare" else results.ranked(set_, list(asked.answers))
        reasons = results.several(set_, "reasons", REASONS)
        flags = results.several(set_, "flags", FLAGS)
    known = isinstance(lead_time, int | float) and not isinstance(lead_time, bool)
    return {
        "id": asked.prompt_id,
        "messages": asked.messages,
        "answers": asked.answers,
        "ranking": ranking,
        "skipped": skipped,
        "seconds": float(lead_time) if known and math.isfinite(lead_time) and lead_time >= 0 else None,
        "order": asked.order,
        "reasons": reasons,
        "flags": flags,
        "model": asked.model,
        "why": asked.why,
        **about,
    }


def _person(annotation: Row) -> int:
    who = annotation.get("completed_by")
    who = who.get("id") if isinstance(who, dict) else who
    if type(who) is not int:
        raise results.Malformed("nobody is named as its author")
    return who


def _moment(annotation: Row) -> str:
    """When it was last changed, in a form that sorts by time."""
    at = moment(annotation.get("updated_at") or annotation.get("created_at"))
    if at is None:
        raise results.Malformed("it does not say when it was made")
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _raw(annotation: Any, data: Any, name: Callable[[int], str]) -> dict[str, Any]:
    """What there is to look at, without names and addresses."""
    if not isinstance(annotation, dict):
        return {"annotation": masked(json.dumps(annotation, ensure_ascii=False)), "data": data}
    try:
        who: str | None = name(_person(annotation))
    except results.Malformed:
        who = None
    return {**{key: annotation[key] for key in KEPT if key in annotation}, "annotator": who, "data": data}


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode(errors="surrogatepass")


def _id(annotation: Any) -> str:
    """The annotation's id; where it has none, what it says stands for it."""
    given = annotation.get("id") if isinstance(annotation, dict) else None
    return str(given) if type(given) is int else f"x{hashlib.sha256(_bytes(annotation)).hexdigest()[:8]}"


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int | str) and not isinstance(value, bool) and str(value) else "?"
