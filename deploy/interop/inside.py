"""Runs in the environment of deploy/interop.lock, and imports nothing of Nightshift: python inside.py JOB.json.

A job names token ids and model folders. Each folder is read the way asked for, and its logits are written:

    auto-gptq   AutoGPTQForCausalLM.from_quantized, as a user of auto-gptq 0.7.1 loads it on a CPU
    dense       the packed weights unpacked by the format's definition into an unquantized model of the same transformers
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PARTS = ("qweight", "qzeros", "scales", "g_idx")


def dequantize(tensors: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """All weights of a GPTQ checkpoint in fp32 under their dense names: w = (q − z) · s, group by group.

    Values of `bits` bits lie in an int32 lowest first: qweight along the inputs, qzeros along the outputs. The format
    "gptq" stores z − 1, "gptq_v2" z itself. A dense weight is a view (out, in) of its transpose, so that a product with it
    is the very call that auto-gptq makes.
    """
    import torch

    bits, offset = settings["bits"], 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    top, shifts = 2**bits - 1, torch.arange(0, 32, bits, dtype=torch.int32)
    dense = {name: tensor.float() for name, tensor in tensors.items() if name.rpartition(".")[2] not in PARTS}
    for name in [key.removesuffix(".qweight") for key in tensors if key.endswith(".qweight")]:
        packed, zeros, scales, groups = (tensors[f"{name}.{part}"] for part in PARTS)
        q = ((packed[:, None, :] >> shifts[None, :, None]) & top).reshape(-1, packed.shape[1])  # (in / p, out) → (in, out)
        z = ((zeros[:, :, None] >> shifts) & top).reshape(zeros.shape[0], -1)  # (groups, out / p) → (groups, out)
        z = (z + offset) & top
        groups = groups.long()
        dense[f"{name}.weight"] = ((q - z[groups]).float() * scales.float()[groups]).T  # (in, out) → (out, in)
    return dense


def read(folder: Path) -> dict[str, Any]:
    """All tensors of a folder."""
    from safetensors.torch import load_file

    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def fill(model: Any, weights: dict[str, Any]) -> Any:
    """Put dense weights into a model without copying, so that their layout stays; whatever is left over is an error."""
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    if set(missing) - tied or unexpected:
        raise ValueError(f"missing {sorted(set(missing) - tied)[:3]}, left over {unexpected[:3]}")
    return model.eval()


def logits(model: Any, prompts: list[list[int]]) -> dict[str, Any]:
    """Number of the prompt → its logits (T, V) in fp32, one prompt at a time, so nothing is padded."""
    import torch

    with torch.inference_mode():
        found = [model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float() for ids in prompts]
    return {str(number): rows.contiguous() for number, rows in enumerate(found)}


def by_auto_gptq(folder: Path) -> Any:
    """The model as auto-gptq reads it.

    Without `low_cpu_mem_usage` a head that is tied to the embedding is not on the meta device, accelerate takes its
    uninitialized memory for the pair's value after loading, and what was loaded is lost, all without an error.
    """
    import torch
    from auto_gptq import AutoGPTQForCausalLM

    return AutoGPTQForCausalLM.from_quantized(
        str(folder), device="cpu", use_safetensors=True, torch_dtype=torch.float32, disable_exllama=True,
        disable_exllamav2=True, inject_fused_attention=False, inject_fused_mlp=False).eval()


def by_hand(folder: Path) -> Any:
    """The unquantized model of this transformers version with the unpacked weights in it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = json.loads((folder / "quantize_config.json").read_text())
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, torch_dtype=torch.float32, attn_implementation="sdpa")
    return fill(model, dequantize(read(folder), settings))


def theta(model: Any) -> float | None:
    """The base of the rotary embedding as the model uses it: its second frequency is θ^(−2/d). None without one."""
    for name, module in model.named_modules():
        if name.endswith("rotary_emb") and hasattr(module, "inv_freq"):
            frequencies = module.inv_freq.double()
            return float(frequencies[1] ** -len(frequencies))
    return None


def main(path: Path) -> None:
    """Work through a job: {"threads", "prompts", "out", "reads": [{"name", "folder", "by"}]}."""
    import accelerate  # noqa: F401  (before auto-gptq, which expects it to be there)
    import auto_gptq
    import torch
    import transformers
    from safetensors.torch import save_file

    job = json.loads(path.read_text())
    torch.set_num_threads(job["threads"])
    # Memory that nobody has written to is filled with NaN: what is left unset must show, and not be right by luck.
    torch.use_deterministic_algorithms(True)
    out, facts = Path(job["out"]), {}
    for one in job["reads"]:
        try:
            model = (by_auto_gptq if one["by"] == "auto-gptq" else by_hand)(Path(one["folder"]))
            save_file(logits(model, job["prompts"]), out / f"{one['name']}.safetensors")
            facts[one["name"]] = {"theta": theta(model)}
        except Exception as error:  # whatever it is: that it could not be read is the finding
            facts[one["name"]] = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    versions = {"auto-gptq": auto_gptq.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    (out / "facts.json").write_text(json.dumps({"versions": versions, "reads": facts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
