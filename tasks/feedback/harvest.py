"""What a night learns from: answers that users were not content with become prompts that people judge first, and users'
corrections become tasks. A correction is never trained on before a person has approved it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.feedback.entries import Entry
from tasks.feedback.log import Log
from tasks.labelling.inbox import Batch, land
from tasks.labelling.task import Task, task_hash
from tasks.params import Params
from tasks.rag.prompt import grounded

FILE = "prompts/feedback.jsonl"  # below data/


def _utc() -> datetime:
    return datetime.now(UTC)


def gather(root: Path, params: Params, now: Callable[[], datetime] = _utc) -> list[str]:
    """Land a prompt for each answer rated down, and take back those of answers that are so no longer; lines that say
    what was done. The same again changes nothing. Also ends what is older than feedback.days, log on or off."""
    kept = Log(root, params.feedback.days, now)
    gone, answers, up = kept.sweep(), 0, 0
    down: list[dict[str, Any]] = []
    changed: list[str] = []
    for entry in kept.entries():
        answers += 1
        if entry.said and entry.said.rating == "down":
            down.append(prompt(entry))
        elif entry.said:
            up += 1
            changed += [prompt_id(entry.answered.id)] if entry.was_down else []
    if down or changed:
        land(root, Batch(FILE, "id", down, changed))
    lines = [f"feedback: {_count(len(gone), 'day')} older than {params.feedback.days} days removed"] if gone else []
    if answers or params.feedback.log:
        lines.append(f"feedback: {_count(answers, 'answer')} kept, {up} up, {len(down)} down")
    return lines


def corrections(root: Path, params: Params, now: Callable[[], datetime] = _utc) -> list[Task]:
    """A task for each corrected answer, in the order of the answers: what was answered (A) and the user's text (B)."""
    return [correction(entry) for entry in Log(root, params.feedback.days, now).entries() if entry.said and entry.said.correction]


def prompt_id(answer: str) -> str:
    """Name of the prompt that an answer rated down becomes."""
    return f"feedback-{answer}"


def prompt(entry: Entry) -> dict[str, Any]:
    """A row of data/prompts: the question with the passages it was answered from, and the answer that was given."""
    asked = entry.answered
    return {
        "id": prompt_id(asked.id),
        "question": asked.question,
        "passages": [passage.text for passage in asked.passages],
        "language": asked.language,
        "origin": "feedback",
        "answers": [asked.answer],
        "release": asked.release,
        "reason": entry.said.reason if entry.said else None,
    }


def correction(entry: Entry) -> Task:
    """The task in which a person approves or refuses a user's text, shown beside what was answered."""
    asked, told = entry.answered, (entry.said and entry.said.correction) or ""
    content = grounded(asked.question, [passage.text for passage in asked.passages], asked.language)
    messages = [{"role": "user", "content": content}]
    return Task(
        nightshift=1,
        task_hash=task_hash("correction", messages, [asked.answer, told]),
        kind="correction",
        prompt_id=asked.id,
        messages=messages,
        answers={"A": asked.answer, "B": told},
        order=[0, 1],
        language=asked.language,
        model=None,
        release=asked.release,
        why="feedback",
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
