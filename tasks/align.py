"""Preference training of the SFT model, by DPO, PPO, RLOO or GRPO, under a watch on what it then writes.

Accuracy, margin and reward can look perfect while the model repeats itself for ever, so with every checkpoint held-out
prompts are answered and read (tasks/training/watch.py). A training that goes wrong is ended there and its best checkpoint kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks.files import write_jsonl
from tasks.params import Align, Compute, Seed
from tasks.progress import log
from tasks.reports import Report, Share
from tasks.stats import share
from tasks.training import checkpoints, methods, trainers
from tasks.training.alignment import Task
from tasks.training.backbone import Judge
from tasks.training.generate import generate
from tasks.training.hardware import set_up
from tasks.training.models import load_policy, parameter_count
from tasks.training.rows import Pair, encode_pairs, one_a_prompt, read_rows
from tasks.training.scoring import Scores, answer_logprobs, per_token
from tasks.training.watch import Look, Stopped, Watch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PAIR = ("id", "messages", "chosen", "rejected")


class AlignReport(Report):
    """metrics/align.json."""

    method: str = Field(description="align.method; none where there are no pairs")
    pairs: int = Field(description="training pairs used")
    too_long: int = Field(description="training pairs left out because a side exceeds max_length")
    steps: int = Field(description="optimizer steps")
    trained_parameters: int = Field(description="parameters of the adapter")
    trained_share: float = Field(description="and as a share of the model's, 0 … 1")
    train_loss: float | None = Field(description="mean loss of the last logged steps; null where nothing was trained")
    preferred_before: Share | None = Field(
        description="held-out pairs whose chosen answer the SFT model finds likelier; null, like what follows, without any")
    preferred_after: Share | None = Field(description="the same for the aligned model")
    gained: Share | None = Field(description="held-out pairs in which the chosen answer gained the more log-probability")
    chosen_logprob_before: float | None = Field(description="nats a token of held-out chosen answers, SFT model")
    chosen_logprob_after: float | None = Field(description="the same under the aligned model")
    answers: int = Field(description="held-out prompts answered at the end, greedily")
    ended: float | None = Field(description="share of those answers that end by themselves")
    distinct: float | None = Field(description="different answers, as a share of the different chosen ones")
    looks: list[Look] = Field(description="what was seen on held-out prompts, from the SFT model on; empty without any")
    stopped: Stopped | None = Field(description="the rule that ended the training before its time; null where none did")


def align(cfg: Align, compute: Compute, seed: Seed, dataset: Path, base: Path, sft: Path, reward: Path,
          out: Path) -> AlignReport:
    """Train an adapter on top of base + SFT by `cfg.method`, judged by the reward model.

    Without training pairs nothing is trained, as by method none: the aligned model is then the SFT model.
    """
    methods.method(cfg.method)  # a misspelt method fails before anything is loaded
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value, training=True)
    policy, tokenizer = load_policy(base, [sft], compute)
    path = dataset / "train.jsonl"
    rows = read_rows(path, PAIR, empty=True)
    method = cfg.method if rows else methods.NONE
    if method == methods.NONE:
        log(f"nothing is trained: {'align.method is none' if rows else 'there are no preference pairs'}; "
            "the aligned model is the SFT model")
    pairs, too_long = ([], []) if method == methods.NONE else encode_pairs(tokenizer, rows, cfg.max_length, str(path))
    path = dataset / "eval.jsonl"
    held_out, _ = encode_pairs(tokenizer, read_rows(path, PAIR, empty=True), cfg.max_length, str(path))
    before = sides(policy, tokenizer, held_out, cfg.samples)
    work = checkpoints.open_work("align", {"align": cfg, "compute": compute, "seed": seed},
                                 {"dataset": dataset, "base": base, "sft": sft, "reward": reward})
    size, judge = parameter_count(policy), Judge(reward, tokenizer)
    watch = Watch(cfg, seed.value, tokenizer, held_out, judge, work)
    outcome = methods.method(method)(Task(cfg, compute, seed.value, policy, tokenizer, pairs, judge, watch, work, out))

    trained_share = outcome.trained_parameters / size
    trainers.say_cost(outcome.trained_parameters, trained_share)
    aligned, tokenizer = load_policy(base, [sft, out], compute)  # what was saved is what is measured
    after = sides(aligned, tokenizer, held_out, cfg.samples)
    answers = sample(cfg, aligned, tokenizer, held_out, out)
    report = AlignReport(
        method=method, pairs=len(pairs), too_long=len(too_long), steps=outcome.steps,
        trained_parameters=outcome.trained_parameters, trained_share=round(trained_share, 6),
        looks=watch.looks, stopped=watch.stopped, train_loss=outcome.points[-1]["loss"] if outcome.points else None,
        answers=len(answers), **compared(before, after, answers))
    if report.ended is not None:
        log(f"chosen {report.chosen_logprob_before:.3f} → {report.chosen_logprob_after:.3f} nats a token")
        log(f"of {len(answers)} answers {report.ended:.0%} end; {report.distinct:.2f} as many different as people chose")
    checkpoints.close_work(work)
    return report


def compared(before: tuple[Scores, Scores], after: tuple[Scores, Scores], answers: Sequence[dict]) -> dict[str, Any]:
    """The report's figures on held-out pairs; null where there are none."""
    if not answers:
        return dict.fromkeys(("preferred_before", "preferred_after", "gained", "chosen_logprob_before",
                              "chosen_logprob_after", "ended", "distinct"))
    return {
        "preferred_before": share(prefers(*before)), "preferred_after": share(prefers(*after)),
        "gained": share([c1[0] - c0[0] > r1[0] - r0[0] for c0, r0, c1, r1 in zip(*before, *after, strict=True)]),
        "chosen_logprob_before": round(per_token(before[0]), 6), "chosen_logprob_after": round(per_token(after[0]), 6),
        "ended": round(sum(a["ended"] for a in answers) / len(answers), 6),
        "distinct": round(len({a["answer"] for a in answers}) / len({a["chosen"] for a in answers}), 6)}


def sides(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair],
          batch_size: int) -> tuple[Scores, Scores]:
    """Log-probabilities of the chosen and of the rejected answers."""
    chosen, rejected = (answer_logprobs(model, [getattr(p, side) for p in pairs], tokenizer.pad_token_id, batch_size)
                        for side in ("chosen", "rejected"))
    return chosen, rejected


def prefers(chosen: Scores, rejected: Scores) -> list[bool]:
    """Whether the chosen answer is the likelier one, by its mean a token: sums would prefer whatever is short."""
    return [c / n > r / m for (c, n), (r, m) in zip(chosen, rejected, strict=True)]


def sample(cfg: Align, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair],
           out: Path) -> list[dict]:
    """Greedy answers to the first `cfg.samples` different held-out prompts, also written to out/samples.jsonl."""
    chosen = one_a_prompt(pairs)[:cfg.samples]
    drawn = generate(model, tokenizer, [pair.messages for pair in chosen], max_new_tokens=cfg.max_new_tokens,
                     batch_size=cfg.samples)
    rows = [{"id": pair.id, "messages": pair.messages, "chosen": pair.answers[0], "answer": answer.text,
             "ended": answer.ended} for pair, (answer,) in zip(chosen, drawn, strict=True)]
    write_jsonl(out / "samples.jsonl", rows)
    return rows
