"""Supervised fine-tuning on a tiny real model: what is trained, what is written, and that it repeats."""

from __future__ import annotations

import contextlib
import itertools
import json

import pytest
import torch
import training_fixtures as tiny
from trl.trainer import utils

from tasks import sft
from tasks.errors import DataError, ModelError
from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tasks.training import trainers
from tasks.training.hardware import set_up
from tasks.training.models import load_base, load_policy, parameter_count
from tasks.training.rows import encode_instructions
from tasks.training.scoring import answer_logprobs, per_token


def trainer(tmp_path, changes=None):
    """The stage's trainer, not yet run, and the tokenizer."""
    params = tiny.params()
    cfg = params.sft.model_copy(update=changes or {})
    set_up(params.compute, params.seed.value)
    model, tokenizer = load_base(tiny.world() / "base", params.compute)
    rows, _ = encode_instructions(tokenizer, tiny.instruction_rows(16), cfg.max_length, "x")
    return sft.make_trainer(cfg, params.compute, params.seed, model, tokenizer, rows, tmp_path), tokenizer, rows


def test_only_the_answer_and_its_end_token_have_labels(tmp_path):
    """Decoded from the batch that the model really gets: the answers, each up to its end token, nothing else."""
    made, tokenizer, _ = trainer(tmp_path)
    batch = next(iter(made.get_train_dataloader()))
    answers = {row["messages"][1]["content"] + "<|im_end|>" for row in tiny.instruction_rows(16)}
    for labels, ids in zip(batch["labels"], batch["input_ids"], strict=True):
        seen = labels[labels != sft.IGNORED].tolist()
        assert tokenizer.decode(seen) in answers
        end = (labels == tokenizer.eos_token_id).nonzero()
        assert len(end) == 1 and (labels[end[0, 0] + 1:] == sft.IGNORED).all()
        assert (ids[end[0, 0] + 1:] == tokenizer.pad_token_id).all()


def test_the_first_loss_is_the_bases_own(tmp_path):
    """With B = 0 the first step's loss is the base's mean −log p over the answers of that batch, computed apart."""
    made, tokenizer, rows = trainer(tmp_path, {"log_every": 1, "epochs": 1, "lora": tiny.params().reward.lora})
    order = made.train_dataset["input_ids"][:8]
    first = [next(row for row in rows if row.ids == list(ids)) for ids in order]
    model, _ = load_base(tiny.world() / "base", tiny.params().compute)
    expected = -per_token(answer_logprobs(model, first, tokenizer.pad_token_id, 4))
    made.train()
    assert made.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-4)


def test_exactly_an_adapter_and_a_curve():
    """No README, no training arguments, no optimizer."""
    out = tiny.trained("sft")
    assert tiny.names(out) == ["adapter_config.json", "adapter_model.safetensors", "curve.jsonl"]
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["target_modules"] == sorted(config["target_modules"]) and len(config["target_modules"]) == 14


def test_the_curve_has_no_times():
    """Step, loss, rate: what is the same in every run. 48 rows × 3 passes / 8 = 18 steps, a point every 2."""
    curve = read_jsonl(tiny.trained("sft") / "curve.jsonl")
    assert [point["step"] for point in curve] == list(range(2, 19, 2))
    assert all(set(point) == {"step", "loss", "learning_rate", "grad_norm", "entropy", "mean_token_accuracy"}
               for point in curve)
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_twice_the_same_bytes_and_the_report(tmp_path):
    """Equal inputs and seed, equal files; another seed, other weights. The report counts what was used."""
    first = sha256_tree(tiny.trained("sft"))
    report = tiny.run_stage("sft", tmp_path / "a", **tiny.inputs("sft"))
    assert sha256_tree(tmp_path / "a") == first
    assert (report.rows, report.too_long, report.eval_rows, report.steps) == (48, 0, 8, 18)
    assert report.eval_loss < report.eval_loss_before
    assert report.trained_parameters == 2 * (4 * (32 + 32) * 4 + 3 * 4 * (32 + 64))  # 2 layers: q k v o, gate up down


