"""tasks/quantize.py and tasks/training/quantized.py: a real GPTQ run on a tiny model, read back by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tasks import quantize as stage
from tasks.errors import ModelError
from tasks.files import sha256_tree, write_jsonl
from tasks.params import Quantize, Seed, load
from tasks.rag.prompt import TEMPLATES
from tasks.training import quantized
from tests.evaluation_fixtures import CPU, teach, write_base, write_cases
from tests.training_fixtures import instruction_rows

CFG = Quantize(precision=None, bits=4, group_size=32, symmetric=True, act_order=False, act_group_aware=True, damp=0.05,
               scale_search=False, calibration_chats=32, max_length=128, chats=24, max_new_tokens=16, batch_size=16)
JUDGING = load(Path(__file__).parents[1] / "params.yaml").evaluate
FILES = {"chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "quantize_config.json",
         "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A taught tiny model, its data, and the stage run once."""
    root = tmp_path_factory.mktemp("quantize")
    merged = teach(write_base(root / "base", root / "start"), root / "merged", steps=60)
    rows = instruction_rows(64)
    write_jsonl(root / "instructions" / "train.jsonl", rows[:48])
    write_jsonl(root / "instructions" / "eval.jsonl", rows[48:])
    write_cases(root / "evaluation")
    return root, merged, run(root, merged, "int4")


def run(root: Path, merged: Path, name: str):
    """The stage, as the shell door calls it: into an empty folder."""
    (root / name).mkdir()
    return stage.quantize(CFG, JUDGING, CPU, Seed(value=7), merged, root / "instructions", root / "evaluation", root / name)


def dense(folder: Path, bits: int = 4) -> dict:
    """The quantized weights by the format's definition, without gptqmodel: w = (q − z) · s, 32 / bits values an int32, and
    z − 1 is stored in as many bits, so that a zero-point of 0 stands as the largest level."""
    import torch
    from safetensors.torch import load_file

    tensors, weights, top = load_file(folder / "model.safetensors"), {}, 2**bits - 1
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    for key in [name for name in tensors if name.endswith(".qweight")]:
        name = key.removesuffix(".qweight")
        packed, zeros = tensors[key], tensors[f"{name}.qzeros"]  # (in / 8, out), (groups, out / 8) at 4 bits
        q = ((packed[:, None, :] >> shifts[None, :, None]) & top).reshape(-1, packed.shape[1])  # (in, out)
        z = (((zeros[:, :, None] >> shifts) & top).reshape(zeros.shape[0], -1) + 1) & top  # (groups, out)
        groups = tensors[f"{name}.g_idx"].long()
        weights[name] = ((q - z[groups]) * tensors[f"{name}.scales"].float()[groups]).T.contiguous()
    return weights


def test_folder_holds_exactly_a_model(world):
    """The files of a model, no log with times, nothing of this machine's paths."""
    root, _, _ = world
    assert {path.name for path in (root / "int4").iterdir()} == FILES
    for name in ("config.json", "quantize_config.json", "tokenizer_config.json"):
        assert str(root) not in (root / "int4" / name).read_text()
        assert "/tmp" not in (root / "int4" / name).read_text()


