"""Answers that are no answers: empty, cut, or saying one thing over and over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from tasks import behaviours
from tasks.reports import Report, Share
from tasks.stats import share


class Degenerate(Report):
    """Answers that are no answers."""

    share: Share = Field(description="answers that are empty, were cut at max_new_tokens or repeat themselves")
    not_ended: float = Field(description="share cut at max_new_tokens, 0 … 1")
    repeats: float = Field(description="share that says one stretch three times in a row, 0 … 1")
    most_frequent: float = Field(description="share of the commonest text among answers to answerable cases, 0 … 1")


def degenerate(rows: Sequence[Mapping[str, Any]]) -> Degenerate:
    """How many of one model's answers are no answers. Rows have answer, ended and right (null where nothing is right)."""
    cut, loops = [not row["ended"] for row in rows], [behaviours.repeats(row["answer"]) for row in rows]
    answerable = [row["answer"] for row in rows if row["right"] is not None]
    return Degenerate(
        share=share([is_degenerate(row) for row in rows]), not_ended=round(sum(cut) / len(rows), 6),
        repeats=round(sum(loops) / len(rows), 6), most_frequent=round(behaviours.most_frequent(answerable), 6))


def is_degenerate(row: Mapping[str, Any]) -> bool:
    """Whether an answer is empty, was cut, or says one stretch over and over."""
    return not row["ended"] or not row["answer"].strip() or behaviours.repeats(row["answer"])
