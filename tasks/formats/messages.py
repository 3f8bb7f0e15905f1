"""Chat rows: {"messages": [{"role", "content"}, …]}. Also reads conversations inside other forms."""

from __future__ import annotations

from typing import Any

from tasks.formats.rows import BadRow, Instruction, Message, annotation, clean, identity, language, question, text

KEYS = {"messages"}
ROLES = ("system", "user", "assistant")


def conversation(turns: object, key: str) -> list[Message]:
    """A list of {"role", "content"}; content may be a text or a list of text parts."""
    if not isinstance(turns, list) or not turns:
        raise BadRow(f"{key!r} is not a list of messages", 'write it as [{"role": "user", "content": "…"}, …]')
    return [_message(turn, f"{key}[{n}]") for n, turn in enumerate(turns, 1)]


def _message(turn: object, place: str) -> Message:
    if not isinstance(turn, dict):
        raise BadRow(f"{place} is not an object", 'write it as {"role": "user", "content": "…"}')
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise BadRow(f"{place} has role {role!r}", f"use one of {', '.join(ROLES)}, or drop the row")
    if isinstance(content, list):
        parts = [p.get("text") for p in content if isinstance(p, dict) and p.get("type") == "text"]
        if len(parts) != len(content) or not all(isinstance(p, str) for p in parts):
            raise BadRow(f"{place} holds more than text", "keep the text parts only, or drop the row")
        content = "".join(parts)
    if not isinstance(content, str):
        raise BadRow(f"{place} has no text", "give it a 'content', or drop the row")
    return {"role": role, "content": clean(content)}


def asked(row: dict[str, Any]) -> list[Message]:
    """The prompt of a row: its `messages`, of which the user's is the last, or its question with the passages."""
    if row.get("messages") is None:
        return question(row)
    messages = conversation(row["messages"], "messages")
    if messages[-1]["role"] != "user":
        raise BadRow("'messages' does not end with the user's", "leave the answers out of the prompt, or drop the row")
    return messages


def first_user(messages: list[Message]) -> str:
    """The first question; what a conversation's language is told by."""
    return next((m["content"] for m in messages if m["role"] == "user"), "")


def read(row: dict[str, Any], where: str) -> Instruction:
    """The messages as they are; who approved them, where somebody had to."""
    text(row, "language", "")
    messages = conversation(row["messages"], "messages")
    return Instruction(identity(row, messages), messages, language(row, first_user(messages)), where, "messages",
                       text(row, "annotator", "") or None, annotation(row))
