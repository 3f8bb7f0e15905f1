"""Preference training: DPO's loss by hand, its files, and the gate on what the model then writes."""

from __future__ import annotations

import math

import pytest
import training_fixtures as tiny

from tasks import align
from tasks.errors import ParamsError
from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tasks.training import methods
from tasks.training.alignment import Task
from tasks.training.backbone import Judge
from tasks.training.dpo import make_trainer
from tasks.training.hardware import set_up
from tasks.training.models import load_policy
from tasks.training.rows import encode_pairs
from tasks.training.scoring import answer_logprobs
from tasks.training.watch import Watch


@pytest.fixture(scope="module")
def dpo(tmp_path_factory):
    """DPO's trainer before its first step (loss sigmoid 1 + sft 0.5), one batch of it, its policy and the pairs."""
    params = tiny.params()
    cfg = params.align.model_copy(update={
        "dpo": params.align.dpo.model_copy(update={"epochs": 1, "beta": 0.1, "losses": {"sigmoid": 1.0, "sft": 0.5}})})
    set_up(params.compute, params.seed.value)
    policy, tokenizer = load_policy(tiny.world() / "base", [tiny.trained("sft")], params.compute)
    pairs, _ = encode_pairs(tokenizer, tiny.preference_rows(8), 128, "x")
    plain = {side: answer_logprobs(policy, [getattr(p, side) for p in pairs], tokenizer.pad_token_id, 8)
             for side in ("chosen", "rejected")}
    work = tmp_path_factory.mktemp("work")
    judge = Judge(tiny.trained("reward"), tokenizer)
    watch = Watch(cfg, params.seed.value, tokenizer, [], judge, work)
    made = make_trainer(Task(cfg, params.compute, params.seed.value, policy, tokenizer, pairs, judge, watch, work, work))
    return made, next(iter(made.get_train_dataloader())), plain


def test_the_reference_is_the_policy_without_its_adapter(dpo):
    """The precomputed sums are those of the SFT model, end token included and nothing after it."""
    _, batch, plain = dpo
    for side in ("chosen", "rejected"):
        assert sorted(batch[f"ref_{side}_logps"].tolist()) == pytest.approx(sorted(s for s, _ in plain[side]), abs=1e-3)


def test_the_loss_before_the_first_step_by_hand(dpo):
    """B = 0 → margin 0 → −log σ(0) = ln 2 = 0.6931; plus 0.5 × the mean −log p a token of the chosen answers."""
    import torch

    made, batch, plain = dpo
    with torch.no_grad():
        loss = float(made.compute_loss(made.model, dict(batch)))
    nll = -sum(s for s, _ in plain["chosen"]) / sum(n for _, n in plain["chosen"])
    assert loss == pytest.approx(math.log(2) + 0.5 * nll, abs=1e-4)


@pytest.mark.parametrize(("loss", "expected"), [
    ("sigmoid_norm", math.log(2)),  # −log σ(0), by the token as well
    ("hinge", 1.0),  # max(0, 1 − β·0)
    ("ipo", 25.0),  # (0 − 1/(2β))², β 0.1 (Azar et al. 2023, eq. 17)
    ("robust", math.log(2)),  # ((1 − ε)·ln 2 − ε·ln 2)/(1 − 2ε) (Chowdhury et al. 2024, eq. 9)
])  # fmt: skip
def test_other_losses_before_the_first_step_by_hand(tmp_path, loss, expected):
    """B = 0, so every margin is 0."""
    import torch

    params = tiny.params()
    own = params.align.dpo.model_copy(update={"epochs": 1, "beta": 0.1, "losses": {loss: 1.0}, "flipped": 0.2})
    cfg = params.align.model_copy(update={"dpo": own})
    policy, tokenizer = load_policy(tiny.world() / "base", [tiny.trained("sft")], params.compute)
    pairs, _ = encode_pairs(tokenizer, tiny.preference_rows(8), 128, "x")
    judge = Judge(tiny.trained("reward"), tokenizer)
    watch = Watch(cfg, 1, tokenizer, [], judge, tmp_path)
    made = make_trainer(Task(cfg, params.compute, 1, policy, tokenizer, pairs, judge, watch, tmp_path, tmp_path))
    with torch.no_grad():
        assert float(made.compute_loss(made.model, next(iter(made.get_train_dataloader())))) == pytest.approx(expected, abs=1e-3)


