"""The lines of the feedback log, and the id that ties them together.

An answer's id is the one its client got (the chat completion's). It holds the second in which it was asked, so that
its day's file is known without a search, and 96 random bits: who was not told an id cannot say anything of its answer.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

_ID = re.compile(r"chatcmpl-([0-9a-f]{8})[0-9a-f]{24}")

Rating = Literal["up", "down"]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Passage(_Line):
    """What the model was shown, from the team's own documents: never masked."""

    source: str
    text: str


class Answered(_Line):
    """An answer that was given."""

    kind: Literal["answer"] = "answer"
    id: str
    time: datetime
    release: str
    language: str
    question: str
    passages: tuple[Passage, ...]
    answer: str


class Said(_Line):
    """What a user said of an answer. The last one counts."""

    kind: Literal["feedback"] = "feedback"
    answer: str  # its id
    time: datetime
    rating: Rating
    reason: str | None = None
    correction: str | None = None


@dataclass(frozen=True)
class Entry:
    """An answer with what counts of what was said of it."""

    answered: Answered
    said: Said | None = None
    was_down: bool = False  # at some time, whatever it is now


def answer_id(seconds: int) -> str:
    """An id for an answer asked for at this second since 1970."""
    return f"chatcmpl-{seconds:08x}{secrets.token_hex(12)}"


def asked_at(id: str) -> datetime | None:
    """When the answer with this id was asked for; None for what is no id of ours."""
    match = _ID.fullmatch(id)
    return datetime.fromtimestamp(int(match[1], 16), UTC) if match else None
