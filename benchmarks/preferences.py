"""What wrong labels do to the reward model: a share of the training pairs turned round, held-out pairs as they are.

    make nightly                                     once: it needs the SFT model and the pairs of a night
    python -m benchmarks.preferences                 none, 10 and 20 % turned round

Each run is the stage as `dvc repro` starts it. A label that is wrong one time in five leaves three fifths of the signal: accuracy
falls little, and what the model says of its own certainty falls to what the labels deserve.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import stages
from tasks.files import read_jsonl, write_jsonl


def turned(rows: list[dict[str, Any]], share: float, seed: int) -> list[dict[str, Any]]:
    """The rows, so many of them with chosen and rejected exchanged."""
    draw = random.Random(seed)
    wrong = set(draw.sample(range(len(rows)), round(share * len(rows))))
    return [row | {"chosen": row["rejected"], "rejected": row["chosen"]} if number in wrong else row
            for number, row in enumerate(rows)]  # fmt: skip


def trained(given: argparse.Namespace, share: float, folder: Path) -> dict[str, Any]:
    """The report of stage reward on such pairs."""
    shutil.copytree(given.dataset / "preferences", folder / "preferences")
    train = folder / "preferences/train.jsonl"
    write_jsonl(train, turned(read_jsonl(train), share, given.seed))
    return stages.run(folder, "reward", stages.params(), dataset=train.parent, evaluation=given.dataset / "evaluation",
                      base=given.base, sft=given.sft).report  # fmt: skip


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "sft", "dataset"):
        default = Path("artifacts") / name
        parser.add_argument(f"--{name}", type=Path, default=default, metavar="PATH", help="default: %(default)s")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.1, 0.2], metavar="X", help="default: 0 0.1 0.2")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the choice (default: %(default)s)")
    given = parser.parse_args()
    given.base, given.sft, given.dataset = (path.resolve() for path in (given.base, given.sft, given.dataset))
    if not given.sft.is_dir():
        sys.exit(f"{given.sft}: is not there; make nightly makes it")
    print("| turned round | people's pairs | differ in correctness | differ in style | calibration error | mean margin |")
    print("| --- | --- | --- | --- | --- | --- |")
    for share in given.shares:
        with tempfile.TemporaryDirectory(prefix="preferences-") as folder:
            told = trained(given, share, Path(folder))
        sets = [told[name] for name in ("preferences", "correctness", "style")]
        figures = [f"{100 * each['accuracy']['share']:.1f} %" if each else "–" for each in sets]
        margin = f"{told['preferences']['mean_margin']:.2f}" if told["preferences"] else "–"
        print(f"| {share:.0%} | {' | '.join(figures)} | {told['calibration_error']:.3f} | {margin} |", flush=True)


if __name__ == "__main__":
    main()
