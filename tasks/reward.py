"""A reward model from preference pairs: P(chosen ≻ rejected) = σ(r_chosen − r_rejected) (Bradley & Terry 1952).

Its accuracy on pairs that differ in style is easy to get and says little, so pairs that differ in correctness are
reported apart, by defect and by language, and so is how well its probabilities are calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.params import Compute, Reward, Seed
from tasks.progress import log
from tasks.reports import Report, Share
from tasks.stats import share
from tasks.training import checkpoints, trainers
from tasks.training.hardware import set_up
from tasks.training.models import load_policy
from tasks.training.rewards import load_reward, score, score_model
from tasks.training.rows import Pair, encode_pairs, read_rows, schedule

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import RewardTrainer

PAIR = ("id", "messages", "chosen", "rejected")
SETS = ("pairs_correctness", "pairs_style")
ALIKE = 1.2  # times as long


class Bin(Report):
    """Pairs whose predicted probability lies in one interval."""

    low: float = Field(description="lower end of the interval of σ(|margin|)")
    high: float = Field(description="upper end")
    n: int = Field(description="pairs in it")
    predicted: float = Field(description="mean probability that the model gives its own choice; 0 without pairs")
    right: float = Field(description="share in which its choice is the people's; 0 without pairs")


class PairsReport(Report):
    """How a set of held-out pairs is ordered."""

    accuracy: Share = Field(description="share of pairs in which the chosen answer scores higher")
    mean_margin: float = Field(description="mean of r_chosen − r_rejected")
    by_defect: dict[str, Share] = Field(description="accuracy for each defect of the rejected answer")
    by_language: dict[str, Share] = Field(description="accuracy for each language")
    by_length: dict[str, Share] = Field(
        description="accuracy where the chosen answer is longer, alike (within a fifth) or shorter")


class RewardReport(Report):
    """metrics/reward.json."""

    pairs: int = Field(description="training pairs used")
    too_long: int = Field(description="training pairs left out because a side exceeds max_length")
    steps: int = Field(description="optimizer steps")
    trained_parameters: int = Field(description="parameters of adapter and head")
    trained_share: float = Field(description="and as a share of the model's, 0 … 1")
    train_loss: float | None = Field(
        description="mean loss of the last logged steps; ln 2 = 0.693 is a coin; null where nothing was trained")
    preferences: PairsReport | None = Field(description="people's held-out pairs; null, as the others, without any")
    correctness: PairsReport | None = Field(description="pairs that differ in correctness")
    style: PairsReport | None = Field(description="pairs that differ in style only")
    held_out: Share | None = Field(description="accuracy over all of these")
    calibration: list[Bin] = Field(description="predicted against observed over all of these; empty without any")
    calibration_error: float | None = Field(description="expected calibration error: Σ n/N · |predicted − right|")


def reward(cfg: Reward, compute: Compute, seed: Seed, dataset: Path, evaluation: Path, base: Path, sft: Path,
           out: Path) -> RewardReport:
    """Train a score head and a LoRA adapter on the SFT model, and measure them on held-out pairs.

    Without training pairs nothing is trained: the score is then the mean log-probability of an answer's tokens.
    """
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value, training=True)
    policy, tokenizer = load_policy(base, [sft], compute)
    path = dataset / "train.jsonl"
    pairs, too_long = encode_pairs(tokenizer, read_rows(path, PAIR, empty=True), cfg.max_length, str(path))
    held_out = {"preferences": read_rows(dataset / "eval.jsonl", PAIR, empty=True)}
    held_out |= {name: read_rows(evaluation / f"{name}.jsonl", (*PAIR, "defect", "language"), empty=True) for name in SETS}
    if not pairs:
        log("nothing is trained: there are no preference pairs; the score is the mean log-probability of an answer")
        untrained = trainers.untrained(score_model(policy, tokenizer), cfg.lora, "SEQ_CLS", seed.value)
        trainers.save_adapter(untrained, [], out)
        return measured(cfg, base, sft, out, compute, held_out, pairs=0, too_long=0, steps=0, trained_parameters=0,
                        trained_share=0.0, train_loss=None)
    work = checkpoints.open_work("reward", {"reward": cfg, "compute": compute, "seed": seed},
                                 {"dataset": dataset, "base": base, "sft": sft})
    trainer = make_trainer(cfg, compute, seed, policy, tokenizer, pairs, work)
    trainers.train(trainer, work, cfg.processes)
    points = trainers.curve(trainer)
    trainers.save_adapter(trainer.model, points, out)
    report = measured(
        cfg, base, sft, out, compute, held_out, pairs=len(pairs), too_long=len(too_long), steps=trainer.state.global_step,
        **trainers.trained(trainer.model), train_loss=points[-1]["loss"])
    checkpoints.close_work(work)
    return report


def measured(cfg: Reward, base: Path, sft: Path, out: Path, compute: Compute, held_out: dict[str, list[dict]],
             **training: float | None) -> RewardReport:
    """The report: `training` and what the saved model says of the held-out pairs, set by set."""
    model, tokenizer = load_reward(base, sft, out, compute)  # what was saved is what is measured
    margins = {name: margins_of(model, tokenizer, rows, 4 * cfg.batch_size) for name, rows in held_out.items()}
    every = [m for each in margins.values() for m in each]
    bins = calibration(every, cfg.bins) if every else []
    reports = {name: pairs_report(rows, margins[name]) if rows else None for name, rows in held_out.items()}
    for name, each in reports.items():
        log(f"{name}: {each.accuracy.share:.3f} of {each.accuracy.n} pairs the right way round" if each
            else f"{name}: no held-out pairs")
    return RewardReport(
        **training, preferences=reports["preferences"], correctness=reports["pairs_correctness"],
        style=reports["pairs_style"], held_out=share([m > 0 for m in every]) if every else None, calibration=bins,
        calibration_error=round(sum(b.n * abs(b.predicted - b.right) for b in bins) / len(every), 6) if every else None)


def make_trainer(cfg: Reward, compute: Compute, seed: Seed, policy: PreTrainedModel,
                 tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], work: Path) -> RewardTrainer:
    """TRL's trainer over pairs that are encoded and ordered already, on a score model with the policy's body."""
    from trl import RewardConfig, RewardTrainer

    args = RewardConfig(**trainers.arguments(cfg, cfg.processes, compute, seed.value, work), max_length=cfg.max_length,
                        center_rewards_coefficient=cfg.center or None, disable_dropout=cfg.lora.dropout == 0)
    return RewardTrainer(model=score_model(policy, tokenizer), args=args, processing_class=tokenizer,
                         train_dataset=training_set(pairs, cfg, seed.value),
                         peft_config=trainers.lora_config(cfg.lora, "SEQ_CLS", policy))


def training_set(pairs: Sequence[Pair], cfg: Reward, seed: int) -> Dataset:
    """Pairs in the order of training, as token ids of both whole conversations."""
    from datasets import Dataset

    order = schedule([max(len(p.chosen.ids), len(p.rejected.ids)) for p in pairs], [p.weight for p in pairs],
                     cfg.epochs, cfg.batch_size * cfg.accumulate, seed)
    columns = {"chosen_ids": [pairs[i].chosen.ids for i in order], "rejected_ids": [pairs[i].rejected.ids for i in order]}
    return Dataset.from_dict(columns | ({"margin": [cfg.margin] * len(order)} if cfg.margin else {}))


def margins_of(model, tokenizer, rows: Sequence[dict], batch_size: int) -> list[float]:
    """r_chosen − r_rejected of each row."""
    sides = [score(model, tokenizer, [row["messages"] for row in rows], [row[side] for row in rows], batch_size)
             for side in ("chosen", "rejected")]
    return [c - r for c, r in zip(*sides, strict=True)]


def pairs_report(rows: Sequence[dict], margins: Sequence[float]) -> PairsReport:
    """Accuracy of one set and of its parts."""
    def parts(key: Callable[[dict], str | None]) -> dict[str, Share]:
        named = [(key(row), margin > 0) for row, margin in zip(rows, margins, strict=True)]
        return {name: share([right for other, right in named if other == name]) for name in sorted({n for n, _ in named if n})}

    return PairsReport(accuracy=share([m > 0 for m in margins]), mean_margin=round(sum(margins) / len(margins), 6),
                       by_defect=parts(lambda row: row.get("defect")), by_language=parts(lambda row: row.get("language")),
                       by_length=parts(lengths))


def lengths(row: dict) -> str:
    """Which answer of a pair is the longer one, in characters."""
    chosen, rejected = len(row["chosen"]), len(row["rejected"])
    return "longer" if chosen > ALIKE * rejected else "shorter" if rejected > ALIKE * chosen else "alike"


def calibration(margins: Sequence[float], bins: int) -> list[Bin]:
    """Equal intervals of [0.5, 1]: the probability σ(|m|) the model gives its own choice, and how often it is right."""
    table: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for margin in margins:
        probability = 1 / (1 + math.exp(-min(abs(margin), 50.0)))
        table[min(int((probability - 0.5) * 2 * bins), bins - 1)].append((probability, margin > 0))
    return [Bin(low=round(0.5 + k / bins / 2, 6), high=round(0.5 + (k + 1) / bins / 2, 6), n=len(cell),
                predicted=round(sum(p for p, _ in cell) / len(cell), 6) if cell else 0.0,
                right=round(sum(r for _, r in cell) / len(cell), 6) if cell else 0.0)
            for k, cell in enumerate(table)]
