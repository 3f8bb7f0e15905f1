"""Pre-train the starter base from scratch on two CPU cores.

Copying from a context does not emerge on a timer. It does when documents get harder only after the easy ones are
solved: whenever copying from one passage reaches `--gate`, the level rises by `--raise`; at level 1 the rows double in
length so that documents with several passages keep their questions.
The rate warms up, stays, and falls to 0 over the last `--decay-steps`. A run can be stopped (also by kill -9) and
started again with the same command: it goes on from the newest checkpoint and gives the same weights. Since the rate
is constant before the decay, it may also go on with other `--steps`; each start is recorded in the checkpoint.

    python -m starter.pretrain --tokenizer DIR --out DIR --steps 9000 --decay-steps 4000
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would take the other processes' cores
os.environ.setdefault("KMP_BLOCKTIME", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, LlamaForCausalLM

from starter.batches import Batch, Shape, Weights, make_batch
from starter.evaluate import quick_accuracy, quick_cases
from starter.model import Size, make_model
from starter.world import COPY, RANDOM, TEXT


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The recipe's knobs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--tokenizer", type=Path, required=True, help="folder that starter.tokenizer wrote")
    add("--out", type=Path, required=True, help="folder for checkpoint.pt and curve.jsonl")
    add("--seed", type=int, default=1)
    add("--steps", type=int, default=9000, help="steps before the decay, warm-up included")
    add("--decay-steps", type=int, default=4000, help="steps over which the rate then falls to 0")
    add("--lr", type=float, default=2e-3, help="highest learning rate")
    add("--warmup", type=int, default=100, help="steps")
    add("--weight-decay", type=float, default=0.1)
    add("--clip", type=float, default=1.0, help="largest gradient norm")
    add("--rows", type=int, default=8)
    add("--length", type=int, default=512, help="tokens a row at level 1; half of it before")
    add("--gate", type=float, default=0.6, help="accuracy with one passage at which documents get harder")
    add("--raise", dest="level_raise", type=float, default=0.1, help="rise of the level at a passed gate")
    add("--gate-every", type=int, default=100, help="steps")
    add("--check-every", type=int, default=500, help="steps between lines of the curve")
    add("--save-every", type=int, default=500, help="steps between checkpoints")
    add("--cases", type=int, default=64, help="quick-check cases a cell")
    add("--width", type=int, default=Size.width)
    add("--layers", type=int, default=Size.layers)
    add("--heads", type=int, default=Size.heads)
    add("--ff", type=int, default=Size.ff)
    add("--threads", type=int, default=2)
    add("--no-compile", action="store_true", help="run the step eagerly: slower, but needs no C++ compiler")
    add("--stop-after-seconds", type=float, default=float("inf"), help="save and leave after this much wall time")
    add("--stop-at", type=int, default=None, help="save and leave at this step, to go on with other arguments")
    return parser.parse_args(argv)


def rate(step: int, args: argparse.Namespace) -> float:
    """Learning rate of a step: warm-up, stable, linear decay to 0."""
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    left = args.steps + args.decay_steps - step
    return args.lr * min(1.0, max(0.0, left / max(args.decay_steps, 1)))


def shape_at(level: float, args: argparse.Namespace) -> Shape:
    """Short rows for easy documents, long ones for the full mixture."""
    return Shape(args.rows, args.length if level >= 1 else args.length // 2)


def make_loss(model: LlamaForCausalLM, compiled: bool) -> Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]:
    """A function from a batch to (weighted mean loss, loss of each scored position (K,)).

    bf16 autocast over fp32 weights; compiled, it runs 1.6 times as fast. The embedding lookup stays outside the
    compiled part: its compiled backward adds in no fixed order, and resuming would not be exact.
    """

    def scored(
        embedded: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state  # (B, T, width)
            logits = model.lm_head(hidden.flatten(0, 1)[positions])  # (K, vocabulary)
        each = F.cross_entropy(logits.float(), targets, reduction="none")  # (K,)
        return (each * weights).sum() / weights.sum(), each

    run = torch.compile(scored, dynamic=False) if compiled else scored
    return lambda b: run(model.model.embed_tokens(b.inputs), b.positions, b.targets, b.weights)


def make_optimizer(model: LlamaForCausalLM, args: argparse.Namespace) -> torch.optim.AdamW:
    """AdamW; embedding and norms don't decay."""
    decays = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in n)]
    groups = [{"params": decays, "weight_decay": args.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), fused=True)


