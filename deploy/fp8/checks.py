"""What was written is held to the merged model: tensors, weights, files, and the logits of a reader that is not ours.

A CPU has no FP8 arithmetic. What an FP8 GPU would do is emulated: weights are dequantized, and each token's activations
are scaled by their largest, rounded to float8_e4m3fn and scaled back before they are multiplied in fp32.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.checklist import Row
from tasks.files import read_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOP = 448.0  # the largest float8_e4m3fn
WEIGHT, SCALE = ".weight", ".weight_scale"


def tensors(model: PreTrainedModel, stored: dict[str, Any]) -> Row:
    """Every linear layer of the blocks is (out, in) in float8_e4m3fn with scales (out, 1), and nothing else is."""
    import torch

    from tasks.training.quantized import quantizable

    layers, wrong = quantizable(model), []
    for name, layer in layers.items():
        weight, scale = stored.get(name + WEIGHT), stored.get(name + SCALE)
        if weight is None or scale is None:
            wrong.append(f"{name}: weight or weight_scale is missing")
        elif weight.dtype != torch.float8_e4m3fn or weight.shape != layer.weight.shape:
            wrong.append(f"{name}: weight is {str(weight.dtype).removeprefix('torch.')} {tuple(weight.shape)}")
        elif tuple(scale.shape) != (len(weight), 1) or not scale.float().isfinite().all():
            wrong.append(f"{name}: weight_scale is {tuple(scale.shape)}, or not finite")
    wrong += [f"{key} is in FP8 and is no linear layer of the blocks" for key, tensor in stored.items()
              if tensor.dtype == torch.float8_e4m3fn and key.removesuffix(WEIGHT) not in layers]
    return Row("names, shapes, types", f"{len(layers)} layers in float8_e4m3fn, a scale for each output", None, not wrong,
               f"WRONG: {wrong[0]}" if wrong else "as they should be")


def weights(model: PreTrainedModel, stored: dict[str, Any]) -> Row:
    """Each weight is the nearest float8 of w / s: off by at most half a step, w · 2^−4, or s · 2^−10 next to zero."""
    from tasks.training.quantized import quantizable

    worst, far = 0.0, ""
    for name, layer in quantizable(model).items():
        scale, dense = stored[name + SCALE].float(), layer.weight.detach().float()
        error = (dequantized(stored, name) - dense).abs()
        over = (error / (dense.abs() * 2**-4).maximum(scale * 2**-10)).max().item()
        if over > 1.001 and not far:
            far = f"WRONG: {name} is {over:.2g} half-steps off"
        worst = max(worst, (error.pow(2).sum() / dense.pow(2).sum()).sqrt().item())
    return Row("weights are the merged model's", f"each to half a step of float8; error of a layer up to {worst:.2%}", None,
               not far, far or "the nearest")


def files(merged: Path, out: Path) -> Row:
    """Tokenizer, template and all else lie there byte for byte; config.json only gained its quantization settings."""
    names = sorted(file.name for file in merged.iterdir() if file.is_file() and not file.name.startswith("model")
                   and file.name != "config.json")
    wrong = [name for name in names if not (out / name).is_file() or (out / name).read_bytes() != (merged / name).read_bytes()]
    before, after = (read_json(folder / "config.json") for folder in (merged, out))
    if after.pop("quantization_config", {}).get("quant_method") != "compressed-tensors" or after != before:
        wrong.append("config.json")
    return Row("tokenizer, template, settings", ", ".join(names), None, not wrong,
               f"DIFFER: {', '.join(wrong)}" if wrong else "byte for byte")


def dequantized(stored: dict[str, Any], name: str) -> torch.Tensor:
    """The weight of a layer, (out, in) in fp32."""
    return stored[name + WEIGHT].float() * stored[name + SCALE].float()


def emulated(model: PreTrainedModel, stored: dict[str, Any], activations: bool) -> PreTrainedModel:
    """A copy with the dequantized weights in it; with `activations` its inputs are rounded too, token by token."""
    from tasks.training.quantized import quantizable

    twin = copy.deepcopy(model)
    for name, layer in quantizable(twin).items():
        layer.weight.data = dequantized(stored, name).to(layer.weight.device)
        if activations:
            layer.register_forward_pre_hook(lambda _, given: (rounded(given[0]), *given[1:]))
    return twin


def rounded(x: torch.Tensor) -> torch.Tensor:
    """Activations (…, d) as an FP8 kernel sees them: one scale a token, largest |x| / 448."""
    import torch

    scale = x.abs().amax(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / TOP
    return (x / scale).clamp(-TOP, TOP).to(torch.float8_e4m3fn).to(x.dtype) * scale


def sizes(model: PreTrainedModel, stored: dict[str, Any]) -> dict[str, Any]:
    """Bytes of tensors, with what is left unquantized."""
    count = {name: tensor.numel() * tensor.element_size() for name, tensor in stored.items()}
    total = sum(count.values())
    in_fp8 = {name for name, tensor in stored.items() if str(tensor.dtype) == "torch.float8_e4m3fn" or name.endswith(SCALE)}
    left = sorted(((size, name) for name, size in count.items() if name not in in_fp8), reverse=True)
    bf16 = 2 * sum(p.numel() for p in model.parameters())
    return {"total_bytes": total, "fp8_bytes": sum(count[name] for name in in_fp8), "bf16_bytes": bf16,
            "share_of_bf16": round(total / bf16, 4), "unquantized": [name for size, name in left if size >= 0.01 * total]}
