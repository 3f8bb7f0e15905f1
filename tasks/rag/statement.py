"""Is a SQL text one statement that only reads? The first of two locks: the second is the database's read-only transaction.

A keyword counts outside of strings, quoted names and comments only. Databases disagree on what a backslash does in a string,
so the text is read both ways and must pass both; what is refused wrongly can be written differently, what is let through
wrongly can delete a table.
"""

from __future__ import annotations

import re

from tasks.errors import DataError

# comments, strings, quoted names; in the second reading a backslash takes the next character along
_READINGS = (
    re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"", re.DOTALL),
    re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^'\\]|''|\\.)*'|\"(?:[^\"\\]|\"\"|\\.)*\"", re.DOTALL),
)
_WRITES = re.compile(r"\b(insert|update|delete|merge|into)\b", re.IGNORECASE)  # WITH … DELETE, SELECT … INTO, … FOR UPDATE
REMEDY = "take one SELECT, or WITH … SELECT"


def check(query: str, thing: str) -> None:
    """DataError, naming `thing`, for everything but one SELECT or WITH … SELECT."""
    for reading in _READINGS:
        bare = _bare(reading, query)
        word = re.match(r"[\s(]*(\w*)", bare)
        if "/*!" in query or re.search(r"['\"]|/\*", bare):
            raise DataError(thing, "has a string or comment that is not closed, or that only some databases run", REMEDY)
        if ";" in bare.strip().removesuffix(";"):
            raise DataError(thing, "is more than one statement", REMEDY)
        if word is None or word.group(1).lower() not in ("select", "with"):
            raise DataError(thing, f"begins with {word.group(1) if word and word.group(1) else 'no word'}", REMEDY)
        if found := _WRITES.search(bare):
            raise DataError(thing, f"holds {found.group().upper()}", f"{REMEDY}; quote a column of that name")


def is_ordered(query: str) -> bool:
    """Whether the whole result has an ORDER BY, not only a part of it in parentheses."""
    bare = _bare(_READINGS[0], query)
    while (inner := re.sub(r"\([^()]*\)", " ", bare)) != bare:
        bare = inner
    return bool(re.search(r"\border\s+by\b", bare, re.IGNORECASE))


def _bare(reading: re.Pattern[str], query: str) -> str:
    """The query with a space in the place of each comment, string and quoted name."""
    return reading.sub(" ", query)