def test_tokenizer_and_template_are_carried_byte_for_byte(world):
    """What is served renders and ends chats as what was trained."""
    root, merged, _ = world
    for name in ("chat_template.jinja", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (root / "int4" / name).read_bytes() == (merged / name).read_bytes(), name


def test_config_is_plain_gptq_with_rope_theta_for_old_readers(world):
    """checkpoint_format gptq (not gptq_v2, which auto-gptq misreads), and rope_theta in both places."""
    root, merged, _ = world
    config, before = (json.loads((path / "config.json").read_text()) for path in (root / "int4", merged))
    settings = config["quantization_config"]
    assert (settings["quant_method"], settings["checkpoint_format"], settings["bits"]) == ("gptq", "gptq", 4)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == before["rope_parameters"]["rope_theta"]
    assert {key for key in config if config[key] != before.get(key)} == {"quantization_config", "rope_theta"}


def test_checkpoint_means_what_the_format_says(world):
    """Dequantized by hand into the unquantized model, it gives the logits of the loaded model."""
    import torch

    from tasks.training.models import load_base

    root, merged, _ = world
    model, tokenizer = load_base(merged, CPU)
    small, _ = quantized.load_quantized(root / "int4", CPU)
    weights = dense(root / "int4")
    assert set(weights) == set(quantized.quantizable(model))
    for name, layer in quantized.quantizable(model).items():
        layer.weight.data = weights[name]
    ids = torch.tensor([tokenizer("It opens at 42. [1]")["input_ids"]])
    with torch.inference_mode():
        assert torch.allclose(model(ids).logits, small(ids).logits.float(), atol=0.05)


def test_report(world):
    """GPTQ comes nearer than rounding, the figures are shares, and the sizes add up."""
    _, _, report = world
    assert report.layers.quantized == 14  # 2 blocks of q, k, v, o, gate, up, down
    assert report.layers.fallbacks == []
    assert report.quantized.kl.mean < report.rounded.kl.mean
    assert 0.5 < report.quantized.agreement.mean <= 1
    assert report.quantized.identical.n == report.chats == 24
    assert report.rounded.identical is None
    assert (report.order, report.symmetric) == ("group", True)
    # 12 cases a set, of which chance left 24: answerable ones are judged right or wrong, all of them degenerate or not
    kept = report.kept
    assert kept.right.lost.n + kept.abstains.lost.n == kept.degenerate["quantized"].share.n == 24
    assert kept.right.lost.difference == pytest.approx(kept.right.unquantized.share - kept.right.quantized.share, abs=1e-6)
    sizes = report.sizes
    assert sizes.quantized_bytes + sizes.unquantized_bytes == sizes.total_bytes
    assert sizes.unquantized[0] == "model.embed_tokens.weight"
    assert report.calibration.chats == 32


def test_in_bfloat16(world):
    """GPTQ's own passes and the comparison in bf16: the packed weights differ, and what is left unquantized is bf16."""
    from safetensors.torch import load_file

    root, merged, report = world
    (root / "bf16").mkdir()
    cfg = CFG.model_copy(update={"precision": "bf16", "chats": 8})
    found = stage.quantize(cfg, JUDGING, CPU, Seed(value=7), merged, root / "instructions", root / "evaluation", root / "bf16")
    assert {str(t.dtype) for n, t in load_file(root / "bf16" / "model.safetensors").items() if "norm" in n or "embed" in n} == {
        "torch.bfloat16"}
    assert found.layers.modules != report.layers.modules
    assert found.quantized.agreement.mean > 0.5 and found.sizes.bits_a_weight == report.sizes.bits_a_weight


def test_another_end_token_is_refused(world, tmp_path):
    """Had the packer changed the generation settings, the model would never stop where they are read."""
    import shutil

    from tasks.training.folders import check_same_chat

    root, merged, _ = world
    check_same_chat(merged, root / "int4")
    shutil.copytree(root / "int4", tmp_path / "int4")
    settings = json.loads((tmp_path / "int4" / "generation_config.json").read_text())
    (tmp_path / "int4" / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 0}))
    with pytest.raises(ModelError, match=r"int4/generation_config.json: has eos_token_id 0, and .*merged/.* has 3"):
        check_same_chat(merged, tmp_path / "int4")


def test_again_gives_the_same_bytes(world):
    """Nothing in the folder or the report depends on the run."""
    root, merged, report = world
    assert run(root, merged, "again") == report
    assert sha256_tree(root / "again") == sha256_tree(root / "int4")


def test_a_layer_left_out_is_an_error(world, tmp_path):
    """A model whose layers GPTQModel did not quantize must not pass as int4."""
    from tasks.training.models import load_base

    _, merged, _ = world
    model, _ = load_base(merged, CPU)
    with pytest.raises(ModelError, match=r"did not quantize model.layers.0.*14 layers"):
        stage.weigh(model, merged)


def test_loading_refuses_a_dense_folder(world):
    """The unquantized folder is no GPTQ checkpoint, and the message says what to run."""
    _, merged, _ = world
    with pytest.raises(ModelError, match="is no GPTQ checkpoint; run the stage that writes it"):
        quantized.load_quantized(merged, CPU)


