"""How exactly a stage computes: its own word before compute.precision, refused at the door where the machine cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import training_fixtures as tiny
import yaml

from tasks import params
from tasks.__main__ import check_precisions
from tasks.errors import ModelError, ParamsError
from tasks.params import Compute
from tasks.training import hardware, models

ROOT = Path(__file__).parents[1]
CPU = Compute(threads=2, precision="fp32", device="cpu", reproducible="this-cpu")


def read(tmp_path, **changes):
    """params.yaml with `section={"precision": …}` changes, on a CPU."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, change in ({"compute": {"device": "cpu"}} | {k: v for k, v in changes.items() if k != "compute"}).items():
        raw[section].update(change)
    raw["compute"].update(changes.get("compute", {}))
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True))
    return params.load(path)


def test_every_stage_that_computes_has_a_word_and_leaves_it_to_compute(tmp_path):
    """As committed, all of them take compute.precision, which is fp32."""
    found = read(tmp_path)
    assert list(found.precisions()) == ["compute.precision"]
    own = {name for name in type(found).model_fields if isinstance(getattr(found, name), params.Precise)}
    assert own == {"sft", "candidates", "reward", "select", "align", "evaluate", "quantize", "embed", "answers"}
    assert CPU.at(None) is CPU and CPU.at("bf16").precision == "bf16" and CPU.precision == "fp32"


@pytest.mark.parametrize("changes, place", [
    ({"sft": {"precision": "fp16"}}, "sft.precision"),
    ({"compute": {"precision": "fp16"}}, "compute.precision"),
    ({"compute": {"precision": "fp16"}, "sft": {"precision": "bf16"}, "reward": {"precision": "fp32"}}, "compute.precision"),
])
def test_no_training_in_fp16_on_a_cpu(tmp_path, changes, place):
    """The trainer would go on in fp32 without a word. Any stage says so, the first one too, and names the place."""
    with pytest.raises(ModelError, match=rf"{place}: is fp16, in which only a GPU trains"):
        check_precisions(read(tmp_path, **changes))


def test_what_a_cpu_can_do_passes(tmp_path):
    """Answers in fp16 and anything in bf16; so does fp16 for all where each training has its own."""
    check_precisions(read(tmp_path, compute={"precision": "bf16"}, evaluate={"precision": "fp16"}))
    trainings = {name: {"precision": "fp32"} for name in ("sft", "reward", "align")}
    check_precisions(read(tmp_path, compute={"precision": "fp16"}, **trainings))


def test_a_gpu_that_lacks_bf16(monkeypatch):
    """Its name stands in the message. (What CUDA says of itself is put in its place here; no such GPU is at hand.)"""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla P100")
    cuda = Compute(threads=2, precision="bf16", device="cuda", reproducible="this-cpu")
    with pytest.raises(ModelError, match=r"evaluate\.precision: is bf16, which Tesla P100 cannot compute in; take fp32 or fp16"):
        hardware.check_precision(cuda, "evaluate.precision", training=False)
    hardware.check_precision(cuda.at("fp16"), "sft.precision", training=True)


def test_the_old_word_is_refused_with_the_new_one(tmp_path):
    """params.yaml of an earlier version says bf16-autocast."""
    with pytest.raises(ParamsError, match=r"compute.precision: .*is called bf16 now.*\(found 'bf16-autocast'\)"):
        read(tmp_path, compute={"precision": "bf16-autocast"})


def test_a_training_in_bf16(tmp_path):
    """Products in bf16, weights in fp32: another adapter than fp32's, stored in fp32, near it, and the model has learned."""
    from safetensors.torch import load_file

    report = tiny.run_stage("sft", tmp_path / "bf16", {"precision": "bf16"}, **tiny.inputs("sft"))
    half, plain = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "bf16", tiny.trained("sft")))
    assert {str(t.dtype) for t in half.values()} == {"torch.float32"}
    away = max(float((half[name] - plain[name]).abs().max()) for name in half)
    assert 0 < away < 0.1 and report.eval_loss < report.eval_loss_before - 0.1


def test_a_model_that_only_answers_has_its_weights_in_it():
    """Parameters alone; positions stay exact. fp16 has 3 bits more than bf16: logits are nearer. fp32 changes nothing."""
    import torch

    ids, logits = torch.arange(40, 60)[None], {}
    for precision in ("fp32", "bf16", "fp16"):
        model, _ = models.load_base(tiny.world() / "base", CPU)
        before = {name: tensor.clone() for name, tensor in model.named_buffers()}
        assert hardware.answering(model, CPU.at(precision)) is model
        assert {p.dtype for p in model.parameters()} == {hardware.dtype_of(precision)}
        assert before and all(torch.equal(tensor, before[name]) for name, tensor in model.named_buffers())
        assert model.get_input_embeddings().weight is model.get_output_embeddings().weight  # still tied
        with torch.inference_mode():
            logits[precision] = model(ids).logits.float()
    untouched, _ = models.load_base(tiny.world() / "base", CPU)
    with torch.inference_mode():
        assert torch.equal(logits["fp32"], untouched(ids).logits)
    away = {name: float((found - logits["fp32"]).abs().max()) for name, found in logits.items()}
    assert 0 < away["fp16"] < away["bf16"] < 0.1


def test_rewards_in_bf16():
    """The body in bf16, the head that tells rewards apart in fp32."""
    import torch

    from tasks.training.rewards import load_reward, score

    chats = [row["messages"][:1] for row in tiny.preference_rows(4)]
    texts, found = [row["chosen"] for row in tiny.preference_rows(4)], {}
    for precision in ("fp32", "bf16"):
        model, tokenizer = load_reward(tiny.world() / "base", tiny.trained("sft"), tiny.trained("reward"), CPU)
        found[precision] = score(hardware.answering(model, CPU.at(precision)), tokenizer, chats, texts)
        assert model.score.weight.dtype == torch.float32
    assert found["bf16"] != found["fp32"] and found["bf16"] == pytest.approx(found["fp32"], abs=0.1)


def test_vectors_in_bf16():
    """Nearly the same directions; but none of them is kept for, or taken from, a model in fp32."""
    from tasks.rag.embedder import load_embedder

    cfg = params.load(ROOT / "params.yaml").embed
    plain, half = (load_embedder(cfg.model_copy(update={"precision": p}), ROOT / "starter" / "embedder", CPU)
                   for p in (None, "bf16"))
    texts = ["Ashgate store\n- opening time: 8:00", "青山店\n- 店长：王明华"]
    a, b = plain.passages(texts), half.passages(texts)
    assert b.dtype == np.float32 and not np.array_equal(a, b)
    assert np.linalg.norm(b, axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert (a * b).sum(1) == pytest.approx([1, 1], abs=1e-4)
    assert plain.identity != half.identity and plain.weights_sha256 == half.weights_sha256
