"""GPTQ checkpoints: load one, know beforehand which layers can be quantized, and the naive alternative.

gptqmodel prints a banner, progress tables and its whole configuration; `hushed` keeps that out of a stage's output and
shows its end only when something goes wrong.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ModelError
from tasks.files import read_json
from tasks.params import Compute
from tasks.training.hardware import device_of, dtype_of
from tasks.training.models import quiet
from tasks.training.tokens import load_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


SIZES = (16, 32, 64, 128, 256, 512, 1024)  # quantize.group_size


def load_quantized(folder: Path, compute: Compute) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GPTQ model folder by transformers' own loader, in evaluation mode, with its checked tokenizer.

    The dtype of what is not quantized is `compute.precision`, said explicitly: "auto" would be bfloat16 on a CPU, whose
    logits are 3 times further from the exact ones. On a GPU no kernel computes in fp32, so fp16 takes its place; the kernel
    is the one in plain PyTorch.
    """
    import torch
    from transformers import AutoModelForCausalLM, GPTQConfig

    config = read_json(folder / "config.json").get("quantization_config", {})
    if config.get("quant_method") != "gptq" or config.get("checkpoint_format") != "gptq":
        raise ModelError(str(folder), "is no GPTQ checkpoint", "run the stage that writes it: dvc repro quantize")
    device = device_of(compute)
    cuda = device.type == "cuda"
    kernel = GPTQConfig(bits=config["bits"], backend="gptq_torch" if cuda else "auto")
    tokenizer = load_tokenizer(folder)
    quiet()
    with hushed(str(folder), "cannot be loaded"):
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float16 if cuda and compute.precision == "fp32" else dtype_of(compute.precision),
            device_map={"": device}, quantization_config=kernel, local_files_only=True, trust_remote_code=False,
            use_safetensors=True)
    if not cuda:
        _unpack_once(model)
    return model.eval(), tokenizer


def _unpack_once(model: PreTrainedModel) -> None:
    """Let layers of the plain PyTorch kernel (8 bits, on a CPU) keep their weights unpacked.

    It would unpack them in every forward pass, by a function that is compiled anew in each process: minutes of a compiler
    for a small model, for the same numbers. Layers of other kernels compute from the packed weights and are left alone.
    """
    for layer in model.modules():
        if hasattr(layer, "enable_weight_cache"):
            vars(layer).pop("dequantize_weight", None)  # the compiled one lies over the method
            layer.enable_weight_cache(True)


def quantizable(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Name → layer of what gptqmodel quantizes: the linear layers of the decoder blocks; embedding and head stay."""
    from torch import nn

    head = model.get_output_embeddings()
    return {name: module for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head}


def check_dimensions(model: PreTrainedModel, group_size: int, name: str) -> None:
    """Raise ModelError unless every layer can be packed and multiplied, whether at 4 or 8 bits.

    gptqmodel does not check: it quantizes without complaint and the model fails in its first forward pass. Stage base
    calls this too, for a merged model has the base's layers and hours of training lie between.
    """
    layers = quantizable(model)
    if not layers:
        raise ModelError(name, "has no linear layers to quantize", "take a model of a Llama-like architecture")
    for layer, module in layers.items():
        for rule, holds in (
            (f"in_features {module.in_features} is not a multiple of quantize.group_size {group_size}",
             module.in_features % group_size == 0),
            (f"in_features {module.in_features} is not a multiple of 32", module.in_features % 32 == 0),
            (f"out_features {module.out_features} is not a multiple of 16", module.out_features % 16 == 0),
        ):
            if not holds:
                fitting = [size for size in SIZES if all(other.in_features % size == 0 for other in layers.values())]
                remedy = f"set quantize.group_size to {max(fitting)}" if "group_size" in rule and fitting else (
                    "GPTQ cannot pack this layer; take a base with other widths")
                raise ModelError(f"{name}: {layer}", rule, remedy)


def round_to_nearest(weight: torch.Tensor, bits: int, group_size: int, symmetric: bool) -> torch.Tensor:
    """What naive rounding at the same size leaves of a weight, (out, in) → (out, in): the yardstick for GPTQ.

    The same grid as GPTQ's: groups of `group_size` inputs share a scale, kept in fp16, and a zero-point, a level. Symmetric,
    they are 2·max|w| / (2^bits − 1) and 2^(bits−1); else the levels span the group's range with 0 in it.
    """
    import torch

    groups = weight.detach().float().reshape(weight.shape[0], -1, group_size)  # (out, in / g, g)
    top = 2**bits - 1
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    empty = high == low  # of zeros alone
    scale = torch.where(empty, 2.0, high - low) / top
    zero = torch.full_like(scale, 2 ** (bits - 1)) if symmetric else torch.where(empty, 0.0, torch.round(-low / scale))
    levels = torch.clamp(torch.round(groups / scale) + zero, 0, top)
    return ((levels - zero) * scale.half().float()).reshape(weight.shape).to(weight.dtype)


@contextlib.contextmanager
def hushed(name: str, what: str) -> Iterator[Callable[[str], None]]:
    """Keep a library's chatter; on an exception its last line becomes part of a ModelError about `name`.

    Gives a function that does reach stderr, for progress.
    """
    heard, stderr = io.StringIO(), sys.stderr
    with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
        try:
            yield lambda line: print(line, file=stderr, flush=True)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, ImportError, OSError) as error:
            said = [line.strip() for line in heard.getvalue().splitlines() if line.strip()]
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            context = f" (before that: {said[-1]})" if said and not isinstance(error, OSError) else ""
            raise ModelError(name, f"{what}: {reason}{context}", "check the folder: dvc repro") from error
