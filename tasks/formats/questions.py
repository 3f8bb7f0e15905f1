"""Prompts to sample answers for: {"id", "question", "passages", "language"}."""

from __future__ import annotations

from typing import Any

from tasks.formats.rows import Prompt, identity, language, question, text

KEYS = {"question"}


def read(row: dict[str, Any], where: str) -> Prompt:
    """The rendered prompt."""
    messages = question(row)
    return Prompt(identity(row, messages), messages, language(row, text(row, "question")), where)
