"""Adapters into dense weights: the sum by hand, the comparison, the same tokens, and again."""

from __future__ import annotations

import json
import shutil

import pytest
import training_fixtures as tiny

from tasks import merge
from tasks.errors import ModelError
from tasks.files import sha256_file, sha256_tree
from tasks.training.models import load_base

MODULE = "model.layers.0.mlp.down_proj"


def run(out, **paths):
    """Run the stage on the tiny models."""
    values = {"base": tiny.world() / "base", "sft": tiny.trained("sft"), "align": tiny.trained("align"),
              "prompts": tiny.world() / "dataset" / "prompts"}
    return tiny.run_stage("merge", out, **values | paths)


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """The merged folder and its report."""
    out = tmp_path_factory.mktemp("merged")
    return out, run(out)


def test_w_plus_both_products_by_hand(merged):
    """W = W₀ + (α/r)·B₁A₁ + (α/r)·B₂A₂, α/r = 8/4 = 2, in fp32."""
    import torch
    from safetensors.torch import load_file

    expected = load_file(tiny.world() / "base" / "model.safetensors")[f"{MODULE}.weight"]
    for stage in ("sft", "align"):
        adapter = load_file(tiny.trained(stage) / "adapter_model.safetensors")
        a, b = (adapter[f"base_model.model.{MODULE}.lora_{k}.weight"] for k in "AB")
        expected = expected + 2 * b @ a
    found = load_file(merged[0] / "model.safetensors")[f"{MODULE}.weight"]
    assert found.dtype == torch.float32 and torch.allclose(found, expected, atol=1e-6)


def test_a_complete_folder_with_the_bases_template_and_tokens(merged):
    """Everything but the weights is the base's, byte for byte."""
    out, report = merged
    assert tiny.names(out) == tiny.names(tiny.world() / "base")
    for name in tiny.names(out):
        same = (out / name).read_bytes() == (tiny.world() / "base" / name).read_bytes()
        assert same == (name != "model.safetensors")
    assert report.weights_sha256 == sha256_file(out / "model.safetensors")
    assert report.max_logit_difference <= 1e-4 and report.argmax_equal and report.prompts == 4


def test_again_gives_the_same_bytes(merged, tmp_path):
    """A merge is a function of its inputs, and leaves them as they are."""
    before = sha256_tree(tiny.world() / "base")
    run(tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(merged[0])
    assert sha256_tree(tiny.world() / "base") == before


def test_live_adapters_add_up_without_merging():
    """Two adapters side by side give what one after the other gives; the base alone differs."""
    import torch

    compute, base = tiny.params().compute, tiny.world() / "base"
    both = merge.live(base, [tiny.trained("sft"), tiny.trained("align")], compute)
    plain, _ = load_base(base, compute)
    ids = torch.arange(40, 60)[None]
    with torch.inference_mode():
        assert (both(input_ids=ids).logits - plain(input_ids=ids).logits).abs().max() > 1e-3
        with both.disable_adapter():
            assert torch.equal(both(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_a_difference_is_found(merged):
    """One weight moved by 1 shows in the logits; a model equals itself."""
    import torch

    compute = tiny.params().compute
    first, _ = load_base(merged[0], compute)
    second, _ = load_base(merged[0], compute)
    assert merge.compare(first, second, [[40, 41, 42], [50, 51]]) == (0.0, 5, True)
    with torch.no_grad():
        second.get_submodule(MODULE).weight[0, 0] += 1.0
    difference, positions, _ = merge.compare(first, second, [[40, 41, 42]])
    assert difference > 1e-3 and positions == 3


def test_a_merge_beyond_the_tolerance_is_refused(tmp_path):
    """Rounding alone is about 1e-7 here, so a tolerance below it must fail."""
    params = {"tolerance": 1e-12}
    with pytest.raises(ModelError, match=r"merge\.tolerance"):
        tiny.run_stage("merge", tmp_path / "out", params, base=tiny.world() / "base", sft=tiny.trained("sft"),
                       align=tiny.trained("align"), prompts=tiny.world() / "dataset" / "prompts")


def test_inputs_that_do_not_belong_together(tmp_path):
    """An adapter of another shape, and a folder without an adapter."""
    shutil.copytree(tiny.trained("sft"), tmp_path / "sft")
    config = json.loads((tmp_path / "sft" / "adapter_config.json").read_text())
    (tmp_path / "sft" / "adapter_config.json").write_text(json.dumps(config | {"r": 8}))
    with pytest.raises(ModelError, match="does not fit"):
        run(tmp_path / "out", sft=tmp_path / "sft")
    with pytest.raises(ModelError, match="holds no adapter"):
        run(tmp_path / "out2", align=tmp_path)
