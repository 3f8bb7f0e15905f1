"""The reward model: its loss by hand, its files, its scores, and how it is judged."""

from __future__ import annotations

import math
import shutil

import pytest
import training_fixtures as tiny

from tasks import reward
from tasks.errors import DataError, ModelError
from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tasks.training.hardware import set_up
from tasks.training.models import load_policy
from tasks.training.rewards import load_reward, score, score_model
from tasks.training.rows import encode_pairs


def test_the_loss_by_hand(tmp_path):
    """−log σ(r₊ − r₋) + c·(r₊ + r₋)², averaged over the batch, from scores computed apart."""
    import torch

    params = tiny.params()
    cfg = params.reward.model_copy(update={"center": 0.3, "epochs": 1})
    set_up(params.compute, 5)
    policy, tokenizer = load_policy(tiny.world() / "base", [tiny.trained("sft")], params.compute)
    rows = tiny.preference_rows(8)
    pairs, _ = encode_pairs(tokenizer, rows, 128, "x")
    made = reward.make_trainer(cfg, params.compute, params.seed, policy, tokenizer, pairs, tmp_path)
    batch = next(iter(made.get_train_dataloader()))
    model = made.model.eval()
    with torch.no_grad():
        loss = float(made.compute_loss(model, dict(batch)))
    margins = []
    for side in ("chosen", "rejected"):
        margins.append(score(model, tokenizer, [row["messages"] for row in rows], [row[side] for row in rows]))
    expected = [-math.log(1 / (1 + math.exp(-(c - r)))) + 0.3 * (c + r) ** 2 for c, r in zip(*margins, strict=True)]
    assert loss == pytest.approx(sum(expected) / 8, abs=1e-5)


def test_exactly_adapter_head_and_curve(tmp_path):
    """The head is in the adapter file; twice gives the same bytes."""
    from safetensors import safe_open

    out = tiny.trained("reward")
    assert tiny.names(out) == ["adapter_config.json", "adapter_model.safetensors", "curve.jsonl"]
    with safe_open(out / "adapter_model.safetensors", "pt") as file:
        assert [k for k in file.keys() if "score" in k] == ["base_model.model.score.weight"]  # noqa: SIM118
    report = tiny.run_stage("reward", tmp_path / "again", **tiny.inputs("reward"))
    assert sha256_tree(tmp_path / "again") == sha256_tree(out)
    assert report.preferences.accuracy.share == 1.0  # a style that a tiny model sees
    assert set(report.correctness.by_defect) == {"wrong value"} and set(report.style.by_language) == {"en"}
    assert report.held_out.n == 24 == sum(cell.n for cell in report.calibration)


def test_scores_do_not_depend_on_the_batch():
    """Padding is never read: each answer alone, and all together, in their order."""
    model, tokenizer = load_reward(tiny.world() / "base", tiny.trained("sft"), tiny.trained("reward"),
                                   tiny.params().compute)
    rows = tiny.preference_rows(6)
    messages = [row["messages"] for row in rows]
    answers = [row["chosen"] if i % 2 else row["rejected"] for i, row in enumerate(rows)]
    together = score(model, tokenizer, messages, answers)
    alone = [score(model, tokenizer, [m], [a])[0] for m, a in zip(messages, answers, strict=True)]
    assert together == pytest.approx(alone, abs=1e-5)
    assert score(model, tokenizer, messages, answers, batch_size=2) == pytest.approx(together, abs=1e-5)


