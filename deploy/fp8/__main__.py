"""make fp8: the merged model as an FP8 (dynamic W8A8) folder, for vLLM on a GPU that multiplies in FP8.

    python -m deploy.fp8                            # artifacts/merged into build/fp8/model
    python -m deploy.fp8 --model DIR --out DIR      # any dense model folder

Written by llmcompressor in an environment of its own, installed once; checked here, and put into its place only when all
checks pass. No stage: nothing that is released depends on it.
"""

from __future__ import annotations

from tasks import environment

environment.apply()

import argparse  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from deploy.checklist import Row, apart, as_json, same, table  # noqa: E402
from deploy.environments import ROOT, Environment, plain  # noqa: E402
from deploy.fp8 import checks  # noqa: E402
from deploy.interop.checks import CHATS  # noqa: E402
from tasks.environment import SETTINGS  # noqa: E402
from tasks.errors import ModelError, NightshiftError  # noqa: E402
from tasks.files import read_json, replace_dir, sha256_tree, write_json  # noqa: E402
from tasks.params import Params, load  # noqa: E402

HOME = ROOT / "build" / "fp8"
SIDE = Environment(target="fp8", package="llmcompressor", size="6 GB; where uv links files, hardly any beside .venv",
                   lock=ROOT / "deploy" / "fp8.lock", home=HOME)
INSIDE = Path(__file__).with_name("inside.py")
CLOSE = 0.01  # of the largest |logit|: the same rounding, where the last bit of a sum may tip a value to its neighbour


def inside(work: Path, threads: int, folder: Path, model: Path | None = None, prompts: list[list[int]] | None = None) -> Path:
    """Quantize `model` into `folder`, or read `folder` back; returns where facts and logits lie."""
    out = work / ("read" if prompts else "written")
    out.mkdir()
    write_json(work / "job.json", {"threads": threads, "prompts": prompts or [], "model": str(model.resolve()) if model else None,
                                   "folder": str(folder.resolve()), "out": str(out.resolve())})
    SIDE.run([str(SIDE.python), str(INSIDE), str((work / "job.json").resolve())], {**plain(os.environ), **SETTINGS}, work)
    return out


def write(merged: Path, folder: Path, work: Path, threads: int) -> None:
    """The FP8 folder: llmcompressor's tensors and quantization settings, all else carried over from `merged`."""
    from tasks.quantize import halve

    inside(work, threads, folder, model=merged)
    settings = read_json(folder / "config.json")["quantization_config"]
    for file in folder.iterdir():
        if not file.name.startswith("model"):
            file.unlink()
    for file in sorted(merged.iterdir()):
        if file.is_file() and not file.name.startswith("model"):
            shutil.copyfile(file, folder / file.name)
    write_json(folder / "config.json", read_json(merged / "config.json") | {"quantization_config": settings})
    halve(folder)


def run(merged: Path, dataset: Path, out: Path, params: Params, home: Path = HOME) -> tuple[list[Row], dict[str, Any]]:
    """Write and check; `out` is replaced only where every row passes. Rows, and figures that have no limit."""
    if not (merged / "config.json").is_file() or not list(merged.glob("*.safetensors")):
        raise ModelError(str(merged), "is no model folder", 'run make nightly first, or: make fp8 FLAGS="--model DIR"')
    SIDE.install()
    work = home / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        folder = work / "model"
        write(merged, folder, work, params.compute.threads)
        rows, figures = look(merged, dataset, folder, work, params)
        if all(row.passed for row in rows):
            replace_dir(folder, out)
        return rows, figures
    finally:
        shutil.rmtree(work, ignore_errors=True)


