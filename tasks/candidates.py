"""Answers sampled from the SFT model: several to a prompt, for people to rank in the labelling tool.

Batches of prompts are answered here or by workers elsewhere (tasks/spread); no byte tells which.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path

from pydantic import Field

from tasks import spread
from tasks.files import write_jsonl
from tasks.params import Candidates, Compute, Scale, Seed
from tasks.progress import bar, log
from tasks.reports import Report
from tasks.training.generate import Generated, Sampling, answer, cut, in_order, read
from tasks.training.hardware import answering, set_up
from tasks.training.models import config_of, load_policy
from tasks.training.rows import read_rows
from tasks.training.tokens import load_tokenizer


class CandidatesReport(Report):
    """metrics/candidates.json."""

    prompts: int = Field(description="prompts answered")
    answers: int = Field(description="answers sampled, duplicates included")
    different: float = Field(description="mean number of different answers to a prompt")
    ended: float = Field(description="share of answers that the model ended by itself")
    mean_tokens: float = Field(description="mean length of an answer in tokens, its end token included")


def candidates(cfg: Candidates, compute: Compute, seed: Seed, dataset: Path, base: Path, sft: Path, out: Path,
               scale: Scale = spread.HERE) -> CandidatesReport:
    """Sample `answers` answers to each prompt of dataset/prompts.jsonl into out/candidates.jsonl.

    Equal answers to a prompt are written once (two equal texts are nothing to choose between), in the order drawn. Answers
    that the prompt brings, such as one that a user was not content with, follow them, or are marked where one was drawn.
    """
    prompts = read_rows(dataset / "prompts.jsonl", ("id", "messages", "language"))
    how = Sampling(cfg.max_new_tokens, cfg.temperature, cfg.top_p, seed.value, cfg.answers)
    tokens = read(load_tokenizer(base), config_of(base), [row["messages"] for row in prompts], cfg.max_new_tokens)
    log(f"{len(prompts)} prompts, {cfg.answers} answers each")
    batches = cut(tokens, cfg.batch_size)
    with spread.over(scale, compute.at(cfg.precision), spread.Job(sampler, (base, sft), (how,))) as work:
        found = chain.from_iterable(work([[tokens[number] for number in batch] for batch in batches]))
        answers = in_order(batches, bar(found, "sampling", total=len(prompts), unit="prompt"))
    rows = []
    for prompt, drawn in zip(prompts, answers, strict=True):
        unique = {a.text: {"text": a.text, "logprob": round(a.logprob, 6)} for a in reversed(drawn)}
        sampled = dict(reversed(unique.items()))
        brought = {text: {**sampled.get(text, {"text": text, "logprob": None}), "given": True}
                   for text in prompt.get("answers", [])}
        rows.append({"id": prompt["id"], "messages": prompt["messages"], "language": prompt["language"],
                     "answers": list((sampled | brought).values()),
                     **({"origin": prompt["origin"]} if prompt.get("origin") else {})})
    write_jsonl(out / "candidates.jsonl", rows)
    drawn = [a for each in answers for a in each]
    return CandidatesReport(
        prompts=len(prompts), answers=len(drawn), different=round(sum(len(r["answers"]) for r in rows) / len(rows), 6),
        ended=round(sum(a.ended for a in drawn) / len(drawn), 6),
        mean_tokens=round(sum(a.tokens for a in drawn) / len(drawn), 6))


def sampler(base: Path, sft: Path, compute: Compute, how: Sampling) -> Callable[[list[list[int]]], list[list[Generated]]]:
    """The SFT model, loaded, as a function from a batch of prompts to their answers."""
    set_up(compute, how.seed)
    model, tokenizer = load_policy(base, [sft], compute)
    model = answering(model, compute)
    return lambda prompts: answer(model, tokenizer, prompts, how)
