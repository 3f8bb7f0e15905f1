"""What trainings take of memory, time and disk on a model of some size: LoRA beside all weights, and PPO beside both.

    python -m benchmarks.memory                     100 M parameters, prompts of about 256 tokens, batches of 8
    python -m benchmarks.memory --width 512 --layers 8

Each run is the stage as `dvc repro` starts it, in a process of its own; its peak is what it says of itself. The model is random:
this is about resources; what LoRA and full fine-tuning learn on a real one is benchmarks/lora.py's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import stages
from benchmarks.stages import ROOT, Took
from tasks.files import write_jsonl


def model(folder: Path, width: int, layers: int) -> int:
    """A random Llama with the starter's tokenizer; its parameters."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "starter/base")
    made = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width * 8 // 3 // 64 * 64, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in made.parameters())


def data(folder: Path, rows: int, notes: int) -> None:
    """Instructions and pairs whose prompts hold so many notes."""
    def prompt(number: int) -> list[dict[str, str]]:
        told = "\n".join(f"[{k}] The store number {number + k} opens at {(number * k) % 12}:30." for k in range(1, notes + 1))
        return [{"role": "user", "content": f"{told}\nQuestion: When does store {number + 1} open?"}]

    said = [{"role": "assistant", "content": f"At {n % 12}:30. [1]"} for n in range(rows)]
    instructions = [{"id": f"r{n}", "language": "en", "messages": [*prompt(n), said[n]]} for n in range(rows)]
    pairs = [{"id": f"p{n}", "language": "en", "weight": 1.0, "messages": prompt(n), "chosen": f"At {n % 12}:30. [1]",
              "rejected": f"I think that it may open at {n % 12}:30."} for n in range(rows)]
    for name in ("train", "eval"):
        write_jsonl(folder / f"instructions/{name}.jsonl", instructions if name == "train" else instructions[:2])
        write_jsonl(folder / f"preferences/{name}.jsonl", pairs if name == "train" else pairs[:2])
    for name in ("pairs_correctness", "pairs_style"):
        write_jsonl(folder / f"evaluation/{name}.jsonl", [])


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=768, metavar="N", help="of the model (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=14, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="rows of a forward pass (default: %(default)s)")
    parser.add_argument("--notes", type=int, default=16, metavar="N", help="of a prompt, 16 tokens each (default: %(default)s)")
    given = parser.parse_args()
    params = stages.params()
    steps = {"epochs": 1, "batch_size": given.batch, "accumulate": 1, "log_every": 1, "save_every": 100}
    params["sft"] |= steps
    params["reward"] |= steps
    params["align"] |= {"samples": 2, "max_new_tokens": 32, "stop": dict.fromkeys(params["align"]["stop"])}
    params["align"]["dpo"] |= steps | {"batch_size": max(1, given.batch // 2)}  # two answers each
    params["align"]["ppo"] |= {
        "epochs": 1, "batch_size": given.batch, "rollout": 2 * given.batch, "passes": 1, "save_every": 100}  # fmt: skip
    found: dict[str, Took] = {}
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        folder = Path(name)
        count = model(folder / "start", given.width, given.layers)
        data(folder, 2 * given.batch, given.notes)
        base = {"base": folder / "base"}
        stages.run(folder, "base", params, starter=folder / "start", templates=ROOT / "tasks/templates")
        teach = {"dataset": folder / "instructions", **base}
        whole = {**params["sft"], "lora": None}
        found["SFT, all weights"] = stages.run(folder, "sft", {**params, "sft": whole}, "whole", **teach)
        found["SFT, LoRA on all layers"] = stages.run(folder, "sft", params, "sft", **teach)
        narrow = {**params["sft"], "lora": {**params["sft"]["lora"], "targets": ["q_proj", "v_proj"]}}
        found["SFT, LoRA on q and v"] = stages.run(folder, "sft", {**params, "sft": narrow}, "narrow", **teach)
        ranked = {"dataset": folder / "preferences", **base, "sft": folder / "sft"}
        found["reward model"] = stages.run(folder, "reward", params, "reward", evaluation=folder / "evaluation", **ranked)
        for method in ("dpo", "ppo"):
            cfg = {**params, "align": {**params["align"], "method": method}}
            found[method.upper()] = stages.run(folder, "align", cfg, method, reward=folder / "reward", **ranked)
    print(json.dumps({"parameters": count, "batch": given.batch}))
    print("| | trained parameters | peak, GB | of SFT with LoRA's | CPU-s | MB written |")
    print("| --- | --- | --- | --- | --- | --- |")
    beside = found["SFT, LoRA on all layers"].peak
    for what, one in found.items():
        trained = one.report["trained_parameters"]
        print(f"| {what} | {trained:,} ({trained / count:.1%}) | {one.peak:.2f} | {one.peak / beside:.2f} | {one.cpu:.0f} | "
              f"{one.megabytes:.1f} |")


if __name__ == "__main__":
    main()
