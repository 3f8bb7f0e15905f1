"""What may be printed: people, models and commits write text that a terminal would obey."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    """Text without what a terminal would obey or a reader could be misled by: control and direction characters."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")
