"""Load, merge and save models, so that every stage sees the same weights, the same tokens and the same chat template.

Everything is loaded and merged in fp32: bf16 sums lose low bits of an adapter's update. A stage that only answers may then
have its weights in less (`answering`), one that trains its products (`autocast`). And everything is asserted: a tokenizer
that reloads as another class, or generation with right padding, gives garbage after training that looked perfect.
"""

from __future__ import annotations

import contextlib
import ctypes
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.files import read_json, write_json
from tasks.params import Compute

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

TEMPLATE = "chat_template.jinja"
WEIGHTS = "model.safetensors"  # of a model that was trained whole
PROBE = [{"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": "It is 11:00. [1]"}]


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


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, checked: chat template present, end token present, pad differs from end."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        raise ModelError(str(folder), "holds no tokenizer", "run the stage that writes it: dvc repro base")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_tokenizer(tokenizer, str(folder))
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError unless chats can be rendered, ended and padded with this tokenizer."""
    if not tokenizer.chat_template:
        raise ModelError(name, "has no chat template", "let the base stage install one: base.chat_template: chatml")
    if tokenizer.eos_token_id is None:
        raise ModelError(name, "has no end token", "set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        # With pad = end the loss masks the end token away, and the model never learns to stop.
        raise ModelError(name, "needs a pad token that is not the end token", "set pad_token in tokenizer_config.json")
    ids, mask = encode_response(tokenizer, PROBE)
    if not any(mask):
        raise ModelError(name, "its chat template marks no answer ({% generation %} … {% endgeneration %})",
                         "take base.chat_template: chatml or gemma")
    if ids[-1] != tokenizer.eos_token_id or not mask[-1]:
        raise ModelError(name, "its chat template does not end an answer with the end token",
                         "take base.chat_template: chatml or gemma")
    if ids[: len(ids) - sum(mask)] != encode_chat(tokenizer, PROBE[:1], add_generation_prompt=True):
        raise ModelError(name, "its chat template opens an answer differently in training and in generation",
                         "take base.chat_template: chatml or gemma")


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message],
                add_generation_prompt: bool = False) -> list[int]:
    """Token ids of a rendered conversation; with `add_generation_prompt` it stops where an answer begins."""
    text = render_chat(tokenizer, messages, add_generation_prompt)
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # the template writes the special tokens itself


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message],
                add_generation_prompt: bool = False) -> str:
    """The text that `encode_chat` tokenizes."""
    return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)


def encode_response(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and, for each, 1 where it belongs to an answer (its end token included), else 0."""
    both = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True,
                                         return_assistant_tokens_mask=True)
    return list(both["input_ids"]), list(both["assistant_masks"])


def config_of(folder: Path) -> PretrainedConfig:
    """What a model folder says of its model, without its weights."""
    from transformers import AutoConfig

    _check_config(folder)
    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_base(folder: Path, compute: Compute) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A dense model in fp32, in evaluation mode, on the device of `compute`, and its checked tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(folder)
    _check_config(folder)
    quiet()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True,
                                                     trust_remote_code=False, use_safetensors=True)
    except OSError as error:
        raise ModelError(str(folder), str(error).splitlines()[0], "run the stage that writes it again") from None
    if model.get_input_embeddings().weight.shape[0] < len(tokenizer):
        raise ModelError(str(folder), f"its tokenizer has {len(tokenizer)} entries, more than its embedding has rows",
                         "take the tokenizer that belongs to these weights")
    return model.eval().to(device_of(compute)), tokenizer


def _check_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(str(folder), "holds no config.json", "run the stage that writes it: dvc repro base")


def load_policy(base: Path, adapters: Sequence[Path],
                compute: Compute) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The base with each adapter merged into it in turn, in fp32 and in memory: W ← W + (α/r)·BA.

    A stage that trained the whole model has left its weights in the place of an adapter; they replace what was below.
    """
    model, tokenizer = load_base(base, compute)
    for adapter in adapters:
        model = with_weights(model, adapter) if is_whole(adapter) else with_adapter(model, adapter).merge_and_unload()
    return model.eval(), tokenizer


def is_whole(trained: Path) -> bool:
    """Whether a training stage's output is all weights of a model and not an adapter."""
    return (trained / WEIGHTS).is_file()


