"""Held-out instructions: the evaluation set that everybody has. Each model's greedy answer beside the log's own, by chrF.

The log's answer is not the only good one, so a chrF says little by itself. The difference between two models on the
same instructions says which of them answers more like the team.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks import champion as champions
from tasks.evaluation.chrf import chrf
from tasks.reports import Report, Share
from tasks.stats import DIGITS, Difference, Mean, mean, paired, share
from tasks.training.generate import generate
from tasks.training.rows import read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILE = "references.jsonl"  # in the evaluate stage's folder
Row = dict[str, Any]


class References(Report):
    """Greedy answers to held-out instructions against the log's answers. Models: base, sft, aligned."""

    cases: int = Field(description="held-out instructions answered")
    chrf: dict[str, Mean] = Field(description="model → mean chrF of its answers, 0 … 1")
    ended: dict[str, Share] = Field(description="model → answers that it ended itself")
    sft_over_base: Difference = Field(description="chrF gained by supervised fine-tuning")
    aligned_over_sft: Difference = Field(description="chrF gained by preference training")
    aligned_over_base: Difference = Field(description="chrF gained by the night")


def read_cases(path: Path, most: int) -> list[Row]:
    """At most `most` rows of instructions/eval.jsonl, chosen by hash; the last answer of each is its reference."""
    rows = read_rows(path, ("id", "messages", "language"), empty=True)
    kept = set(champions.chosen(rows, most))
    return [{"id": row["id"], "language": row["language"], "messages": row["messages"][:-1],
             "reference": row["messages"][-1]["content"]} for row in rows if row["id"] in kept]


def answer(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: Sequence[Row], *,
           max_new_tokens: int, batch_size: int) -> list[Row]:
    """Greedy answers of one model: rows of references.jsonl, in the order of the cases."""
    found = generate(model, tokenizer, [case["messages"] for case in cases], max_new_tokens=max_new_tokens,
                     batch_size=batch_size)
    return [{"model": name, "id": case["id"], "language": case["language"], "prompt": case["messages"][-1]["content"],
             "answer": said.text, "ended": said.ended, "reference": case["reference"],
             "chrf": round(chrf(said.text, case["reference"]), DIGITS)}
            for case, (said,) in zip(cases, found, strict=True)]


def travelling(cases: Sequence[Row], rows: Sequence[Row]) -> dict[str, champions.Told]:
    """The aligned model's answers, as they travel with a release."""
    known = {case["id"]: champions.digest_told(case["messages"], case["reference"]) for case in cases}
    return {row["id"]: champions.Told(case=known[row["id"]], answer=row["answer"]) for row in rows if row["model"] == "aligned"}


def against(theirs: Mapping[str, champions.Told], ours: Mapping[str, champions.Told], rows: Sequence[Row],
            seed: int) -> tuple[Difference | None, int]:
    """chrF of tonight's answers over the live release's, on instructions that are still asked and answered the same way (None
    without any), and how many of these answers are not the same words."""
    shared = [(row, theirs[row["id"]].answer) for row in rows if row["model"] == "aligned" and row["id"] in theirs
              and theirs[row["id"]].case == ours[row["id"]].case]
    if not shared:
        return None, 0
    found = paired([row["chrf"] for row, _ in shared],
                   [round(chrf(said, row["reference"]), DIGITS) for row, said in shared], seed)
    return found, sum(row["answer"] != said for row, said in shared)


def summarize(rows: Sequence[Row], seed: int) -> References | None:
    """The figures of all three models' rows; None without any."""
    if not rows:
        return None
    scores: dict[str, list[float]] = {}
    ended: dict[str, list[bool]] = {}
    for row in rows:
        scores.setdefault(row["model"], []).append(row["chrf"])
        ended.setdefault(row["model"], []).append(row["ended"])
    base, sft, aligned = (scores[name] for name in ("base", "sft", "aligned"))
    return References(
        cases=len(base), chrf={name: mean(values) for name, values in scores.items()},
        ended={name: share(flags) for name, flags in ended.items()}, sft_over_base=paired(sft, base, seed),
        aligned_over_sft=paired(aligned, sft, seed), aligned_over_base=paired(aligned, base, seed))