@pytest.mark.parametrize(
    "hidden, inner, group, message",
    [
        (32, 64, 64, r"layers.0.self_attn.q_proj: in_features 32 is not a multiple of quantize.group_size 64; .*to 32"),
        (32, 80, 16, r"layers.0.mlp.down_proj: in_features 80 is not a multiple of 32"),
        (32, 72, 32, r"layers.0.mlp.gate_proj: out_features 72 is not a multiple of 16"),
        (32, 96, 32, None),
    ],
)
def test_preflight_names_layer_and_rule(hidden, inner, group, message):
    """Dimensions that GPTQModel would accept and fail on later are refused by name before it starts."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=64, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=2)
    model = LlamaForCausalLM(config)
    if message is None:
        quantized.check_dimensions(model, group, "folder")
        return
    with pytest.raises(ModelError, match=message):
        quantized.check_dimensions(model, group, "folder")


def test_round_to_nearest_by_hand():
    """Largest 7.5 → step 2·7.5/15 = 1: 3.4 → 3, −2.6 → −3, and 7.5 → level 15.5, clamped to 15, is 7."""
    import torch

    weight = torch.tensor([[7.5, 3.4, -2.6, 0.0]])
    assert quantized.round_to_nearest(weight, bits=4, group_size=4, symmetric=True).tolist() == [[7.0, 3.0, -3.0, 0.0]]


def test_round_to_nearest_keeps_groups_apart():
    """Each group of two has its own step; a group of zeros stays zero."""
    import torch

    weight = torch.tensor([[7.5, -7.0, 75.0, -70.0, 0.0, 0.0]])
    found = quantized.round_to_nearest(weight, bits=4, group_size=2, symmetric=True)
    assert found.tolist() == [[7.0, -7.0, 70.0, -70.0, 0.0, 0.0]]


def test_round_to_nearest_with_zero_points_by_hand():
    """From −3 to 12 in 15 steps of 1, level 3 is 0: 0.4 → 0, −2.6 → −3. All above 0: 0 stays in the range, 15 steps of 1."""
    import torch

    weight = torch.tensor([[-3.0, 12.0, 0.4, -2.6, 15.0, 1.2, 7.6, 3.4]])
    found = quantized.round_to_nearest(weight, bits=4, group_size=4, symmetric=False)
    assert found.tolist() == [[-3.0, 12.0, 0.0, -3.0, 15.0, 1.0, 8.0, 3.0]]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_round_to_nearest_has_the_grid_of_gptq(bits, symmetric):
    """A comparison on another grid would say nothing of GPTQ; only the scale in fp16 (1 in 2,048) tells the two apart."""
    import torch

    with quantized.hushed("gptqmodel", "cannot be imported"):
        from gptqmodel import QuantizeConfig
        from gptqmodel.quantization.quantizer import Quantizer

        theirs = Quantizer(QuantizeConfig(bits=bits, group_size=32, sym=symmetric))
        theirs.configure(perchannel=True)
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(1)) + 0.5
    theirs.find_params(weight, weight=True)
    found = quantized.round_to_nearest(weight, bits, 32, symmetric)
    assert torch.allclose(found, theirs.quantize(weight), rtol=2**-11, atol=1e-6)


def test_log_is_read_and_removed(tmp_path):
    """Losses and samples are kept, rounding fallbacks named, and the file with its times is gone."""
    log = tmp_path / "quant_log.csv"
    log.write_text("layer,module,loss,samples,damp,time\n0,mlp.up_proj,0.25,800,0.05000,0.031\n"
                   "1,mlp.up_proj,0.5,790,0.05000,0.030\n1,mlp.down_proj,fallback(rtn): 0.1,3,0.05000,0.001\n")
    layers = stage.read_log(log)
    assert (layers.quantized, layers.worst, layers.worst_loss) == (3, "layers.1.mlp.up_proj", 0.5)
    assert [(m.name, m.loss, m.tokens) for m in layers.modules] == [
        ("layers.0.mlp.up_proj", 0.25, 800), ("layers.1.mlp.down_proj", None, 3), ("layers.1.mlp.up_proj", 0.5, 790)]
    assert (layers.fallbacks, layers.least_tokens) == (["layers.1.mlp.down_proj"], 3)
    assert not log.exists()


def test_hushed_turns_a_library_error_into_ours(capsys):
    """Chatter is kept back; the reason and the last thing said come in one line."""
    with pytest.raises(ModelError, match=r"here: cannot go on: RuntimeError: no room \(before that: packing\)"), \
            quantized.hushed("here", "cannot go on"):
        print("packing")
        raise RuntimeError("no room")
    assert capsys.readouterr().out == ""


def test_held_out_instructions_stand_in_for_missing_cases(world, tmp_path):
    """The questions of instructions/eval.jsonl, without their answers, by the same choice."""
    root, _, _ = world
    for name in stage.SETS:
        write_jsonl(tmp_path / f"{name}.jsonl", [])
    found = stage.held_out(tmp_path, root / "instructions" / "eval.jsonl", 5)
    assert len(found) == 5 and all([m["role"] for m in row["messages"]] == ["user"] for row in found)
    assert {row["id"] for row in found} <= {row["id"] for row in instruction_rows(64)[48:]}
    assert "answer" in stage.held_out(root / "evaluation", tmp_path / "unread.jsonl", 3)[0]


def test_what_is_not_quantized_is_halved_where_nothing_is_lost(tmp_path):
    """An embedding that came from bfloat16 goes back to it; a trained norm, scales and packed weights stay; twice is once."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    before = {
        "embed.weight": torch.tensor([1.5, -2.0]), "norm.weight": torch.tensor([1.0, 1.0 + 2**-20]),
        "q.scales": torch.tensor([0.5, 0.25]), "q.qweight": torch.tensor([7], dtype=torch.int32)}
    save_file(before, tmp_path / "model.safetensors", {"format": "pt"})
    stage.halve(tmp_path)
    after = load_file(tmp_path / "model.safetensors")
    assert {name for name in after if after[name].dtype != before[name].dtype} == {"embed.weight"}
    assert all(torch.equal(after[name].to(before[name].dtype), before[name]) for name in before)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as tensors:
        assert tensors.metadata() == {"format": "pt"}
    first = sha256_tree(tmp_path)
    stage.halve(tmp_path)
    assert sha256_tree(tmp_path) == first


