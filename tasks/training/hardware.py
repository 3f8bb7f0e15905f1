"""How this process computes: device, threads, seeds, memory and precision.

Weights are loaded in fp32. A stage that only answers may then have them in less (`answering`), one that trains its products
(`autocast`).
"""

from __future__ import annotations

import contextlib
import ctypes
import random
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.params import Compute

if TYPE_CHECKING:
    import torch
    from torch import nn


def set_up(compute: Compute, seed: int | None = None, training: bool = False) -> torch.device:
    """Threads, deterministic kernels and seeds of this process; returns the device to work on.

    ModelError where that device cannot compute in `compute.precision`.
    """
    import torch

    check_precision(compute, "precision", training)
    keep_memory()
    torch.set_num_threads(compute.threads)
    # Some GPU kernels have no deterministic twin: a warning there, identical bytes on a CPU.
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs a fifth of the time here
    if seed is not None:
        import numpy

        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        torch.manual_seed(seed)
    return device_of(compute)


def keep_memory() -> None:
    """Tell glibc to keep freed memory: giving each step's tensors back and asking for them again costs thousands of page
    faults a step. Pieces above 32 MiB, glibc's most, still go back at once, so that a large model needs no more than
    before. No effect where the C library is another one."""
    trim_threshold, mmap_threshold = -1, -3  # <malloc.h>
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 32 * 2**20)
        libc.mallopt(trim_threshold, 2**31 - 1)


def device_of(compute: Compute) -> torch.device:
    """`auto` is the GPU where there is one; `cuda` without a GPU is an error, not a slow surprise."""
    import torch

    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ModelError("compute.device", "is cuda and this machine has no usable GPU", "take auto or cpu")
    return torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")


def check_precision(compute: Compute, place: str, training: bool) -> None:
    """Raise ModelError, about `place` in params.yaml, where the hardware cannot compute in `compute.precision`.

    A CPU answers in any of them, the slower the less of it is built for them.
    """
    import torch

    device = device_of(compute)
    if compute.precision == "fp16" and device.type == "cpu" and training:
        raise ModelError(place, "is fp16, in which only a GPU trains: small gradients vanish unless the loss is scaled, and the "
                         "trainer would go on in fp32 and not say so", "take fp32 or bf16, or give each training its own")
    if compute.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ModelError(place, f"is bf16, which {torch.cuda.get_device_name()} cannot compute in", "take fp32 or fp16")


def dtype_of(precision: str) -> torch.dtype:
    """fp32, bf16 or fp16 as PyTorch calls them."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(compute: Compute) -> torch.autocast:
    """The arithmetic of training, for forward passes outside a trainer: matrix products in `compute.precision`."""
    import torch

    return torch.autocast(device_of(compute).type, dtype=dtype_of(compute.precision), enabled=compute.precision != "fp32")


def answering(model: Any, compute: Compute) -> Any:
    """The model with its weights in `compute.precision`, for a stage that trains nothing.

    A score head stays in fp32: rewards differ in digits that bf16 does not have.
    """
    lower(model, compute.precision)
    if hasattr(model, "score"):
        model.score.float()
    return model


def lower(model: nn.Module, precision: str) -> None:
    """Put a model's parameters into `precision`, in place, and nothing else: the angles of rotary positions are buffers, and
    in bf16 distant positions would fall together."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype_of(precision))
