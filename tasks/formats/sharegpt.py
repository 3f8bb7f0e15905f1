"""ShareGPT rows: {"conversations": [{"from": "human", "value"}, {"from": "gpt", "value"}, …]}."""

from __future__ import annotations

from typing import Any

from tasks.formats.messages import first_user
from tasks.formats.rows import BadRow, Instruction, clean, identity, language

KEYS = {"conversations"}
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
}


def read(row: dict[str, Any], where: str) -> Instruction:
    """The turns with today's role names."""
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        raise BadRow("'conversations' is not a list of turns", 'write it as [{"from": "human", "value": "…"}, …]')
    messages = []
    for number, turn in enumerate(turns, 1):
        speaker = turn.get("from") if isinstance(turn, dict) else None
        if speaker not in ROLES:
            raise BadRow(
                f"conversations[{number}] is from {speaker!r}", f"use one of {', '.join(ROLES)}, or drop the row"
            )
        if not isinstance(turn.get("value"), str):
            raise BadRow(f"conversations[{number}] has no text", "give it a 'value', or drop the row")
        messages.append({"role": ROLES[speaker], "content": clean(turn["value"])})
    return Instruction(identity(row, messages), messages, language(row, first_user(messages)), where, "sharegpt")
