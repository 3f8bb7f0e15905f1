"""What a person is asked: one task of Label Studio. Its `data` there is this model's JSON, and what html.py adds to show.

Nothing else is needed to read the judgement back: the texts, which letter stood where, and what they came from travel
with the task. `task_hash` names what is asked (not how it is shown or when), so asking twice can be seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

LETTERS = "ABCD"
Kind = Literal["compare", "rank", "correction"]
Why = Literal["feedback", "uncertain", "random"]


class Task(BaseModel):
    """A task. Unknown keys (what is shown) are passed over when it is read back."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    nightshift: Literal[1] = Field(1, description="version of this form")
    task_hash: str = Field(description="32 hex digits of what is asked: kind, messages, and the answers in any order")
    kind: Kind = Field(description="compare: two answers side by side; rank: three or four; correction: approve a user's text")
    prompt_id: str = Field(description="id of the prompt; of a correction, of the answer it corrects")
    messages: list[dict[str, str]] = Field(description="the prompt, as the model got it")
    answers: dict[str, str] = Field(
        description="letter → answer; A is shown first. Of a correction: A what was answered, B the user's text")
    order: list[int] = Field(description="permutation: place shown → place in the answers as they were sampled")
    language: str = Field(description="en or zh")
    model: str | None = Field(description="what sampled the answers: sft-<12 hex digits of its adapter>")
    release: str | None = Field(description="live release when it was sent; of a correction, the release that answered")
    why: Why = Field(description="why this prompt: the model is unsure, chance, or users were not content")

    def data(self) -> dict[str, Any]:
        """The task's data in Label Studio, without what is shown."""
        return self.model_dump(mode="json")


def task_hash(kind: str, messages: Sequence[Mapping[str, str]], answers: Sequence[str]) -> str:
    """32 hex digits that are the same for the same question about the same answers, in whatever order they are shown."""
    told = json.dumps([kind, [[m["role"], m["content"]] for m in messages], sorted(answers)], ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def shuffled(count: int, task_hash: str) -> list[int]:
    """A permutation of range(count) that the hash decides: another for each task, the same for the same task."""
    return sorted(range(count), key=lambda place: hashlib.sha256(f"{task_hash}\0{place}".encode()).hexdigest())


def ask(
    prompt_id: str,
    messages: Sequence[Mapping[str, str]],
    answers: Sequence[str],
    *,
    language: str,
    model: str | None,
    release: str | None,
    why: Why,
) -> Task:
    """A task that shows `answers` (two to four different texts) in an order of its own."""
    kind: Kind = "compare" if len(answers) == 2 else "rank"
    name = task_hash(kind, messages, answers)
    order = shuffled(len(answers), name)
    return Task(
        nightshift=1,
        task_hash=name,
        kind=kind,
        prompt_id=prompt_id,
        messages=[dict(message) for message in messages],
        answers={letter: answers[place] for letter, place in zip(LETTERS, order, strict=False)},
        order=order,
        language=language,
        model=model,
        release=release,
        why=why,
    )
