"""Prompts to sample answers for: {"id", "question", "passages", "language"}, or {"messages"} in the place of the question.

A prompt that users sent back brings `"origin": "feedback"` and, in `answers`, what they were not content with.
"""

from __future__ import annotations

from typing import Any

from tasks.formats.messages import asked, first_user
from tasks.formats.rows import Prompt, identity, language, text, texts

KEYS = {"question"}


def read(row: dict[str, Any], where: str) -> Prompt:
    """The rendered prompt."""
    messages = asked(row)
    sample = text(row, "question", "") or first_user(messages)
    origin = text(row, "origin", "") or None
    return Prompt(identity(row, messages), messages, language(row, sample), where, origin, tuple(texts(row, "answers")))
