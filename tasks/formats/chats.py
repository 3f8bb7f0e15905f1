"""Prompts as chats: {"messages": [{"role", "content"}, …]}, the user's last. Read as questions are."""

from __future__ import annotations

from tasks.formats.questions import read

KEYS = {"messages"}

__all__ = ["KEYS", "read"]
