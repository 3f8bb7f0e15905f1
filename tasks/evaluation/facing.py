"""Tonight's aligned model and the live release, on the same cases and by the same rules.

The release's answers come with champion.json, its verdicts do not: rules that have changed since judge both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import Field

from tasks import behaviours
from tasks.behaviours import Limits
from tasks.champion import Answered
from tasks.evaluation.degenerate import is_degenerate
from tasks.reports import Report
from tasks.stats import Difference, Mean, paired, wins

GROUNDED = ("context", "unanswerable")  # what annotators rank, and what the reward model knows
Row = dict[str, Any]


class Against(Report):
    """The aligned model against the live release, on the cases whose answers travelled with it."""

    release: str = Field(description="id of the live release")
    cases: int = Field(description="cases that are still asked and judged as they were then")
    differing: int = Field(description="answers that are not the same words: to these cases and to shared held-out instructions")
    behaviours: dict[str, Difference] = Field(
        description="correct, preferred, abstains, over_abstains, degenerate, reference, as far as cases are shared: tonight's "
                    "model over the release. Above 0 is better in all of them: the last but one count answers that do not")
    win_rate: Mean | None = Field(description="by tonight's reward model, ties half; null when no case is left")


def face(release: str, known: Mapping[str, Row], theirs: Mapping[str, Answered], of_release: Mapping[str, float],
         ours: Sequence[Row], told: tuple[Difference | None, int], limits: Limits, seed: int) -> Against:
    """Tonight's aligned model against the live release's stored answers, both judged by tonight's rules.

    `told`: the same on held-out instructions, by chrF, and how many of those answers differ.
    """
    new = [row for row in ours if row["id"] in theirs]
    old = [{**known[row["id"]], "answer": theirs[row["id"]].answer, "ended": theirs[row["id"]].ended,
            **behaviours.judge(theirs[row["id"]].answer, known[row["id"]], limits)} for row in new]
    scored = [row for row in new if row["id"] in of_release]
    found = {} if told[0] is None else {"reference": told[0]}
    for name, judged in FACING.items():
        pairs = [(mine, its) for a, b in zip(new, old, strict=True) if (mine := judged(a)) is not None
                 and (its := judged(b)) is not None]
        if pairs:
            found[name] = paired(*zip(*pairs, strict=True), seed)
    return Against(
        release=release, cases=len(new), behaviours=found,
        differing=told[1] + sum(a["answer"] != b["answer"] for a, b in zip(new, old, strict=True)),
        win_rate=wins([row["reward"] for row in scored], [round(of_release[row["id"]], 6) for row in scored], seed)
        if scored else None)


FACING: dict[str, Callable[[Row], bool | None]] = {  # behaviour → whether a judged row does well in it; None: does not apply
    "correct": lambda row: row["right"],
    "preferred": lambda row: row["preferred"] if row["set"] in GROUNDED else None,
    "abstains": lambda row: row["abstains"] if row["set"] == "unanswerable" else None,
    "over_abstains": lambda row: not row["abstains"] if row["set"] != "unanswerable" else None,
    "degenerate": lambda row: not is_degenerate(row),
}