def test_the_score_by_hand():
    """A fresh head gives the mean log p a token of the answer under the policy; the others are what the body knows."""
    import torch

    from tasks.training.rows import encode_answer
    from tasks.training.scoring import answer_logprobs

    compute = tiny.params().compute
    policy, tokenizer = load_policy(tiny.world() / "base", [tiny.trained("sft")], compute)
    model = score_model(policy, tokenizer).eval()
    assert model.model is policy.model  # no second copy of a model that may fill the memory
    (row,) = tiny.preference_rows(1)
    encoded = encode_answer(tokenizer, "x", row["messages"], row["chosen"])
    ((total, count),) = answer_logprobs(policy, [encoded], tokenizer.pad_token_id, 1)
    assert score(model, tokenizer, [row["messages"]], [row["chosen"]]) == pytest.approx([total / count], abs=1e-5)

    ids = torch.tensor([encoded.ids])
    start = encoded.mask.index(1)
    with torch.inference_mode():
        hidden = policy.model(input_ids=ids).last_hidden_state[0]  # the policy's own body
        logps = policy(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[start - 1:, 0]
        weight = torch.linspace(-1, 1, 34)  # 32 of the end token's state, then mean and least log p
        model.score.weight.copy_(weight[None])
        expected = hidden[-1] @ weight[:32] / 32**0.5 + weight[32] * logps.mean() + weight[33] * logps.min()
    found = score(model, tokenizer, [row["messages"]], [row["chosen"]])
    assert found == pytest.approx([float(expected)], abs=1e-4)


def test_an_adapter_without_a_head_is_no_reward_model():
    """The SFT adapter in its place is refused: its scores would come from a random head."""
    with pytest.raises(ModelError, match="holds no score head"):
        load_reward(tiny.world() / "base", tiny.trained("sft"), tiny.trained("sft"), tiny.params().compute)


def test_calibration_by_hand():
    """Margins ±ln 3 → probability 0.75; of three such pairs two are right; a margin of 0 is a coin, and wrong."""
    cells = reward.calibration([math.log(3), math.log(3), -math.log(3), 0.0], bins=2)
    assert [(c.low, c.high, c.n) for c in cells] == [(0.5, 0.75, 1), (0.75, 1.0, 3)]
    assert cells[1].predicted == pytest.approx(0.75) and cells[1].right == pytest.approx(2 / 3, abs=1e-6)
    assert cells[0].right == 0.0


def test_accuracy_by_defect_and_language():
    """Shares of the parts, from margins."""
    sides = [("12345", "1234"), ("1234", "12345"), ("123456", "123456")]
    kinds = [("wrong value", "en"), ("made up", "zh"), ("made up", "en")]
    rows = [{"defect": defect, "language": language, "chosen": chosen, "rejected": rejected}
            for (defect, language), (chosen, rejected) in zip(kinds, sides, strict=True)]
    report = reward.pairs_report(rows, [1.0, -1.0, 2.0])
    assert report.accuracy.share == pytest.approx(2 / 3, abs=1e-6)
    assert report.mean_margin == pytest.approx(2 / 3, abs=1e-6)
    assert {k: (v.share, v.n) for k, v in report.by_defect.items()} == {"made up": (0.5, 2), "wrong value": (1.0, 1)}
    assert {k: v.n for k, v in report.by_language.items()} == {"en": 2, "zh": 1}
    assert {k: v.share for k, v in report.by_length.items()} == {"longer": 1.0, "shorter": 0.0, "alike": 1.0}


def test_a_margin_is_asked_for(tmp_path):
    """margin 1 → the loss of a pair that leads by 1 is ln 2: the plain loss, moved; without one the rows have no such column."""
    cfg = tiny.params().reward
    assert "margin" not in reward.training_set([], cfg, 1).column_names
    found = tiny.run_stage("reward", tmp_path / "out", {"margin": 1.0, "epochs": 1, "center": 0.0}, **tiny.inputs("reward"))
    plain = tiny.run_stage("reward", tmp_path / "plain", {"epochs": 1, "center": 0.0}, **tiny.inputs("reward"))
    assert found.train_loss > plain.train_loss


def test_bad_pairs_are_named(tmp_path):
    """A missing column with file and line; equal sides with the row."""
    shutil.copytree(tiny.world() / "dataset" / "preferences", tmp_path / "prefs")
    path = tmp_path / "prefs" / "train.jsonl"
    rows = read_jsonl(path)
    paths = tiny.inputs("reward") | {"dataset": tmp_path / "prefs"}
    write_jsonl(path, [{k: v for k, v in row.items() if k != "rejected"} for row in rows])
    with pytest.raises(DataError, match=r"train.jsonl:1: lacks rejected"):
        tiny.run_stage("reward", tmp_path / "out", **paths)
    write_jsonl(path, [row | {"rejected": row["chosen"]} for row in rows])
    with pytest.raises(DataError, match="'chosen' equals 'rejected'"):
        tiny.run_stage("reward", tmp_path / "out2", **paths)


def test_no_pairs(tmp_path, capsys):
    """Nothing is trained, and that is said; the score is the policy's mean log-probability of the answer's tokens."""
    from tasks.training.rows import encode_answer
    from tasks.training.scoring import answer_logprobs

    for name in ("prefs/train", "prefs/eval", "cases/pairs_correctness", "cases/pairs_style"):
        write_jsonl(tmp_path / f"{name}.jsonl", [])
    paths = tiny.inputs("reward") | {"dataset": tmp_path / "prefs", "evaluation": tmp_path / "cases"}
    found = tiny.run_stage("reward", tmp_path / "out", **paths)
    assert "nothing is trained: there are no preference pairs" in capsys.readouterr().err
    assert (found.pairs, found.steps, found.trained_parameters, found.calibration) == (0, 0, 0, [])
    assert {found.train_loss, found.preferences, found.correctness, found.style, found.held_out,
            found.calibration_error} == {None}
    assert tiny.names(tmp_path / "out") == tiny.names(tiny.trained("reward"))
    tiny.run_stage("reward", tmp_path / "again", **paths)
    assert sha256_tree(tmp_path / "again") == sha256_tree(tmp_path / "out")
    compute = tiny.params().compute
    model, tokenizer = load_reward(tiny.world() / "base", tiny.trained("sft"), tmp_path / "out", compute)
    policy, _ = load_policy(tiny.world() / "base", [tiny.trained("sft")], compute)
    (row,) = tiny.preference_rows(1)
    encoded = encode_answer(tokenizer, "x", row["messages"], row["chosen"])
    ((total, count),) = answer_logprobs(policy, [encoded], tokenizer.pad_token_id, 1)
    assert score(model, tokenizer, [row["messages"]], [row["chosen"]]) == pytest.approx([total / count], abs=1e-5)


def test_preferences_without_evaluation_pairs(tmp_path):
    """The head is trained and measured on people's held-out pairs alone."""
    for name in ("pairs_correctness", "pairs_style"):
        write_jsonl(tmp_path / "cases" / f"{name}.jsonl", [])
    paths = tiny.inputs("reward") | {"evaluation": tmp_path / "cases"}
    found = tiny.run_stage("reward", tmp_path / "out", {"epochs": 1}, **paths)
    assert found.pairs == 32 and found.held_out == found.preferences.accuracy and found.held_out.n == 8
    assert found.correctness is None and found.style is None
