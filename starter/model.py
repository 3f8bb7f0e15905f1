"""The starter base's architecture: a Llama of 2.6 M parameters, and its export as a loadable model folder."""

import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Size:
    """Dimensions. Every Linear takes a multiple of 64 and gives a multiple of 16, which int4 kernels need."""

    width: int = 192
    layers: int = 4
    heads: int = 6
    ff: int = 512
    rope_theta: float = 100_000.0
    positions: int = 1024  # longest prompt and answer, tokens
    embedding_std: float = 0.06


def make_model(size: Size, tokenizer: PreTrainedTokenizerBase, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model: weights by fan-in, what writes to the residual stream scaled down by depth."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.ff,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        rope_parameters={"rope_type": "default", "rope_theta": size.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    residual = 1 / math.sqrt(2 * size.layers)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "embed_tokens" in name:
                p.normal_(0, size.embedding_std)
            elif p.ndim == 2:
                writes = "o_proj" in name or "down_proj" in name
                p.normal_(0, p.shape[1] ** -0.5 * (residual if writes else 1.0))
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.in_features % 64 == 0 and module.out_features % 16 == 0, module
    return model


def export(model: LlamaForCausalLM, tokenizer_files: Path, out: Path) -> None:
    """Write weights in bf16 with config, generation config and tokenizer; aside first, then renamed into place."""
    aside = out.with_name(out.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    weights = {
        name: value.detach().to(torch.bfloat16).contiguous().clone()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    save_file(weights, aside / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("_name_or_path", None)
    # Both spellings of the rotary base: readers before transformers 5 only know the top-level one.
    config |= {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16", "torch_dtype": "bfloat16"}
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    (aside / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    generation = GenerationConfig(
        bos_token_id=config["bos_token_id"],
        eos_token_id=config["eos_token_id"],
        pad_token_id=config["pad_token_id"],
        do_sample=False,
    )
    generation.save_pretrained(aside)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_files / file, aside / file)
    (aside / "model.safetensors").chmod(0o644)
    if out.exists():
        old = out.with_name(out.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(out, old)
        os.replace(aside, out)
        shutil.rmtree(old)
    else:
        os.replace(aside, out)
