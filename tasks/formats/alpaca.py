"""Alpaca rows: {"instruction", "input", "output"}; with "passages" the instruction is a question on them."""

from __future__ import annotations

from typing import Any

from tasks.formats.rows import BadRow, Instruction, identity, language, question, text, user

KEYS = {"instruction", "output"}


def read(row: dict[str, Any], where: str) -> Instruction:
    """`input` follows the instruction after a blank line; passages are rendered as the grounded prompt."""
    instruction, given = text(row, "instruction"), text(row, "input", "")
    if row.get("passages"):
        if given:
            raise BadRow("has both 'input' and 'passages'", "move the input into the instruction or into a passage")
        messages = question(row, "instruction")
    else:
        messages = user(f"{instruction}\n\n{given}" if given else instruction)
    messages.append({"role": "assistant", "content": text(row, "output")})
    return Instruction(identity(row, messages), messages, language(row, instruction), where, "alpaca")
