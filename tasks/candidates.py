"""Answers sampled from the SFT model: several to a prompt, for people to rank in the labelling tool."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tasks.files import write_jsonl
from tasks.params import Candidates, Compute, Seed
from tasks.progress import log
from tasks.reports import Report
from tasks.training.generate import generate
from tasks.training.models import answering, load_policy, set_up
from tasks.training.rows import read_rows


class CandidatesReport(Report):
    """metrics/candidates.json."""

    prompts: int = Field(description="prompts answered")
    answers: int = Field(description="answers sampled, duplicates included")
    different: float = Field(description="mean number of different answers to a prompt")
    ended: float = Field(description="share of answers that the model ended by itself")
    mean_tokens: float = Field(description="mean length of an answer in tokens, its end token included")


def candidates(cfg: Candidates, compute: Compute, seed: Seed, dataset: Path, base: Path, sft: Path,
               out: Path) -> CandidatesReport:
    """Sample `answers` answers to each prompt of dataset/prompts.jsonl into out/candidates.jsonl.

    Equal answers to a prompt are written once (two equal texts are nothing to choose between), in the order drawn. Answers
    that the prompt brings, such as one that a user was not content with, follow them, or are marked where one was drawn.
    """
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value)
    prompts = read_rows(dataset / "prompts.jsonl", ("id", "messages", "language"))
    model, tokenizer = load_policy(base, [sft], compute)
    model = answering(model, compute)
    log(f"{len(prompts)} prompts, {cfg.answers} answers each")
    answers = generate(model, tokenizer, [row["messages"] for row in prompts], max_new_tokens=cfg.max_new_tokens,
                       batch_size=cfg.batch_size, temperature=cfg.temperature, top_p=cfg.top_p, seed=seed.value,
                       samples=cfg.answers)
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
