"""make interop: the format by hand, vLLM's rules on good and broken folders, and the real auto-gptq beside us."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from deploy.checklist import Row, apart, as_json, difference, same, table
from deploy.interop import __main__ as command
from deploy.interop import checks, variants, vllm_rules
from deploy.interop.inside import dequantize, read
from tasks.errors import ServiceError
from tests import gptq_fixtures as gptq

BLOCK = "model.layers.0"
Q, K, V, DOWN = f"{BLOCK}.self_attn.q_proj", f"{BLOCK}.self_attn.k_proj", f"{BLOCK}.self_attn.v_proj", f"{BLOCK}.mlp.down_proj"


def test_a_weight_is_unpacked_by_hand():
    """4 bits, lowest first: levels 1 … 8 under z = 7 + 1 and s = 0.5 are −3.5 … 0; the second group has s = 2."""
    import torch

    word = sum(level << 4 * n for n, level in enumerate(range(1, 9)))
    word -= 2**32 * (word >= 2**31)
    tensors = {
        "a.qweight": torch.tensor([[word] * 8], dtype=torch.int32),  # (8 / 8, 8)
        "a.qzeros": torch.tensor([[0x77777777], [0x77777777]], dtype=torch.int32),  # (2, 8 / 8)
        "a.scales": torch.tensor([[0.5] * 8, [2.0] * 8]).half(), "a.g_idx": torch.tensor([0] * 4 + [1] * 4),
        "b.weight": torch.tensor([1.5]).bfloat16()}
    dense = dequantize(tensors, gptq.settings())
    assert dense["a.weight"].shape == (8, 8) and dense["b.weight"].tolist() == [1.5]
    assert dense["a.weight"][3].tolist() == [-3.5, -3.0, -2.5, -2.0, -6.0, -4.0, -2.0, 0.0]
    assert dequantize(tensors, gptq.settings(checkpoint_format="gptq_v2"))["a.weight"][3, 0] == -3.0  # (1 − 7) · 0.5


@pytest.mark.parametrize("bits", [4, 8])
def test_v2_is_the_same_model_in_the_other_format(tmp_path, bits):
    """Read by its own rule it gives the same weights; read by the old one every weight is a step too high, w + s."""
    import torch

    folder = gptq.write(tmp_path / "v1", gptq.tensors(bits), gptq.settings(bits=bits))
    other = variants.as_v2(folder, tmp_path / "v2")
    settings, config = (json.loads((other / name).read_text()) for name in ("quantize_config.json", "config.json"))
    assert settings["checkpoint_format"] == config["quantization_config"]["checkpoint_format"] == "gptq_v2"
    before, after = dequantize(read(folder), gptq.settings(bits=bits)), dequantize(read(other), settings)
    assert all(torch.equal(before[name], after[name]) for name in before)
    wrong, scales = dequantize(read(other), gptq.settings(bits=bits))[f"{Q}.weight"], read(folder)[f"{Q}.scales"].float()
    assert torch.allclose(before[f"{Q}.weight"] - wrong, scales.repeat_interleave(32, 0).T)


def test_a_tied_head_is_found_and_written_out(tmp_path):
    """The copy has the embedding under both names, and needs no second copy."""
    import torch

    folder = gptq.write(tmp_path / "tied", gptq.tensors(), gptq.settings())
    assert variants.lacks_head(folder)
    headed = variants.with_head(folder, tmp_path / "headed")
    assert not variants.lacks_head(headed)
    tensors = read(headed)
    assert torch.equal(tensors[variants.HEAD], tensors[variants.EMBEDDING]) and len(tensors) == len(read(folder)) + 1


def test_rows():
    """The same bits are identical; within the limit is the same; a control passes where it differs; no number is far off."""
    import torch

    wanted, near, far, none = ({"0": torch.tensor([[x, -10.0]])} for x in (1.0, 1.05, 9.0, math.nan))
    assert difference(near, wanted) == (pytest.approx(0.05), 10.0) and difference(none, wanted)[0] == math.inf
    assert (same("a", "b", wanted, wanted, 0).verdict, same("a", "b", near, wanted, 0).passed) == ("identical", False)
    assert same("a", "b", near, wanted, 0.01).verdict == "the same to 1 %"  # 0.05 ≤ 1 % of 10
    assert not same("a", "b", none, wanted, 0.01).passed and apart("a", "b", none, wanted, 0.01).passed
    assert not apart("a", "b", near, wanted, 0.01).passed and apart("a", "b", far, wanted, 0.01).verdict == "told apart"
    assert as_json([apart("a", "b", none, wanted, 0.01)])[0]["difference"] == "inf"
    lines = table([Row("check one", "word " * 30, 0.25, True, "fine"), Row("two", "x", None, False, "BAD")]).splitlines()
    assert lines[1].split() == ["check", "one", *["word"] * 11, "0.25", "fine"] and lines[-1].split() == ["two", "x", "BAD"]


def test_what_is_no_gptq_folder_is_refused(tmp_path, capsys):
    """Before anything is installed, with what to do."""
    assert command.main(["--model", str(tmp_path / "none")]) == 1
    assert re.search(r'none: is missing; run make nightly first, or .*FLAGS="--model DIR"', capsys.readouterr().err)
    assert command.main(["--model", str(tmp_path)]) == 1
    assert "is no GPTQ folder" in capsys.readouterr().err


def test_the_architecture_has_these_layers(tmp_path):
    """Names and widths come from transformers, not from the folder's tensors."""
    folder = gptq.write(tmp_path / "model", gptq.tensors(), gptq.settings())
    assert checks.architecture(folder) == gptq.EXPECTED


