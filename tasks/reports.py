"""What a stage says of its run: a small frozen record, written as metrics/<stage>.json."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Report(BaseModel):
    """Base of all stage reports. Each field has a description with its unit: that is the documentation of the key.

    Reports are hashed into dvc.lock: nothing in them may vary between two runs of the same bytes (no seconds, no memory,
    no dates, no absolute paths).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Share(Report):
    """A share with its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    n: int
