"""Export a checkpoint as a model folder, and draw its learning curve.

python -m starter.export --run DIR --tokenizer DIR --out starter/base --figures
python -m starter.export --run DIR --tokenizer DIR --out build/interim
"""

import argparse
import json
import platform
from pathlib import Path

import matplotlib
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from starter.evaluate import CELLS, accuracy
from starter.model import Size, export, make_model

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # after the backend is chosen


def plot(curve: Path, out: Path) -> None:
    """Accuracy, loss on copied values, level and rate over tokens."""
    lines = [json.loads(line) for line in curve.read_text().splitlines()]
    tokens = [line["tokens"] / 1e6 for line in lines]
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), sharex=True, height_ratios=[3, 2])
    for name, lang, passages in CELLS:
        style = "-" if lang == "en" else "--"
        colour = ["tab:blue", "tab:orange", "tab:green"][passages - 1]
        language = "English" if lang == "en" else "Chinese"
        above.plot(
            tokens,
            [line[name] for line in lines],
            style,
            color=colour,
            label=f"{language}, {passages} passage{'s' * (passages > 1)}",
        )
    above.set_ylabel("values copied right (quick check)")
    above.set_ylim(0, 1.02)
    above.legend(fontsize=8, ncols=2, loc="lower right")
    above.set_title("Pre-training of the starter base")
    below.plot(tokens, [line["copy"] for line in lines], color="tab:red", label="loss on copied values")
    below.plot(tokens, [line["level"] for line in lines], color="black", label="level of the documents")
    below.plot(tokens, [line["lr"] * 1e3 for line in lines], ":", color="grey", label="learning rate, thousandths")
    below.set_xlabel("million tokens")
    below.set_ylim(0, None)
    below.legend(fontsize=8)
    for axes in (above, below):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


def main() -> None:
    """Write the model folder; with --figures also recipe.json, curve.jsonl and the plot beside the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder that starter.pretrain wrote")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figures", action="store_true", help="evaluate by generate() and write the recipe too")
    parser.add_argument("--cases", type=int, default=300, help="evaluation cases a cell")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    saved = torch.load(args.run / "checkpoint.pt", weights_only=True)
    state, last = saved["state"], saved["state"]["starts"][-1]
    size = Size(width=last["width"], layers=last["layers"], heads=last["heads"], ff=last["ff"])
    model = make_model(size, AutoTokenizer.from_pretrained(args.tokenizer), last["seed"])
    model.load_state_dict(saved["model"])
    export(model, args.tokenizer, args.out)
    print("exported step", state["step"], "tokens", state["tokens"])
    if not args.figures:
        return
    exported = AutoModelForCausalLM.from_pretrained(args.out, dtype=torch.float32)  # the bf16 weights that ship
    recipe = {
        "parameters": exported.num_parameters(),
        "seed": last["seed"],
        "steps": state["step"],
        "tokens": state["tokens"],
        "cpu_s": round(state["cpu_s"]),
        "wall_s": round(state["wall_s"]),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "starts": state["starts"],
        "cases_per_cell": args.cases,
        "accuracy": accuracy(exported, AutoTokenizer.from_pretrained(args.out), args.cases),
    }
    (args.out / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    curve = (args.run / "curve.jsonl").read_text()
    (args.out / "curve.jsonl").write_text(curve)
    plot(args.out / "curve.jsonl", args.out.parent / "curve.png")
    print(json.dumps(recipe["accuracy"]))


if __name__ == "__main__":
    main()