@pytest.mark.parametrize("changed", [{}, {"group_size": 64}, {"bits": 8}, {"desc_act": True}])
def test_vllm_takes_a_good_folder(tmp_path, changed):
    """No complaint, and a kernel for each (fused) layer."""
    settings = gptq.settings(**changed)
    folder = gptq.write(tmp_path / "model", gptq.tensors(settings["bits"], settings["group_size"]), settings)
    verdict = vllm_rules.check(folder, gptq.EXPECTED)
    assert verdict.problems == () and list(verdict.kernels) == list(vllm_rules.PLATFORMS)
    wide = "none" if settings["bits"] == 8 else "CPUWNA16"  # 8 bits have no kernel on CPUs
    assert verdict.kernels["CPU"] == (wide,) and "none" not in verdict.kernels["NVIDIA 8.0 to 8.9"]


@pytest.mark.parametrize("settings, shape, kernels", [
    ((4, 32, False), (128, 128), ("Marlin", "Marlin", "CPUWNA16")),
    ((4, 32, False), (64, 64), ("Marlin (padded)", "Marlin (padded)", "CPUWNA16")),  # neither n64·k128 nor n128·k64
    ((4, 64, False), (64, 128), ("Marlin", "Machete", "CPUWNA16")),
    ((4, 64, True), (64, 64), ("Exllama (float16)", "Exllama (float16)", "CPUWNA16")),  # act order: no padding
    ((4, 64, True), (128, 64), ("Marlin", "Marlin", "CPUWNA16")),
    ((8, -1, True), (32, 64), ("AllSpark", "Marlin (padded)", "none")),  # one group a row: the order does not matter
    ((4, 64, False), (96, 64), ("none", "none", "CPUWNA16"))])  # 96 inputs are no whole groups
def test_the_kernel_is_the_first_that_takes_the_layer(settings, shape, kernels):
    """(bits, group_size, desc_act) and (in, out) → on Ampere, Hopper and a CPU, worked out from the rules by hand."""
    assert tuple(vllm_rules.kernel(platform, vllm_rules.Settings(*settings, True), *shape)
                 for platform in vllm_rules.PLATFORMS) == kernels


def test_a_fused_layer_is_as_wide_as_its_parts():
    """q, k and v of 64 outputs each are one layer of 192; gate and up of 128 one of 256; o stands alone."""
    assert [vllm_rules._fused_shape(f"model.layers.0.{name}", gptq.EXPECTED) for name in (
        "self_attn.k_proj", "mlp.up_proj", "self_attn.o_proj")] == [(64, 192), (64, 256), (64, 64)]


@pytest.mark.parametrize("changed, complaint", [
    ({"sym": False}, "bits 4 with sym False is refused"),
    ({"bits": 3}, "bits 3 with sym True is refused"),
    ({"group_size": 16}, "group_size 16 is refused"),
    ({"quant_method": "awq"}, "quant_method is 'awq'"),
    ({"checkpoint_format": "marlin"}, "checkpoint_format 'marlin' is no GPTQ layout"),
    ({"dynamic": {"+:x": {}}}, "dynamic"),
    ({"lm_head": True}, "lm_head is True in the settings and False in the tensors"),
    ({"checkpoint_format": "gptq_v2"}, "its zeros are not 8, as gptq_v2 with sym stores them")])
def test_vllm_refuses_settings(tmp_path, changed, complaint):
    """Settings that its reader refuses, or that say other than the tensors."""
    folder = gptq.write(tmp_path / "model", gptq.tensors(), gptq.settings(**changed))
    assert complaint in vllm_rules.check(folder, gptq.EXPECTED).problems[0]


