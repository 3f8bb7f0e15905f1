"""What may be printed: people, models and commits write text that a terminal would obey."""

from __future__ import annotations

import re
import unicodedata


def plain(text: str) -> str:
    """Text without what a terminal would obey or a reader could be misled by: control and direction characters."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c)[0] != "C")


def without_passwords(text: str) -> str:
    """The text, its URLs without user, password and query."""
    return re.sub(r"(://[^\s?]*)\?\S*", r"\1?…", re.sub(r"(\w://)\S*@", r"\1…@", text))