def with_weights(model: PreTrainedModel, trained: Path) -> PreTrainedModel:
    """The model with all of its weights replaced; ModelError where they are another model's."""
    from safetensors.torch import load_model

    try:
        load_model(model, trained / WEIGHTS, strict=True, device=str(model.device))
    except RuntimeError as error:
        raise ModelError(str(trained), f"does not fit the model below it ({str(error).splitlines()[0]})",
                         "run the stage that writes it again: dvc repro") from error
    return model


def with_adapter(model: PreTrainedModel, adapter: Path) -> Any:
    """The model as a PeftModel with a saved LoRA adapter switched on and not merged."""
    from peft import PeftModel

    if not (adapter / "adapter_config.json").is_file():
        raise ModelError(str(adapter), "holds no adapter", "run the stage that writes it: dvc repro")
    try:
        return PeftModel.from_pretrained(model, adapter, is_trainable=False).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(str(adapter), f"does not fit the model below it ({str(error).splitlines()[0]})",
                         "run the stage that writes it again: dvc repro") from error


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write a complete model folder, then reload its tokenizer and assert that nothing has changed.

    AutoTokenizer picks a class by the model's type and may ignore a custom pre-tokenizer: everything downstream would
    be trained on other tokens than it is served with.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_tokenizer(tokenizer, str(out))
    quiet()
    model.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    _plain_config(out / "tokenizer_config.json")
    check_same_tokens(tokenizer, load_tokenizer(out), str(out))


def _plain_config(path: Path) -> None:
    """Name the tokenizer's class as old and new versions of transformers know it, and drop how it was loaded."""
    settings = read_json(path)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    for key in ("backend", "is_local", "local_files_only", "name_or_path"):
        settings.pop(key, None)
    write_json(path, settings)


def check_same_tokens(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError unless both give the same ids on several hundred strings and render chats to the same ids."""
    if first.chat_template != second.chat_template:
        raise ModelError(name, "the chat template changed on the way", "every stage must use the base's template")
    for field in ("eos_token_id", "pad_token_id", "bos_token_id"):
        if getattr(first, field) != getattr(second, field):
            raise ModelError(name, f"{field} changed from {getattr(first, field)} to {getattr(second, field)}",
                             "save the tokenizer with the class that loads back")
    for text in probe_texts():
        before, after = (t(text, add_special_tokens=False)["input_ids"] for t in (first, second))
        if before != after:
            raise ModelError(name, f"{text!r} gives {len(before)} tokens in memory and {len(after)} after reload",
                             "save the tokenizer with the class that loads back (PreTrainedTokenizerFast)")
        chat = [{"role": "user", "content": text}, PROBE[1]]
        if encode_chat(first, chat) != encode_chat(second, chat):
            raise ModelError(name, f"a chat with {text!r} renders differently after reload", "save it again")


def probe_texts() -> list[str]:
    """Some 330 strings on which tokenizers tend to differ: English, Chinese, numbers, times, code, odd spaces."""
    draw = random.Random(0)
    english = ["It opens at", "The Oakleigh store", "naïve café", "Don't", "e-mail", "  two  spaces", "\ttab", "[1]"]
    chinese = ["店铺几点开门？", "资料没有说明。", "价格：", "，保修", "橡树店", "人民币", "。\n", "（注）"]
    code = ["def f(x):\n    return x + 1", "{'a': [1, 2]}", "a_b.c->d", "#include <x>", "<|x|>", "\n\n", "x==1;"]
    texts = [*english, *chinese, *code, "", " ", "\n", "１２３", "🙂", "İ", "ﬁ"]
    texts += [str(n) for n in (0, 7, 10, 42, 99, 100, 365, 999, 1000, 2026, 12345, 1000000)]
    for _ in range(100):
        number, clock = str(draw.randrange(10 ** draw.randint(1, 6))), f"{draw.randrange(24)}:{draw.randrange(60):02}"
        texts.append(f"{draw.choice(english)} {number}")
        texts.append(f"{draw.choice(chinese)}{clock}{draw.choice(chinese)}")
        texts.append(f"{draw.choice(english)} {clock} {draw.choice(code)}{number}%")
    return texts


def quiet() -> None:
    """Loading reports, progress bars and notices of the libraries off: a stage says in its own words what it does."""
    import warnings

    import datasets
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl|peft)\.")


def parameter_count(model: PreTrainedModel) -> int:
    """Number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())
