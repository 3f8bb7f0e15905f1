"""Preference pairs: {"prompt", "chosen", "rejected"}: a ranking of two."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from tasks.formats.messages import first_user
from tasks.formats.prompt_completion import prompt_messages, reply
from tasks.formats.rows import BadRow, Message, Ranking, identity, language, text

KEYS = {"prompt", "chosen", "rejected"}


def read(row: dict[str, Any], where: str) -> Ranking:
    """Chosen is A, rejected is B. A pair whose annotator is not known counts as its file's."""
    messages = prompt_messages(row)
    answers = {"A": _answer(row, "chosen", messages), "B": _answer(row, "rejected", messages)}
    annotator = text(row, "annotator", f"file:{PurePosixPath(where.rpartition(':')[0]).stem}")
    return Ranking(
        identity(row, messages),
        messages,
        answers,
        [["A"], ["B"]],
        annotator,
        row.get("annotation"),
        language(row, first_user(messages)),
        where,
        "pairs",
    )


def _answer(row: dict[str, Any], key: str, messages: list[Message]) -> str:
    """The text of one answer; a list of messages may repeat the prompt before it."""
    turns = reply(row, key)
    if turns[: len(messages)] == messages:
        turns = turns[len(messages) :]
    if len(turns) != 1 or turns[0]["role"] != "assistant":
        raise BadRow(f"{key!r} is not one assistant message", "keep the answer to the prompt only, or drop the row")
    return turns[0]["content"]