def look(merged: Path, dataset: Path, folder: Path, work: Path, params: Params) -> tuple[list[Row], dict[str, Any]]:
    """The rows, and how far the emulated model is from the merged one on held-out chats."""
    from safetensors.torch import load_file

    from deploy.interop.inside import logits, read
    from tasks.evaluation.fidelity import along, measure, references
    from tasks.quantize import held_out
    from tasks.training.hardware import set_up
    from tasks.training.models import load_base
    from tasks.training.rows import read_rows
    from tasks.training.tokens import encode_chat

    cfg = params.quantize
    set_up(params.compute)
    model, tokenizer = load_base(merged, params.compute)
    stored = read(folder)
    rows = [checks.tensors(model, stored)]
    if rows[0].passed:
        rows.append(checks.weights(model, stored))
    rows.append(checks.files(merged, folder))
    if not all(row.passed for row in rows):
        return rows, {}
    both = checks.emulated(model, stored, activations=True)
    prompts = [encode_chat(tokenizer, chat, add_generation_prompt=True) for chat in CHATS]
    out = inside(work, params.compute.threads, folder, prompts=prompts)
    versions, theirs = read_json(out / "facts.json"), load_file(out / "logits.safetensors")
    by = f"{versions['compressed-tensors']} with transformers {versions['transformers']}, weights and activations rounded"
    weights = checks.emulated(model, stored, activations=False)
    rows += [same("compressed-tensors reads the same", by, theirs, _cpu(logits(both, prompts)), CLOSE),
             apart("control: activations left as they are", "weights alone are rounded", theirs,
                   _cpu(logits(weights, prompts)), CLOSE)]

    evaluation, instructions = dataset / "evaluation", dataset / "instructions" / "eval.jsonl"
    conversations = [case["messages"] for case in held_out(evaluation, instructions, cfg.chats)]
    spoken, _ = along(model, tokenizer, conversations, max_new_tokens=cfg.max_new_tokens, batch_size=cfg.batch_size)
    known = references(tokenizer, read_rows(instructions, ["id", "messages"]), cfg.chats, cfg.max_length)
    fidelity, perplexity = measure(model, {"weights": weights, "weights and activations": both}, spoken, known,
                                   pad=tokenizer.pad_token_id, batch_size=cfg.batch_size, seed=params.seed.value)
    return rows, {"versions": versions, "sizes": checks.sizes(model, stored), "chats": len(conversations),
                  "tokens": sum(len(s.answer) for s in spoken), "perplexity": perplexity,
                  "emulated": {name: found.model_dump() for name, found in fidelity.items()}}


def _cpu(logits: dict[str, Any]) -> dict[str, Any]:
    return {name: rows.cpu() for name, rows in logits.items()}


def words(figures: dict[str, Any]) -> str:
    """The figures as a few lines."""
    sizes, lines = figures["sizes"], []
    for name, found in figures["emulated"].items():
        lines.append(f"{name} in FP8, emulated: KL {found['kl']['mean']:.2e} nats a token to the merged model, the same choice "
                     f"at {found['agreement']['mean']:.2%} of {figures['tokens']} tokens, perplexity {found['perplexity']:.4f} "
                     f"(merged {figures['perplexity']:.4f})")
    lines.append(f"{sizes['total_bytes'] / 1e6:.2f} MB, {sizes['share_of_bf16']:.1%} of bf16: {sizes['fp8_bytes'] / 1e6:.2f} MB "
                 f"of FP8 layers with their scales; not quantized: {', '.join(sizes['unquantized']) or 'norms alone'}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit code 0, or 1 when a check failed or the folder could not be made."""
    parser = argparse.ArgumentParser(prog="python -m deploy.fp8", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("artifacts/merged"), help="a dense folder (default: %(default)s)")
    parser.add_argument("--dataset", type=Path, default=Path("artifacts/dataset"), help="held-out chats (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HOME / "model", help="default: build/fp8/model")
    given = parser.parse_args(argv)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        rows, figures = run(given.model, given.dataset, given.out, load(ROOT / "params.yaml"))
    except NightshiftError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(rows))
    if not all(row.passed for row in rows):
        print(f"{given.out} was not written", file=sys.stderr)
        return 1
    figures |= {"model": str(given.model), "out": str(given.out), "sha256": sha256_tree(given.out)}
    write_json(HOME / "result.json", figures | {"rows": as_json(rows)})
    print(f"{words(figures)}\n{given.out}; {HOME / 'result.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