def test_rows_that_are_too_long_are_reported(tmp_path):
    """Counted and named, never dropped in silence; if none is left, that is an error."""
    data = tmp_path / "data"
    rows = tiny.instruction_rows(20)
    rows[3]["messages"][0]["content"] *= 8
    write_jsonl(data / "train.jsonl", rows)
    write_jsonl(data / "eval.jsonl", tiny.instruction_rows(4, start=90))
    report = tiny.run_stage("sft", tmp_path / "out", {"epochs": 1}, dataset=data, base=tiny.world() / "base")
    assert (report.rows, report.too_long, report.too_long_ids) == (19, 1, ["row-3"])
    with pytest.raises(DataError, match="all 20 rows are longer than max_length"):
        tiny.run_stage("sft", tmp_path / "none", {"max_length": 8}, dataset=data, base=tiny.world() / "base")


def test_packing_keeps_rows_apart(tmp_path):
    """bfd: several rows in one sequence give each token the loss it has alone, to rounding."""
    import torch

    made, _, _ = trainer(tmp_path, {"packing": True, "batch_size": 1, "epochs": 1})
    batch = next(iter(made.get_train_dataloader()))
    lengths = [*batch["position_ids"][0].eq(0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
    assert len(lengths) > 2  # at least two rows share this sequence
    model = made.model.eval()
    with torch.inference_mode():
        packed = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0]
        for start, stop in itertools.pairwise(lengths):
            alone = model(input_ids=batch["input_ids"][:, start:stop]).logits[0]
            assert torch.allclose(packed[start:stop], alone, atol=1e-5)


def test_the_head_scores_answers_only_and_the_loss_stays_the_same(tmp_path, monkeypatch):
    """Equal loss and gradients with and without the short cut; and the library still chooses the positions where we turn it."""
    made, _, _ = trainer(tmp_path, {"lora": tiny.params().reward.lora})  # no dropout
    batch = next(iter(made.get_train_dataloader()))
    scored, losses, gradients = [], [], []
    head = utils._ChunkedLogProbFunction

    class Counting:
        """The library's head, counting positions."""

        @staticmethod
        def apply(hidden, *rest):
            scored.append(len(hidden))
            return head.apply(hidden, *rest)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", Counting)
    for how in (contextlib.nullcontext, trainers.answers_only_head):
        made.model.zero_grad()
        with how():
            loss = made.compute_loss(made.model, dict(batch))
            loss.backward()
        losses.append(float(loss))
        gradients.append([p.grad.clone() for p in made.model.parameters() if p.requires_grad])
    assert scored[1] == int((batch["labels"][:, 1:] != sft.IGNORED).sum()) < scored[0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*gradients, strict=True))


def test_the_whole_model(tmp_path):
    """lora: null trains every weight; what is written is the model, everything after it loads it, and merging takes it along."""
    changes = {"lora": None, "learning_rate": 1e-3, "epochs": 1}
    report = tiny.run_stage("sft", tmp_path / "out", changes, **tiny.inputs("sft"))
    assert tiny.names(tmp_path / "out") == ["curve.jsonl", "model.safetensors"]
    base, compute = tiny.world() / "base", tiny.params().compute
    before, _ = load_base(base, compute)
    assert report.trained_parameters == parameter_count(before) and report.trained_share == 1.0
    assert report.eval_loss < report.eval_loss_before
    trained, _ = load_policy(base, [tmp_path / "out"], compute)
    moved = [name for name, weight in trained.state_dict().items() if not weight.equal(before.state_dict()[name])]
    assert any("embed_tokens" in name for name in moved) and any("norm" in name for name in moved)
    tiny.run_stage("sft", tmp_path / "again", changes, **tiny.inputs("sft"))
    assert sha256_tree(tmp_path / "again") == sha256_tree(tmp_path / "out")
    paths = {"base": base, "sft": tmp_path / "out", "prompts": tiny.world() / "dataset/prompts"}
    aligned = {**tiny.inputs("align"), "sft": tmp_path / "out"}
    tiny.run_stage("align", tmp_path / "align", {"method": "none"}, **aligned)
    merged = tiny.run_stage("merge", tmp_path / "merged", **paths, align=tmp_path / "align")
    assert merged.argmax_equal and merged.max_logit_difference < 1e-4


def test_whole_weights_of_another_model_are_refused(tmp_path):
    """By the folder that holds them."""
    (tmp_path / "model.safetensors").write_bytes((tiny.trained("sft") / "adapter_model.safetensors").read_bytes())
    with pytest.raises(ModelError, match="does not fit the model below it"):
        load_policy(tiny.world() / "base", [tmp_path], tiny.params().compute)
