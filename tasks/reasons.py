"""What a rule of the gate says: passed or not, by which figure, and what kind of no it is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks.reports import Report

Refusal = Literal["beyond the limit", "worse", "not enough evidence", "nothing proven better", "seen in training"]
LIMIT: Refusal = "beyond the limit"
WORSE: Refusal = "worse"
EVIDENCE: Refusal = "not enough evidence"
BETTER: Refusal = "nothing proven better"
SEEN: Refusal = "seen in training"


class Reason(Report):
    """One rule and what it found."""

    rule: str = Field(description="the limit's name in section gate of params.yaml")
    figure: float | None = Field(description="what was measured; null when there was nothing to measure")
    limit: float = Field(description="what it is held to")
    passed: bool = Field(description="whether the rule lets the model through")
    refusal: Refusal | None = Field(
        description="why not: the figure is beyond its limit, the live release was better, too little is known to tell, no gain "
                    "is beyond chance, or what was measured had been trained on; null where it passed")
    why: str = Field(description="the same in words")
