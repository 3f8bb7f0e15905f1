"""Judgements made much faster than people usually make them: named so that somebody looks, never left out.

The rule, robust against the very outliers it looks for (Iglewicz & Hoaglin 1993): the logarithm of the seconds lies more
than 3.5 modified standard deviations below the median of all, z = 0.6745 · (ln s − median) / MAD < −3.5. The median
absolute deviation counts as at least ln 1.25, so that of people who all take about the same time nobody is odd, and with
fewer than ten timed judgements no time is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from pydantic import Field

from tasks.formats.rows import Ranking
from tasks.reports import Report

LEAST = 10  # judgements
DEVIATIONS = 3.5
NORMAL = 0.6745  # the MAD of a standard normal
NARROWEST = math.log(1.25)
INSTANT = 0.001  # seconds; 0 has no logarithm


class Fast(Report):
    """A judgement that was made much faster than usual."""

    annotator: str
    annotation: str | int | None = Field(description="its id where the row tells one")
    seconds: float


def too_fast(rankings: Sequence[Ranking]) -> tuple[float | None, list[Fast]]:
    """(seconds below which a judgement is fast, those that are, fastest first); (None, []) where too few are timed."""
    timed = [ranking for ranking in rankings if ranking.seconds is not None]
    if len(timed) < LEAST:
        return None, []
    logs = [math.log(max(ranking.seconds, INSTANT)) for ranking in timed]
    middle = median(logs)
    spread = max(median(abs(log - middle) for log in logs), NARROWEST)
    limit = round(math.exp(middle - DEVIATIONS * spread / NORMAL), 3)
    found = [Fast(annotator=r.annotator, annotation=r.annotation, seconds=round(r.seconds, 3))
             for r in timed if r.seconds < limit]
    return limit, sorted(found, key=lambda fast: (fast.seconds, fast.annotator, str(fast.annotation)))
