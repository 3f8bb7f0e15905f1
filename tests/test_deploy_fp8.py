"""make fp8: the rounding by hand, folders that must be refused, and the real llmcompressor where it is installed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from deploy.fp8 import __main__ as command
from deploy.fp8 import checks
from tasks.files import sha256_tree, write_json, write_jsonl

Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def model():
    """A Llama of one block with drawn weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=2, tie_word_embeddings=True)
    return LlamaForCausalLM(config).eval()


def quantized(model) -> dict:
    """Its tensors in FP8 by the definition: one scale a row, largest |w| / 448, and the nearest float8 of w / s."""
    import torch

    from tasks.training.quantized import quantizable

    stored = {name: tensor.detach().clone() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    for name, layer in quantizable(model).items():
        scale = layer.weight.detach().abs().amax(1, keepdim=True) / checks.TOP
        stored[f"{name}.weight"] = (layer.weight.detach() / scale).to(torch.float8_e4m3fn)
        stored[f"{name}.weight_scale"] = scale
    return stored


def test_activations_are_rounded_token_by_token():
    """Largest 448 → s = 1: 17 lies between 16 and 18, ties to even, 16; 100 between 96 and 104 → 96 … 104. Zeros stay."""
    import torch

    x = torch.tensor([[448.0, 17.0, 100.0, -0.001], [4.48, 0.17, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    found = checks.rounded(x)
    assert found[0].tolist() == [448.0, 16.0, 96.0, -0.001953125]  # the least float8 is 2^−9
    assert torch.allclose(found[1], torch.tensor([4.48, 0.16, 0.96, 0.0])) and found[2].tolist() == [0.0] * 4


def test_a_good_folder_passes(model):
    """7 layers; each weight within half a step, so a layer is some percent off; the embedding is what is left."""
    stored = quantized(model)
    rows = [checks.tensors(model, stored), checks.weights(model, stored)]
    assert all(row.passed for row in rows) and rows[0].what.startswith("7 layers in float8_e4m3fn")
    sizes = checks.sizes(model, stored)
    linear, rows_of = 4 * 32 * 32 + 3 * 32 * 64, 4 * 32 + 2 * 64 + 32  # weights and outputs of q, k, v, o, gate, up, down
    plain = 96 * 32 + 3 * 32  # embedding and norms, fp32
    assert (sizes["fp8_bytes"], sizes["total_bytes"]) == (linear + 4 * rows_of, linear + 4 * rows_of + 4 * plain)
    assert sizes["bf16_bytes"] == 2 * (linear + plain) and sizes["unquantized"] == ["model.embed_tokens.weight"]


def test_broken_tensors_are_refused(model):
    """A missing scale, a wrong type, a wrong shape, an embedding in FP8, a weight of another model: each is named."""
    import torch

    def row(**changed):
        stored = {**quantized(model), **{name.replace("__", "."): tensor for name, tensor in changed.items()}}
        return checks.tensors(model, {name: tensor for name, tensor in stored.items() if tensor is not None})

    name = Q.replace(".", "__")
    assert "weight_scale is missing" in row(**{f"{name}__weight_scale": None}).verdict
    assert "weight is float32 (32, 32)" in row(**{f"{name}__weight": torch.zeros(32, 32)}).verdict
    assert "weight_scale is (32,)" in row(**{f"{name}__weight_scale": torch.ones(32)}).verdict
    assert "no linear layer" in row(**{"lm_head__weight": torch.zeros(96, 32).to(torch.float8_e4m3fn)}).verdict
    stored = quantized(model)
    stored[f"{Q}.weight"][3, 5] = checks.TOP if stored[f"{Q}.weight"][3, 5].float() < 200 else 0
    verdict = checks.weights(model, stored)
    assert not verdict.passed and Q in verdict.verdict


def test_emulation_multiplies_what_was_rounded(model):
    """A layer gives round(x) · (s · q)ᵀ, its copy leaves the model alone, and without activations x is as it was."""
    import torch

    stored = quantized(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    for activations, seen in ((True, checks.rounded(x)), (False, x)):
        layer = checks.emulated(model, stored, activations).get_submodule(Q)
        assert torch.equal(layer(x), seen @ checks.dequantized(stored, Q).T)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_files_are_held_to_the_merged_folder(tmp_path):
    """Another byte in the template, another key in config.json, a file that is missing: each is named."""
    merged, out = tmp_path / "merged", tmp_path / "out"
    for folder in (merged, out):
        folder.mkdir()
        (folder / "chat_template.jinja").write_text("x")
        write_json(folder / "config.json", {"hidden_size": 32})
    write_json(out / "config.json", {"hidden_size": 32, "quantization_config": {"quant_method": "compressed-tensors"}})
    assert checks.files(merged, out).passed
    (out / "chat_template.jinja").write_text("y")
    (merged / "tokenizer.json").write_text("{}")
    write_json(out / "config.json", {"hidden_size": 32, "quantization_config": {"quant_method": "gptq"}})
    assert checks.files(merged, out).verdict == "DIFFER: chat_template.jinja, tokenizer.json, config.json"


def test_what_is_no_model_is_refused(tmp_path, capsys):
    """Before anything is installed or written."""
    assert command.main(["--model", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert 'is no model folder; run make nightly first, or: make fp8 FLAGS="--model DIR"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.service
def test_llmcompressor_writes_it_and_compressed_tensors_reads_it(tmp_path):
    """The whole command on a tiny taught model: all rows pass, near to the merged model, and again the same bytes."""
    from tasks.params import load
    from tests.evaluation_fixtures import teach, write_base, write_cases
    from tests.training_fixtures import instruction_rows

    if not command.SIDE.installed():
        pytest.skip("tier service: llmcompressor is not installed here, make fp8 does it")
    params = load(Path("params.yaml"))
    merged = teach(write_base(tmp_path / "base", tmp_path / "start"), tmp_path / "merged", steps=20)
    write_jsonl(tmp_path / "data" / "instructions" / "eval.jsonl", instruction_rows(8))
    write_cases(tmp_path / "data" / "evaluation")
    rows, figures = command.run(merged, tmp_path / "data", tmp_path / "out", params, tmp_path / "home")
    assert all(row.passed for row in rows) and len(rows) == 5, rows
    weights, both = figures["emulated"]["weights"], figures["emulated"]["weights and activations"]
    assert 0 < weights["kl"]["mean"] < both["kl"]["mean"] < 1e-2 and math.isfinite(both["perplexity"])
    command.write(merged, tmp_path / "again", tmp_path / "home", params.compute.threads)
    assert sha256_tree(tmp_path / "again") == sha256_tree(tmp_path / "out")
