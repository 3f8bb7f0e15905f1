"""What vLLM asks of a GPTQ folder, and the kernel that it would take, one GPU (or CPU) and no tensor parallelism.

Read in vLLM's source, not run: it has no build for a machine like this one. The rules are those of its main branch in
November 2026 (commit 055e47c; the newest release was 0.33.0), where "gptq" and "gptq_marlin" are one implementation:

    vllm/model_executor/layers/quantization/auto_gptq.py             the settings it reads; bits and sym it takes; tensors
    vllm/model_executor/layers/quantization/utils/gptq_utils.py      which layers count as quantized; fused layers
    vllm/model_executor/layers/quantization/utils/marlin_utils.py    group sizes; tiles and their padding
    vllm/model_executor/parameter.py                                 how the parts of a fused layer are loaded
    vllm/model_executor/kernels/linear/__init__.py, mixed_precision/ the kernels, in the order in which they are tried

What differs from the format's own definition: settings with zero-points are refused, whatever the tensors hold; with
symmetric ones the stored zeros are never read; and a fused layer (q, k and v; gate and up) has one g_idx, the last loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.interop.inside import PARTS, read
from tasks.errors import DataError
from tasks.files import read_json

TAKEN = {(4, True), (8, True)}  # (bits, sym)
GROUPS = (-1, 32, 64, 128)
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
PLATFORMS = ("NVIDIA 8.0 to 8.9", "NVIDIA 9.0 (Hopper)", "CPU")
DTYPES = {"qweight": ("int32",), "qzeros": ("int32",), "g_idx": ("int32",), "scales": ("float16", "bfloat16", "float32")}


@dataclass(frozen=True)
class Settings:
    """The quantization settings of a folder, as far as vLLM reads them."""

    bits: int
    group_size: int
    desc_act: bool
    sym: bool

    @property
    def pack(self) -> int:
        """Values in an int32."""
        return 32 // self.bits

    @property
    def ordered(self) -> bool:
        """Whether activation order matters: with one group a row it does not."""
        return self.desc_act and self.group_size != -1


@dataclass(frozen=True)
class Verdict:
    """What is wrong for vLLM; where nothing is, the kernels it would take."""

    problems: tuple[str, ...]
    kernels: dict[str, tuple[str, ...]]  # platform → kernels, "none" among them where a layer has none


def check(folder: Path, expected: dict[str, tuple[int, int]]) -> Verdict:
    """Hold a folder to the rules. `expected`: linear layer of the decoder blocks → (in, out), from the architecture."""
    try:
        config = read_json(folder / "config.json")
        beside = read_json(folder / "quantize_config.json") if (folder / "quantize_config.json").is_file() else None
    except DataError as error:
        return Verdict((str(error),), {})
    found = config.get("quantization_config", beside)
    if not isinstance(found, dict):
        return Verdict(("neither config.json nor quantize_config.json has quantization settings",), {})
    if problems := tuple(_settings(found, beside)):
        return Verdict(problems, {})
    settings = Settings(found["bits"], found["group_size"], found["desc_act"], found["sym"])
    tensors = read(folder)
    problems = (*_tensors(settings, tensors, expected, bool(found.get("lm_head"))), *_zeros(settings, found, tensors))
    if problems:
        return Verdict(problems, {})
    layers = {name for name in expected if f"{name}.qweight" in tensors}
    shapes = {_fused_shape(name, expected) for name in layers}
    kernels = {platform: tuple(sorted({kernel(platform, settings, *shape) for shape in shapes})) for platform in PLATFORMS}
    return Verdict((), kernels)


def _settings(found: dict[str, Any], beside: dict[str, Any] | None) -> Iterator[str]:
    """What is wrong with the settings alone."""
    if found.get("quant_method") != "gptq":
        yield f"quant_method is {found.get('quant_method')!r}, not 'gptq'"
    missing = [key for key in ("bits", "group_size", "desc_act", "sym") if key not in found]
    if missing:
        yield f"the settings lack {', '.join(missing)}"
        return
    if (found["bits"], found["sym"]) not in TAKEN:
        yield f"bits {found['bits']} with sym {found['sym']} is refused: 4 or 8 bits, and no zero-points (sym: true)"
    if found["group_size"] not in GROUPS:
        yield f"group_size {found['group_size']} is refused: one of {', '.join(map(str, GROUPS))}"
    if found.get("checkpoint_format", "gptq") not in ("gptq", "gptq_v2"):
        yield f"checkpoint_format {found['checkpoint_format']!r} is no GPTQ layout"
    if found.get("dynamic"):
        yield "dynamic: layers with settings of their own are beyond these rules"
    differing = sorted(key for key in found if beside is not None and beside.get(key) != found[key])
    if differing:
        yield f"config.json and quantize_config.json disagree on {', '.join(differing)}: vLLM reads the one, auto-gptq the other"


def _tensors(settings: Settings, tensors: dict[str, Any], expected: dict[str, tuple[int, int]], head: bool) -> Iterator[str]:
    """What is wrong with names, types and shapes, and with layers that vLLM fuses."""
    quantized = {key.removesuffix(".qweight") for key in tensors if key.endswith(".qweight")}
    if not quantized:
        yield "no layer is quantized"
    if head != ("lm_head" in quantized):
        yield f"lm_head is {head} in the settings and {'lm_head' in quantized} in the tensors"
    for name in sorted(quantized - {"lm_head"}):
        if name not in expected:
            yield f"{name}: the architecture has no such linear layer"
            continue
        inputs, outputs = expected[name]
        groups = 1 if settings.group_size == -1 else inputs // settings.group_size
        shapes = {"qweight": (inputs // settings.pack, outputs), "qzeros": (groups, outputs // settings.pack),
                  "scales": (groups, outputs), "g_idx": (inputs,)}
        for part in PARTS:
            tensor = tensors.get(f"{name}.{part}")
            if tensor is None:
                yield f"{name}: {part} is missing"
            elif str(tensor.dtype).removeprefix("torch.") not in DTYPES[part]:
                yield f"{name}: {part} is {str(tensor.dtype).removeprefix('torch.')}, not {' or '.join(DTYPES[part])}"
            elif tuple(tensor.shape) != shapes[part]:
                yield f"{name}: {part} has shape {tuple(tensor.shape)}, not {shapes[part]}"
        if settings.group_size != -1 and inputs % settings.group_size:
            yield f"{name}: {inputs} inputs are no multiple of group_size {settings.group_size}"
        if outputs % settings.pack:
            yield f"{name}: {outputs} outputs are no multiple of the {settings.pack} values in an int32"
    for name in sorted(expected):
        parts = _parts(name)
        if len(parts) < 2 or name != parts[0]:
            continue
        having = [part for part in parts if part in quantized]
        if having and len(having) < len(parts):
            others = ", ".join(part.rpartition(".")[2] for part in parts[1:])
            yield f"{name}: vLLM fuses it with {others}, and only some of them are quantized"
        orders = [tensors[f"{part}.g_idx"] for part in having if f"{part}.g_idx" in tensors]
        if settings.ordered and any(not order.equal(orders[0]) for order in orders[1:]):
            yield f"{name}: vLLM fuses it with its neighbours, and their g_idx differ"


def _zeros(settings: Settings, found: dict[str, Any], tensors: dict[str, Any]) -> Iterator[str]:
    """vLLM does not read the zeros of symmetric settings; all others do, and there the format decides what is stored."""
    import torch

    stored = 2 ** (settings.bits - 1) - (found.get("checkpoint_format", "gptq") == "gptq")
    word = sum(stored << shift for shift in range(0, 32, settings.bits))
    word -= 2**32 * (word >= 2**31)
    for key in sorted(tensors):
        if key.endswith(".qzeros") and not torch.all(tensors[key] == word):
            yield (f"{key.removesuffix('.qzeros')}: its zeros are not {stored}, as {found.get('checkpoint_format', 'gptq')} "
                   "with sym stores them")


def kernel(platform: str, settings: Settings, inputs: int, outputs: int) -> str:
    """The first kernel that takes a (fused) layer, in the order in which vLLM tries them; "none" where it would refuse."""
    g, whole = settings.group_size, settings.group_size == -1 or inputs % settings.group_size == 0
    if platform == "CPU":
        return "CPUWNA16" if settings.bits == 4 and inputs % 32 == 0 and outputs % 32 == 0 else "none"
    if "9.0" in platform and g in (-1, 64, 128) and inputs % 64 == 0 and outputs % 128 == 0:
        return "Machete"
    if "8.0" in platform and settings.bits == 8 and g == -1 and inputs % 16 == 0 and outputs % 16 == 0:
        return "AllSpark"
    if settings.ordered:  # activation order ties the inputs to their groups: tiles cannot be padded
        if outputs % 64 == 0 and inputs % 128 == 0 and whole:
            return "Marlin"
    elif whole:
        tiles = (outputs % 64 == 0 and inputs % 128 == 0) or (outputs % 128 == 0 and inputs % 64 == 0)
        return "Marlin" if tiles else "Marlin (padded)"
    return "Exllama (float16)" if g > 0 and outputs % settings.pack == 0 and whole else "none"


def _parts(name: str) -> list[str]:
    """The layers that vLLM makes one of, with this one among them, in its order."""
    block, _, last = name.rpartition(".")
    for names in FUSED:
        if last in names:
            return [f"{block}.{part}" for part in names]
    return [name]


def _fused_shape(name: str, expected: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """(in, out) of the layer that this one is a part of."""
    parts = [expected[part] for part in _parts(name) if part in expected]
    return parts[0][0], sum(out for _, out in parts)
