"""Runs in the environment of deploy/fp8.lock, and imports nothing of Nightshift: python inside.py JOB.json.

Quantizes a dense folder to FP8_DYNAMIC by llmcompressor, and reads the result back as its users would, by transformers
with compressed-tensors, which multiply on a CPU what an FP8 GPU would.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def quantize(model: Path, out: Path) -> None:
    """Write `out`: every linear layer but the head in float8_e4m3fn, one scale a row; activations are scaled as they come."""
    import torch
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from transformers import AutoModelForCausalLM

    dense = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, local_files_only=True)
    oneshot(model=dense, recipe=QuantizationModifier(targets="Linear", scheme="FP8_DYNAMIC", ignore=["lm_head"]))
    dense.save_pretrained(out, save_compressed=True)


def logits(folder: Path, prompts: list[list[int]]) -> dict[str, Any]:
    """Number of the prompt → its logits (T, V) in fp32, by the folder as compressed-tensors loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    with torch.inference_mode():
        found = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float() for ids in prompts]
    return {str(number): rows.contiguous() for number, rows in enumerate(found)}


def main(path: Path) -> None:
    """Work through a job: {"threads", "prompts", "model", "folder", "out"}."""
    from importlib.metadata import version

    import torch
    from safetensors.torch import save_file

    job = json.loads(path.read_text())
    torch.set_num_threads(job["threads"])
    folder, out = Path(job["folder"]), Path(job["out"])
    if job["model"]:
        quantize(Path(job["model"]), folder)
    if job["prompts"]:
        save_file(logits(folder, job["prompts"]), out / "logits.safetensors")
    names = ("llmcompressor", "compressed-tensors", "transformers", "torch")
    (out / "facts.json").write_text(json.dumps({name: version(name) for name in names}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