def test_vllm_refuses_settings_that_are_missing_or_disagree(tmp_path):
    """A key that its reader asks for; two files of which each reader takes another; no settings at all."""
    lacking = {key: value for key, value in gptq.settings().items() if key != "desc_act"}
    folder = gptq.write(tmp_path / "a", gptq.tensors(), lacking)
    assert vllm_rules.check(folder, gptq.EXPECTED).problems == ("the settings lack desc_act",)
    folder = gptq.write(tmp_path / "b", gptq.tensors(), gptq.settings(), gptq.settings(bits=8))
    assert "disagree on bits" in vllm_rules.check(folder, gptq.EXPECTED).problems[0]
    (tmp_path / "b" / "config.json").write_text("{}")
    (tmp_path / "b" / "quantize_config.json").unlink()
    assert "has quantization settings" in vllm_rules.check(tmp_path / "b", gptq.EXPECTED).problems[0]


def drop(key):
    return lambda tensors: tensors.pop(key)


def put(key, make):
    return lambda tensors: tensors.update({key: make(tensors[key])})


def rename(old, new):
    return lambda tensors: tensors.update({key.replace(old, new): tensors.pop(key) for key in list(tensors) if old in key})


@pytest.mark.parametrize("break_it, complaint", [
    (drop(f"{DOWN}.g_idx"), f"{DOWN}: g_idx is missing"),
    (put(f"{DOWN}.qweight", lambda t: t.long()), f"{DOWN}: qweight is int64, not int32"),
    (put(f"{DOWN}.scales", lambda t: t[:1].clone()), f"{DOWN}: scales has shape (1, 64), not (4, 64)"),
    (put(f"{DOWN}.qweight", lambda t: t.T.contiguous()), f"{DOWN}: qweight has shape (64, 16), not (16, 64)"),
    (put(f"{DOWN}.qzeros", lambda t: t + 1), f"{DOWN}: its zeros are not 7, as gptq with sym stores them"),
    (lambda tensors: [tensors.pop(f"{K}.{part}") for part in vllm_rules.PARTS], f"{Q}: vLLM fuses it with k_proj, v_proj"),
    (rename("q_proj.", "z_proj."), "z_proj: the architecture has no such linear layer")])
def test_vllm_refuses_tensors(tmp_path, break_it, complaint):
    """Names, types, shapes and zeros, each broken once; the complaint names the layer."""
    tensors = gptq.tensors()
    break_it(tensors)
    problems = vllm_rules.check(gptq.write(tmp_path / "model", tensors, gptq.settings()), gptq.EXPECTED).problems
    assert any(complaint in problem for problem in problems), problems


def test_vllm_wants_one_order_for_a_fused_layer(tmp_path):
    """With activation order one g_idx serves q, k and v, the last that is loaded; without it none is read."""
    tensors = gptq.tensors()
    tensors[f"{V}.g_idx"] = tensors[f"{V}.g_idx"].flip(0)
    plain = gptq.write(tmp_path / "plain", tensors, gptq.settings())
    ordered = gptq.write(tmp_path / "ordered", tensors, gptq.settings(desc_act=True))
    assert vllm_rules.check(plain, gptq.EXPECTED).problems == ()
    (problem,) = vllm_rules.check(ordered, gptq.EXPECTED).problems
    assert problem == f"{Q}: vLLM fuses it with its neighbours, and their g_idx differ"


@pytest.mark.service
def test_auto_gptq_reads_what_gptqmodel_wrote(tmp_path, capsys):
    """The whole command on a tied Llama with θ = 500,000 that GPTQModel quantized: identical logits, all controls told apart."""
    from tasks.params import load

    params = load(Path("params.yaml"))
    try:
        checks.SIDE.install()
    except ServiceError as error:
        if re.search("connect|fetch|sending request|timed out", str(error), re.IGNORECASE):
            pytest.skip(f"tier service: auto-gptq cannot be installed here: {str(error)[:200]}")
        raise
    from tests.evaluation_fixtures import write_base

    start = write_base(tmp_path / "base", tmp_path / "start")
    model = variants.drawn(start, checks.THETA, params.quantize, params.compute, tmp_path, tied=True)
    rows, versions = checks.run(model, params, tmp_path / "home")
    shown = table(rows)
    assert all(row.passed for row in rows), shown
    assert (versions["auto-gptq"], versions["transformers"]) == ("0.7.1", "4.44.2")
    assert [row.check for row in rows if row.verdict == "told apart"] == [
        "control: the same as gptq_v2", "control: a tied head, not written out", "control: no rope_theta at the top"]
    assert (rows[0].verdict, rows[0].difference) == ("identical", 0)
    assert "rope_theta 500000 is read" in shown
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["for-auto-gptq"]
