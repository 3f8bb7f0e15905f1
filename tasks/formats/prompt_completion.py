"""Completion rows: {"prompt", "completion"}, both texts or both lists of messages."""

from __future__ import annotations

from typing import Any

from tasks.formats.messages import conversation, first_user
from tasks.formats.rows import Instruction, Message, identity, language, text, user

KEYS = {"prompt", "completion"}


def prompt_messages(row: dict[str, Any]) -> list[Message]:
    """The prompt as messages."""
    return conversation(row["prompt"], "prompt") if isinstance(row["prompt"], list) else user(text(row, "prompt"))


def reply(row: dict[str, Any], key: str) -> list[Message]:
    """An answer as messages."""
    if isinstance(row[key], list):
        return conversation(row[key], key)
    return [{"role": "assistant", "content": text(row, key)}]


def read(row: dict[str, Any], where: str) -> Instruction:
    """Prompt, then completion."""
    messages = prompt_messages(row) + reply(row, "completion")
    form = "prompt_completion"
    return Instruction(identity(row, messages), messages, language(row, first_user(messages)), where, form)
