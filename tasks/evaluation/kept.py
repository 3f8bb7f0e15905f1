"""What a compressed model still does of what the one it came from does, case by case.

Likeness in tokens (tasks/evaluation/fidelity.py) weighs every token alike; what people notice is a wrong number, an answer
that no longer says "the notes do not say", or one that never ends. Both models answer the same cases greedily and are judged
by the same rules; the loss is unquantized minus quantized, paired, so its interval is that of what changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from tasks import behaviours
from tasks.behaviours import Limits
from tasks.evaluation.degenerate import Degenerate, degenerate
from tasks.evaluation.facing import FACING
from tasks.reports import Report, Share
from tasks.stats import Difference, paired, share
from tasks.training.generate import Generated


class Beside(Report):
    """One behaviour of both models on the same cases."""

    unquantized: Share = Field(description="share of the cases, of the unquantized model")
    quantized: Share = Field(description="share of the same cases, of the quantized model")
    lost: Difference = Field(description="unquantized minus quantized; better: cases that only the unquantized one does so")


class Kept(Report):
    """Behaviours and degenerate answers of both models."""

    right: Beside | None = Field(description="right answers to answerable cases; null without any")
    preferred: Beside | None = Field(description="answers as people prefer, on cases with notes; null without any")
    abstains: Beside | None = Field(description="abstentions on unanswerable cases; null without any")
    degenerate: dict[str, Degenerate] = Field(description="unquantized | quantized → answers that are no answers")


def judged(cases: Sequence[Mapping[str, Any]], answers: Sequence[Generated], limits: Limits) -> list[dict[str, Any]]:
    """One model's answers with their verdicts. A case without a set (a held-out instruction) has none but its end."""
    return [{"set": case.get("set"), "answer": said.text, "ended": said.ended, "right": None,
             **(behaviours.judge(said.text, case, limits) if case.get("set") else {})}
            for case, said in zip(cases, answers, strict=True)]


def kept(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], seed: int) -> Kept:
    """Judged answers of the unquantized and of the quantized model, in the same order of cases."""
    pairs = list(zip(before, after, strict=True))

    def beside(name: str) -> Beside | None:
        flags = [(FACING[name](a), FACING[name](b)) for a, b in pairs if FACING[name](a) is not None]
        if not flags:
            return None
        ours, theirs = zip(*flags, strict=True)
        return Beside(unquantized=share(ours), quantized=share(theirs), lost=paired(ours, theirs, seed))

    return Kept(right=beside("correct"), preferred=beside("preferred"), abstains=beside("abstains"),
                degenerate={"unquantized": degenerate(before), "quantized": degenerate(after)})
