"""What is not in data/, and whether the night can do without it: section validate.min_rows of params.yaml."""

from __future__ import annotations

from tasks.errors import DataError
from tasks.formats.evaluation import SETS
from tasks.params import MinRows
from tasks.validation.frames import Raw

# Kind → what the night does without it.
ABSENT = {
    "preferences": "no preference training; the aligned model is the SFT model",
    "prompts": "candidates are sampled for held-out instructions instead",
    "evaluation": "nothing is measured on it",
}
FORM = "put a .json or .jsonl file there (forms: starter/DATA.md)"


def absent(least: MinRows, raw: Raw) -> list[str]:
    """Kinds without a row, and evaluation sets without a case ("evaluation/facts") where others have some.

    DataError for the first one that `least` asks for; a set may be an empty file, if together the sets have enough.
    """
    missing = []
    for kind in ("instructions", "preferences", "prompts", "evaluation"):
        wanted, read, folder = getattr(least, kind), getattr(raw, kind), raw.folder / kind
        without = "" if kind == "instructions" else f", or set validate.min_rows.{kind}: 0 to go without"
        if wanted and kind == "evaluation":
            files = [f"{name}.jsonl" for name in SETS if not (folder / f"{name}.jsonl").is_file()]
            if files:
                raise DataError(str(folder), f"lacks {', '.join(files)}",
                                f"write the set, one case a line (forms: starter/DATA.md){without}")
        if not read.rows and not read.problems:
            if wanted:
                raise DataError(str(folder), f"holds no {kind}; validate.min_rows.{kind} asks for {wanted}",
                                FORM + without)
            missing.append(kind)
        elif kind == "evaluation":
            there = {case.set for case in read.rows} | {problem.where.split("/")[-1].split(".")[0]
                                                        for problem in read.problems}
            missing += [f"evaluation/{name}" for name in SETS if name not in there]
    return missing


def line(kind: str) -> tuple[str, ...]:
    """An absent kind's row of the index page: kind, rows, checks, verdict, note."""
    return kind, "0", "0", "absent", f"{ABSENT[kind.partition('/')[0]]} (validate.min_rows)"
