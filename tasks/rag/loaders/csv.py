"""CSV and TSV: the first row names the columns, each further row becomes a section (records.py).

Separator (, ; tab |) and encoding are told from the content. Cells beyond the head are kept under a name of their own.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterator
from itertools import islice

from tasks.rag.loaders import Page, Unreadable
from tasks.rag.loaders.records import pages, unique
from tasks.rag.loaders.text import decode

SEPARATORS = ",;\t|"
SAMPLE = 50  # rows by which the separator is told
_SAID = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # a first line by which spreadsheet programs name it


def load(data: bytes, stem: str) -> tuple[list[Page], list[str]]:
    """One page; see the module."""
    text = decode(data)
    said = _SAID.match(text)
    text = text[said.end() :] if said else text
    read = rows(text, said.group(1) if said else separator(text))
    head = next(read, [])
    body = list(read)
    if not body:
        raise Unreadable("has no row below the one that names the columns" if head else "holds no text")
    names = unique([*head, *[""] * (max(map(len, body)) - len(head))])
    return pages([dict(zip(names, row, strict=False)) for row in body], stem), []


def rows(text: str, mark: str) -> Iterator[list[str]]:
    """The rows that have a value. Quoted cells may hold line breaks."""
    csv.field_size_limit(sys.maxsize)  # the document's size is limited already
    return (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark) if any(cell.strip() for cell in row))


def separator(text: str) -> str:
    """The separator by which most of the first rows have as many cells as the first; the one with more cells of equals."""

    def score(mark: str) -> tuple[float, int]:
        widths = [len(row) for row in islice(rows(text, mark), SAMPLE)] or [0]
        return (widths.count(widths[0]) / len(widths) if widths[0] > 1 else 0.0, widths[0])

    return max(SEPARATORS, key=score)
