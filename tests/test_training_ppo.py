"""PPO's loop on a tiny real model: where it starts, that it learns, that a kill changes no byte, and that steps can be split."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import training_fixtures as tiny

from tasks.errors import DataError
from tasks.files import read_jsonl, sha256_tree
from tasks.training import checkpoints, ppo
from tasks.training.alignment import Task
from tasks.training.backbone import POLICY, REWARD, Judge, body_of, logps_of, using
from tasks.training.hardware import set_up
from tasks.training.models import load_policy
from tasks.training.rewards import load_reward, score
from tasks.training.rows import encode_pairs
from tasks.training.watch import Watch

ROOT = Path(__file__).parents[1]


def a_task(work: Path, **changes) -> Task:
    """A task of method ppo on the shared tiny world; `changes` in its own section."""
    params = tiny.params()
    cfg = params.align.model_copy(update={"method": "ppo", "ppo": params.align.ppo.model_copy(update=changes)})
    set_up(params.compute, params.seed.value)
    policy, tokenizer = load_policy(tiny.world() / "base", [tiny.trained("sft")], params.compute)
    pairs, _ = encode_pairs(tokenizer, tiny.preference_rows(16), cfg.max_length, "x")
    judge = Judge(tiny.trained("reward"), tokenizer)
    watch = Watch(cfg, 7, tokenizer, [], judge, work)
    return Task(cfg, params.compute, 7, policy, tokenizer, pairs, judge, watch, work, work / "out")


def test_the_judge_says_what_the_reward_model_says(tmp_path):
    """On the policy's backbone or as a model of its own: one score, and the policy's adapter is as it was."""
    task = a_task(tmp_path)
    learner = ppo.begin(task)
    prompts = [pair.chosen.ids[: -sum(pair.chosen.mask)] for pair in task.pairs]
    answers = [pair.chosen.ids[-sum(pair.chosen.mask):] for pair in task.pairs]
    found = task.judge.score(learner.model, prompts, answers, 4)
    model, tokenizer = load_reward(tiny.world() / "base", tiny.trained("sft"), tiny.trained("reward"), task.compute)
    own = score(model, tokenizer, [pair.messages for pair in task.pairs], [pair.answers[0] for pair in task.pairs])
    assert found == pytest.approx(own, abs=1e-4)
    assert learner.model.active_adapter == POLICY and REWARD not in learner.model.peft_config


def test_what_the_judge_reads_cannot_be_written_by_the_policy(tmp_path):
    """An answer that opens a second answer is judged as a whole: the score is not that of its last part."""
    task = a_task(tmp_path)
    learner, pair = ppo.begin(task), task.pairs[0]
    cut = len(pair.chosen.ids) - sum(pair.chosen.mask)
    prompt, answer = pair.chosen.ids[:cut], pair.chosen.ids[cut:]
    plain = task.tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    bad = pair.rejected.ids[cut:-1]
    whole, part = task.judge.score(learner.model, [prompt, [*prompt, *bad, *plain]], [[*bad, *plain, *answer], answer], 2)
    assert whole != pytest.approx(part, abs=1e-4)


def test_policy_and_reference_begin_as_one(tmp_path):
    """B = 0: no KL, every ratio is 1, and the reference is the SFT model to the bit; the values begin at the mean score."""
    task = a_task(tmp_path)
    plain = load_policy(tiny.world() / "base", [tiny.trained("sft")], task.compute)[0]
    learner = ppo.begin(task)
    prompts = ppo.prompts_of(task)[:4]
    answers = [(5, 6, 7), (8,), (9, 10), (11, 12, 13, 14)]
    import torch

    with torch.no_grad():
        ours = logps_of(learner.model, prompts, answers, task.tokenizer.pad_token_id)[0]
        theirs = logps_of(plain, prompts, answers, task.tokenizer.pad_token_id)[0]
        with using(learner.model, None):
            reference = logps_of(learner.model, prompts, answers, task.tokenizer.pad_token_id)[0]
    assert torch.equal(ours, theirs) and torch.equal(reference, theirs)
    rollout = ppo.sample(task, learner, prompts)
    assert rollout.figures["kl"] == 0.0
    values = rollout.values[rollout.mask.bool()]
    assert values.tolist() == pytest.approx([rollout.figures["score"]] * len(values), abs=1e-4)


def test_a_round_makes_good_answers_likelier(tmp_path):
    """What had an advantage gained, what had none lost: the surrogate Σ ρA rises over a round."""
    task = a_task(tmp_path, learning_rate=5e-3, warmup=0.0, passes=4)
    learner = ppo.begin(task)
    rollout = ppo.sample(task, learner, ppo.prompts_of(task)[:16])
    ppo.train(task, learner, rollout, 1)
    import torch

    with torch.no_grad():
        after = logps_of(learner.model, rollout.prompts, rollout.answers, task.tokenizer.pad_token_id)[0]
    assert float((((after - rollout.old).exp() - 1) * rollout.advantages * rollout.mask).sum()) > 0


def test_accumulated_batches_are_one_step(tmp_path):
    """Batches of 4, twice, have the gradient of one of 8: the tokens weigh alike, wherever they are."""
    import torch

    def gradients(size: int, accumulate: int) -> list:
        task = a_task(tmp_path, batch_size=size, accumulate=accumulate)
        learner = ppo.begin(task)
        rollout = ppo.sample(task, learner, ppo.prompts_of(task)[:8])
        tokens = float(rollout.mask.sum())
        for start in range(0, 8, size):
            ppo.backward(task, learner, rollout, list(range(start, start + size)), tokens, {})
        return [p.grad for p in learner.weights().values() if p.grad is not None]

    both, whole = gradients(4, 2), gradients(8, 1)
    assert len(both) == len(whole) > 0
    for ours, theirs in zip(both, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_values_stand_at_their_tokens(tmp_path):
    """A value adapter that does nothing yet (B = 0): V_t = w·h + b of the token before, whatever the padding. Then it does
    something, from the prompt's last token on, and every weight of it and of the head has a gradient."""
    import torch

    task = a_task(tmp_path)
    learner = ppo.begin(task)
    torch.nn.init.normal_(learner.head.weight)
    prompts, answers = [[4, 9, 8, 7, 6], [5, 6], [3, 3, 3]], [(5, 6, 7), (8,), (9, 10, 11, 12)]
    found = ppo.values_of(learner.model, learner.head, prompts, answers, task.tokenizer.pad_token_id)
    with torch.no_grad(), using(learner.model, None):
        for row, prompt, said in zip(found, prompts, answers, strict=True):
            ids = torch.tensor([[*prompt, *said[:-1]]])
            hidden = body_of(learner.model)(input_ids=ids).last_hidden_state
            plain = learner.head(hidden)[0, len(prompt) - 1:, 0]
            assert row.tolist() == pytest.approx([0.0] * (4 - len(said)) + plain.tolist(), abs=1e-5)
    for name, p in learner.model.named_parameters():
        if "lora_B.value" in name:
            torch.nn.init.normal_(p, std=0.1)
    moved = ppo.values_of(learner.model, learner.head, prompts, answers, task.tokenizer.pad_token_id)
    assert (moved - found).detach().abs()[found != 0].min() > 0
    rollout = ppo.sample(task, learner, ppo.prompts_of(task)[:8])
    ppo.backward(task, learner, rollout, list(range(8)), float(rollout.mask.sum()), {})
    assert all(p.grad is not None for p in learner.weights().values())