def save_checkpoint(path: Path, **parts: Any) -> None:
    """Write aside, sync, rename: whoever is killed here leaves a whole checkpoint behind."""
    aside = path.with_suffix(".part")
    with aside.open("wb") as file:
        torch.save(parts, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def cut_curve(path: Path, step: int) -> None:
    """Drop lines that a killed run wrote after its last checkpoint: they will be written again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        path.write_text("".join(line + "\n" for line in lines))


def pretrain(args: argparse.Namespace) -> dict[str, Any]:
    """Run until the rate is 0 or the time is up; returns the state of the run."""
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
    size = Size(width=args.width, layers=args.layers, heads=args.heads, ff=args.ff)
    model = make_model(size, tokenizer, args.seed)
    optimizer = make_optimizer(model, args)
    state: dict[str, Any] = {"step": 0, "tokens": 0, "level": 0.0, "wall_s": 0.0, "cpu_s": 0.0, "starts": []}
    sums = torch.zeros(2, 3, dtype=torch.float64)  # loss sums and counts by segment kind since the last check
    checkpoint, curve = args.out / "checkpoint.pt", args.out / "curve.jsonl"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state, sums = saved["state"], saved["sums"]
    cut_curve(curve, state["step"])
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("out", "tokenizer")}
    state["starts"].append({"from_step": state["step"], **settings})
    loss_of, groups = make_loss(model, not args.no_compile), quick_cases(tokenizer, args.cases)
    began, wall, cpu = time.monotonic(), state["wall_s"], state["cpu_s"]
    cpu_began = time.process_time()
    print(
        "parameters", model.num_parameters(), "from", json.dumps({**state, "starts": len(state["starts"])}), flush=True
    )

    def save() -> None:
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state, "sums": sums}
        save_checkpoint(checkpoint, **parts)

    model.train()
    last = args.steps + args.decay_steps
    end = last if args.stop_at is None else min(last, args.stop_at)
    while state["step"] < end:
        step, level = state["step"], state["level"]
        batch = make_batch(tokenizer, args.seed, step, level, shape_at(level, args), Weights())
        for group in optimizer.param_groups:
            group["lr"] = rate(step, args)
        loss, each = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for kind in (TEXT, RANDOM, COPY):
            of_kind = each.detach()[batch.kinds == kind].double()
            sums[:, kind] += torch.tensor([of_kind.sum(), of_kind.numel()], dtype=torch.float64)
        step += 1
        state |= {"step": step, "tokens": state["tokens"] + batch.tokens}
        state |= {"wall_s": wall + time.monotonic() - began, "cpu_s": cpu + time.process_time() - cpu_began}
        if level < 1 and step % args.gate_every == 0:
            passed = quick_accuracy(model, {"en1": groups["en1"]})["en1"] >= args.gate
            state["level"] = min(1.0, round(level + args.level_raise * passed, 3))
        if step % args.check_every == 0 or step == last:
            mean = (sums[0] / sums[1].clamp(min=1)).tolist()
            line = {"step": step, "tokens": state["tokens"], "level": level, "lr": round(rate(step, args), 6)}
            line |= {name: round(x, 3) for name, x in zip(("text", "random", "copy"), mean, strict=True)}
            line |= quick_accuracy(model, groups)
            line |= {"wall_s": round(state["wall_s"]), "cpu_s": round(state["cpu_s"])}
            sums.zero_()
            print(json.dumps(line), flush=True)
            with curve.open("a") as file:
                file.write(json.dumps(line) + "\n")
        late = time.monotonic() - began > args.stop_after_seconds
        if step % args.save_every == 0 or step == end or late:
            save()
        if late:
            break
    print("stopped at step", state["step"], "of", last, flush=True)
    return state


if __name__ == "__main__":
    pretrain(arguments())