def test_the_loss_at_margin_10_by_hand(dpo):
    """Margin 10, β 0.1 → logit 1 → −log σ(1) = 0.3133 (Rafailov et al. 2023, eq. 7)."""
    import torch

    made, batch, plain = dpo
    shifted = dict(batch) | {"ref_chosen_logps": batch["ref_chosen_logps"] - 10}
    with torch.no_grad():
        loss = float(made.compute_loss(made.model, shifted))
    nll = -sum(s for s, _ in plain["chosen"]) / sum(n for _, n in plain["chosen"])
    assert loss - 0.5 * nll == pytest.approx(0.3133, abs=1e-3)


def test_files_report_and_the_same_again(tmp_path):
    """Adapter, curve and samples; equal inputs, equal bytes; the chosen answers gained on the others."""
    out = tiny.trained("align")
    report = tiny.run_stage("align", tmp_path / "again", **tiny.inputs("align"))
    assert tiny.names(out) == ["adapter_config.json", "adapter_model.safetensors", "curve.jsonl", "looks.jsonl", "samples.jsonl"]
    assert sha256_tree(tmp_path / "again") == sha256_tree(out)
    assert (report.method, report.pairs, report.too_long, report.steps, report.answers) == ("dpo", 32, 0, 12, 4)
    assert report.gained.share > 0.9
    curve = read_jsonl(out / "curve.jsonl")
    assert curve[-1]["rewards/margins"] > curve[0]["rewards/margins"]
    assert not any("time" in key or "second" in key for point in curve for key in point)
    assert all(set(row) == {"id", "messages", "chosen", "answer", "ended"} for row in read_jsonl(out / "samples.jsonl"))


def test_an_unknown_method_names_the_choices(tmp_path):
    """Before anything is loaded: the paths do not even exist."""
    with pytest.raises(ParamsError, match=r"align\.method: 'dop' is no method; take one of: dpo"):
        nowhere = dict.fromkeys(("dataset", "base", "sft", "reward"), tmp_path)
        tiny.run_stage("align", tmp_path / "out", {"method": "dop"}, **nowhere)
    assert methods.method("dpo") is methods.METHODS["dpo"]


def test_preferred_is_by_token_not_by_sum():
    """−4 over 8 tokens is likelier a token than −3 over 2."""
    assert align.prefers([(-4.0, 8)], [(-3.0, 2)]) == [True]


def same_as_sft(adapter) -> bool:
    """Whether base + SFT + this adapter has exactly the weights of base + SFT."""
    import torch

    base, compute = tiny.world() / "base", tiny.params().compute
    first, second = (load_policy(base, adapters, compute)[0].state_dict()
                     for adapters in ([tiny.trained("sft")], [tiny.trained("sft"), adapter]))
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_no_pairs(tmp_path, capsys):
    """Nothing is trained, and that is said: all files, no figures, the SFT model itself, and the same bytes again."""
    for name in ("train", "eval"):
        write_jsonl(tmp_path / "prefs" / f"{name}.jsonl", [])
    paths = tiny.inputs("align") | {"dataset": tmp_path / "prefs"}
    found = tiny.run_stage("align", tmp_path / "out", {}, **paths)
    assert "there are no preference pairs; the aligned model is the SFT model" in capsys.readouterr().err
    assert (found.method, found.pairs, found.steps, found.trained_parameters, found.answers) == ("none", 0, 0, 0, 0)
    assert {found.train_loss, found.preferred_after, found.gained, found.chosen_logprob_after, found.ended} == {None}
    assert tiny.names(tmp_path / "out") == [name for name in tiny.names(tiny.trained("align")) if name != "looks.jsonl"]
    assert (tmp_path / "out" / "curve.jsonl").read_text() == (tmp_path / "out" / "samples.jsonl").read_text() == ""
    assert same_as_sft(tmp_path / "out") and not same_as_sft(tiny.trained("align"))
    tiny.run_stage("align", tmp_path / "again", {}, **paths)
    assert sha256_tree(tmp_path / "again") == sha256_tree(tmp_path / "out")


def test_method_none_trains_nothing_and_measures(tmp_path, capsys):
    """Pairs are there, and held-out ones are still compared; the text is not gated, for it is the SFT model's."""
    found = tiny.run_stage("align", tmp_path / "out", {"method": "none"}, **tiny.inputs("align"))
    assert "align.method is none" in capsys.readouterr().err
    assert (found.method, found.pairs, found.train_loss, found.answers) == ("none", 0, None, 4)
    assert found.preferred_before == found.preferred_after and found.gained.share == 0.0
    assert same_as_sft(tmp_path / "out")
