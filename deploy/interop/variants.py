"""Copies of a quantized folder with one thing changed: the controls, which a check must tell apart, and the tied head."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.files import read_json, write_json
from tasks.params import Compute, Quantize

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def copy(folder: Path, out: Path, tensors: Callable[[dict[str, Any]], None] | None = None,
         settings: dict[str, Any] | None = None, without: str | None = None) -> Path:
    """`folder` in `out`, its tensors changed in place by `tensors`, quantization settings and one key of config.json too."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, out)
    if tensors:
        for file in sorted(out.glob("*.safetensors")):
            stored = load_file(file)
            tensors(stored)
            save_file(stored, file, {"format": "pt"})
    config = read_json(out / "config.json")
    config.pop(without, None)
    beside = read_json(out / "quantize_config.json") | (settings or {})
    if "quantization_config" in config:
        config["quantization_config"] |= settings or {}
    write_json(out / "config.json", config)
    write_json(out / "quantize_config.json", beside)
    return out


def with_head(folder: Path, out: Path) -> Path:
    """The head that is tied to the embedding written out beside it, as auto-gptq itself saves such a model."""

    def add(tensors: dict[str, Any]) -> None:
        if EMBEDDING in tensors:
            tensors[HEAD] = tensors[EMBEDDING].clone()

    return copy(folder, out, add)


def lacks_head(folder: Path) -> bool:
    """Whether the head is tied to the embedding and not written out."""
    from safetensors import safe_open

    if not read_json(folder / "config.json").get("tie_word_embeddings"):
        return False
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            if HEAD in tensors.keys():  # noqa: SIM118 (no mapping)
                return False
    return True


def as_v2(folder: Path, out: Path) -> Path:
    """The same weights in the format gptq_v2: it stores a zero-point as it is, where gptq stores one less."""
    import torch

    bits = read_json(folder / "quantize_config.json")["bits"]
    top, shifts = 2**bits - 1, torch.arange(0, 32, bits)

    def lift(tensors: dict[str, Any]) -> None:
        for name in tensors:
            if name.endswith(".qzeros"):
                values = ((tensors[name].long()[:, :, None] >> shifts) + 1) & top  # (groups, out / p) → (groups, out / p, p)
                words = (values << shifts).sum(-1)
                tensors[name] = torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)

    return copy(folder, out, lift, {"checkpoint_format": "gptq_v2", "format": "gptq_v2"})


def rotary_base(folder: Path) -> float | None:
    """θ of the rotary embedding as the architecture's own version of transformers has it; None without one."""
    return (read_json(folder / "config.json").get("rope_parameters") or {}).get("rope_theta")


def drawn(tokens_of: Path, theta: float, quantize: Quantize, compute: Compute, work: Path, tied: bool = False) -> Path:
    """A Llama of two blocks with drawn weights and this θ, quantized by GPTQModel as the stage does it, in `work`/drawn."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tasks.quantize import complete_folder, read_log, run_gptq
    from tasks.training.hardware import set_up
    from tasks.training.models import save_model
    from tasks.training.tokens import encode_chat, load_tokenizer

    set_up(compute, seed=0)
    tokenizer = load_tokenizer(tokens_of)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=tied, initializer_range=0.2,
        rope_parameters={"rope_theta": theta, "rope_type": "default"}, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id)
    torch.manual_seed(0)
    save_model(LlamaForCausalLM(config), tokenizer, work / "drawn-dense")
    asked = [encode_chat(tokenizer, [{"role": "user", "content": f"What is {n} and {n + 7}, and when do they open?"}])
             for n in range(8)]
    settings = quantize.model_copy(update={"group_size": 32, "batch_size": 8})
    (work / "drawn").mkdir()
    run_gptq(settings, compute, work / "drawn-dense", asked, work / "drawn")
    read_log(work / "drawn" / "quant_log.csv")
    complete_folder(work / "drawn-dense", work / "drawn")
    return work / "drawn"
