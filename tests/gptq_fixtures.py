"""A GPTQ folder written by hand, from the format's definition: drawn weights, nothing that was calibrated."""

from __future__ import annotations

from pathlib import Path

from tasks.files import write_json

HIDDEN, INNER, VOCABULARY = 64, 128, 96
LINEAR = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, HIDDEN), "self_attn.v_proj": (HIDDEN, HIDDEN),
          "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (HIDDEN, INNER), "mlp.up_proj": (HIDDEN, INNER),
          "mlp.down_proj": (INNER, HIDDEN)}
EXPECTED = {f"model.layers.0.{name}": shape for name, shape in LINEAR.items()}  # layer → (in, out)


def settings(**changed) -> dict:
    """Quantization settings as GPTQModel writes them, as far as they are read."""
    return {"quant_method": "gptq", "checkpoint_format": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True,
            "lm_head": False, **changed}


def tensors(bits: int = 4, group_size: int = 32, seed: int = 0) -> dict:
    """All tensors of a Llama of one block: drawn levels, symmetric zeros stored less one, as format gptq has them."""
    import torch

    drawn = torch.Generator().manual_seed(seed)
    pack, middle = 32 // bits, 2 ** (bits - 1) - 1  # z = 8 of 16 levels, stored as 7
    word = sum(middle << shift for shift in range(0, 32, bits))
    found = {"model.embed_tokens.weight": torch.randn(VOCABULARY, HIDDEN, generator=drawn)}
    for norm in ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"):
        found[f"{norm}.weight"] = torch.ones(HIDDEN)
    for name, (inputs, outputs) in EXPECTED.items():
        groups = inputs // group_size
        found[f"{name}.qweight"] = torch.randint(-(2**31), 2**31, (inputs // pack, outputs), dtype=torch.int32, generator=drawn)
        found[f"{name}.qzeros"] = torch.full((groups, outputs // pack), word, dtype=torch.int32)
        found[f"{name}.scales"] = (0.01 + 0.02 * torch.rand(groups, outputs, generator=drawn)).half()
        found[f"{name}.g_idx"] = torch.arange(inputs, dtype=torch.int32) // group_size
    return found


def write(folder: Path, found: dict, quantization: dict, beside: dict | None = None) -> Path:
    """The folder of these tensors; `beside` is quantize_config.json where it is not the same."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN, "intermediate_size": INNER,
              "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
              "tie_word_embeddings": True, "rope_theta": 5e5, "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
    write_json(folder / "config.json", config | {"quantization_config": quantization})
    write_json(folder / "quantize_config.json", quantization if beside is None else beside)
    return folder