def test_values_of_a_model_with_windows():
    """Layers that see eight tokens back (as Gemma 3 has them), prompts that are longer: what is kept of a prompt is all of it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                              num_key_value_heads=1, head_dim=16, sliding_window=8,
                              layer_types=["sliding_attention", "full_attention"])
    adapter = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(Gemma3ForCausalLM(config), adapter, adapter_name=POLICY).eval()
    model.add_adapter(ppo.VALUE, adapter)
    head = torch.nn.Linear(32, 1)
    prompts, answers = [list(range(3, 33)), list(range(9, 21))], [(5, 6, 7), tuple(range(20, 32))]
    found = ppo.values_of(model, head, prompts, answers, 0)
    with torch.no_grad(), using(model, None):
        for row, prompt, said in zip(found, prompts, answers, strict=True):
            hidden = body_of(model)(input_ids=torch.tensor([[*prompt, *said[:-1]]])).last_hidden_state
            plain = head(hidden)[0, len(prompt) - 1:, 0].tolist()
            assert row.tolist() == pytest.approx([0.0] * (12 - len(said)) + plain, abs=1e-5)


def test_the_plan_of_rounds():
    """Every pass has its own order; what does not fill the last round is left out; few prompts come again."""
    cfg = tiny.params().align.ppo.model_copy(update={"epochs": 2, "rollout": 4})
    plan = ppo.rounds_of(5, cfg, 1)
    assert [len(one) for one in plan] == [4, 4] and plan == ppo.rounds_of(5, cfg, 1) != ppo.rounds_of(5, cfg, 2)
    assert sorted(plan[0] + plan[1][:1]) == [0, 1, 2, 3, 4]
    assert [sorted(one) for one in ppo.rounds_of(2, cfg.model_copy(update={"epochs": 1}), 1)] == [[0, 0, 1, 1]]


def test_no_room_for_an_answer(tmp_path):
    """Said before anything is sampled."""
    task = a_task(tmp_path)
    with pytest.raises(DataError, match="no prompt leaves room for an answer of 12 tokens"):
        ppo.prompts_of(Task(**vars(task) | {"cfg": task.cfg.model_copy(update={"max_length": 20})}))


@pytest.mark.parametrize("method", ["ppo", "rloo", "grpo", "dpo"])
def test_a_training_in_bf16(tmp_path, method):
    """Products in bf16, weights in fp32: each method goes through, with values, scores and losses that are numbers."""
    report = tiny.run_stage("align", tmp_path / "out", {"method": method, "precision": "bf16"}, **tiny.inputs("align"))
    assert report.steps and report.stopped is None
    assert all(math.isfinite(value) for point in read_jsonl(tmp_path / "out/curve.jsonl") for value in point.values())


@pytest.mark.parametrize("method", ["ppo", "rloo"])
def test_kill_9_changes_no_byte(tmp_path, method):
    """Twice the same from the same seed; and killed at its third checkpoint it goes on from the second to the same bytes."""
    cfg = tiny.params().align
    own = getattr(cfg, method).model_copy(update={"save_every": 1} if method == "ppo" else {"save_every": 2, "epochs": 2})
    changes = {"method": method, method: own}
    report = tiny.run_stage("align", tmp_path / "whole", changes, **tiny.inputs("align"))
    assert report.method == method and report.steps >= 6 and len(report.looks) >= 4
    tiny.run_stage("align", tmp_path / "again", changes, **tiny.inputs("align"))
    assert sha256_tree(tmp_path / "again") == sha256_tree(tmp_path / "whole")
    tiny.killed("align", tmp_path / "dead", 3, changes)
    (work,) = (tiny.world() / checkpoints.WORK).glob("align-*")
    assert len([one for one in work.glob("checkpoint-*") if (one / checkpoints.MARKER).is_file()]) >= 1
    tiny.run_stage("align", tmp_path / "out", changes, **tiny.inputs("align"))
    assert sha256_tree(tmp_path / "out") == sha256_tree(tmp_path / "whole")
    assert read_jsonl(tmp_path / "out" / "curve.jsonl") and not os.path.exists(work)
