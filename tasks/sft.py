"""Supervised fine-tuning: the base learns from instruction rows to answer, and to stop.

LoRA on the base, or all of its weights (lora: null); the loss is on the answers only, each with its end token and nothing
after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.params import Compute, Seed, Sft
from tasks.progress import log
from tasks.reports import Report
from tasks.training import checkpoints, trainers
from tasks.training.hardware import set_up
from tasks.training.models import load_base, load_policy
from tasks.training.rows import Encoded, encode_instructions, read_rows, schedule
from tasks.training.scoring import answer_logprobs, per_token

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTTrainer

IGNORED = -100  # a label that the loss passes over


class SftReport(Report):
    """metrics/sft.json."""

    rows: int = Field(description="training rows used")
    too_long: int = Field(description="training rows left out because they exceed max_length")
    too_long_ids: list[str] = Field(description="the first 20 of them")
    eval_rows: int = Field(description="held-out rows used")
    answer_tokens: int = Field(description="tokens with a loss in one pass over the rows, end tokens included")
    steps: int = Field(description="optimizer steps")
    trained_parameters: int = Field(description="parameters of the adapter, or of the model")
    trained_share: float = Field(description="and as a share of the model's, 0 … 1")
    train_loss: float = Field(description="mean loss of the last logged steps, nats a token")
    eval_loss_before: float = Field(description="loss of the base model on held-out answers, nats a token")
    eval_loss: float = Field(description="loss of the trained model on held-out answers, nats a token")


def sft(cfg: Sft, compute: Compute, seed: Seed, dataset: Path, base: Path, out: Path) -> SftReport:
    """Train an adapter (or the whole model) on dataset/train.jsonl and measure it on dataset/eval.jsonl."""
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value, training=True)
    model, tokenizer = load_base(base, compute)
    rows, too_long = _encoded(tokenizer, dataset / "train.jsonl", cfg)
    held_out, _ = _encoded(tokenizer, dataset / "eval.jsonl", cfg)
    if too_long:
        log(f"{len(too_long)} rows exceed {cfg.max_length} tokens and are left out: {', '.join(too_long[:5])} …")
    before = answer_logprobs(model, held_out, tokenizer.pad_token_id, cfg.batch_size)
    work = checkpoints.open_work("sft", {"sft": cfg, "compute": compute, "seed": seed},
                                 {"dataset": dataset, "base": base})
    trainer = make_trainer(cfg, compute, seed, model, tokenizer, rows, work)
    trainers.train(trainer, work, cfg.processes)
    points = trainers.curve(trainer)
    (trainers.save_weights if cfg.lora is None else trainers.save_adapter)(trainer.model, points, out)

    tuned, tokenizer = load_policy(base, [out], compute)  # what was saved is what is measured
    after = answer_logprobs(tuned, held_out, tokenizer.pad_token_id, cfg.batch_size)
    report = SftReport(
        rows=len(rows), too_long=len(too_long), too_long_ids=too_long[:20], eval_rows=len(held_out),
        answer_tokens=sum(sum(row.mask) for row in rows), steps=trainer.state.global_step,
        **trainers.trained(trainer.model), train_loss=points[-1]["loss"],
        eval_loss_before=round(-per_token(before), 6), eval_loss=round(-per_token(after), 6))
    log(f"held-out loss {report.eval_loss_before:.4f} → {report.eval_loss:.4f} nats a token")
    checkpoints.close_work(work)
    return report


def make_trainer(cfg: Sft, compute: Compute, seed: Seed, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
                 rows: list[Encoded], work: Path) -> SFTTrainer:
    """TRL's trainer over rows that are encoded, labelled and ordered already."""
    from trl import SFTConfig, SFTTrainer

    args = SFTConfig(**trainers.arguments(cfg, cfg.processes, compute, seed.value, work), max_length=cfg.max_length,
                     packing=cfg.packing, packing_strategy="bfd", shuffle_dataset=False)
    return SFTTrainer(model=model, args=args, processing_class=tokenizer,
                      train_dataset=training_set(rows, cfg, seed.value),
                      peft_config=trainers.lora_config(cfg.lora, "CAUSAL_LM", model))


def _encoded(tokenizer: PreTrainedTokenizerBase, path: Path, cfg: Sft) -> tuple[list[Encoded], list[str]]:
    return encode_instructions(tokenizer, read_rows(path, ("id", "messages")), cfg.max_length, str(path))


def training_set(rows: list[Encoded], cfg: Sft, seed: int) -> Dataset:
    """Rows in the order of training, as token ids and labels; a label is the id where the mask is 1, else IGNORED."""
    from datasets import Dataset

    lengths, batch = [len(row.ids) for row in rows], cfg.batch_size * cfg.accumulate
    order = schedule(lengths, [1.0] * len(rows), cfg.epochs, batch, seed)
    return Dataset.from_dict({
        "input_ids": [rows[i].ids for i in order],
        "labels": [[t if m else IGNORED for t, m in zip(rows[i].ids, rows[i].mask, strict=True)] for i in order]})