ORDERS = {"as they stand": {}, "activation": {"act_order": True}, "group": {"act_group_aware": True}}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_every_combination_means_what_the_format_says(world, tmp_path, bits, symmetric, order):
    """Really quantized, loaded by transformers, and equal to the weights unpacked by hand as far as the kernel rounds: to
    bf16 at 4 bits (0.02 of logits up to 9), to fp16 sums at 8. Each comes nearer to the model than the coarser grid could."""
    import torch

    from tasks.training.models import load_base

    root, merged, _ = world
    cfg = Quantize.model_validate({**CFG.model_dump(), "bits": bits, "symmetric": symmetric, "act_order": False,
                                   "act_group_aware": False, "scale_search": symmetric, **ORDERS[order]})
    model, tokenizer = load_base(merged, CPU)
    chats, _ = stage.calibration_chats(cfg, 7, tokenizer, root / "instructions" / "train.jsonl")
    stage.run_gptq(cfg, CPU, merged, chats[:8], tmp_path / "out")
    layers = stage.read_log(tmp_path / "out" / "quant_log.csv")
    assert [m.tokens for m in layers.modules] == [sum(map(len, chats[:8]))] * 14
    stage.complete_folder(merged, tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert [settings[key] for key in ("bits", "sym", "desc_act")] == [bits, symmetric, order == "activation"]
    small, _ = quantized.load_quantized(tmp_path / "out", CPU)
    ids = torch.tensor([tokenizer("It opens at 42. [1]")["input_ids"]])
    weights = dense(tmp_path / "out", bits)
    with torch.inference_mode():
        exact, found = model(ids).logits, small(ids).logits.float()
        for name, layer in quantized.quantizable(model).items():
            layer.weight.data = weights[name]
        by_hand = model(ids).logits
    assert (found - by_hand).abs().max() < (0.03 if bits == 4 else 0.001)
    assert 0.001 < (by_hand - exact).abs().max() < (0.3 if bits == 4 else 0.02)


def test_the_lines_on_the_model_card_load_it(world, capsys):
    """They are run as they stand there, on a real GPTQ folder: the answer they print is the one that the loaded model gives."""
    from tasks.reporting import fitness
    from tasks.reporting.card import Facts
    from tasks.training.generate import generate
    from tests.release_fixtures import RECIPE

    root, _, _ = world
    words = {language: asdict(text) for language, text in TEMPLATES.items()}
    manifest = {"parts": {"model": {"path": (root / "int4").as_posix()}}, "prompt": words,
                "answering": RECIPE.answers.model_dump(mode="json")}
    [code, _] = fitness.loading(Facts(manifest, {"prepare": {"languages": {"instructions": {"en": 64}}}}))
    exec(compile(code.text, "card", "exec"), said := {})
    model, tokenizer = quantized.load_quantized(root / "int4", CPU)
    [[answer]] = generate(model, tokenizer, [said["chat"]], max_new_tokens=RECIPE.answers.max_new_tokens, batch_size=1)
    assert capsys.readouterr().out.splitlines()[-1] == answer.text and answer.text
