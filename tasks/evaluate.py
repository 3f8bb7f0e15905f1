"""Held-out behaviours of base, SFT and aligned model: what the night taught, and what it cost.

Every figure comes from greedy answers (a part of them sampled too) judged by the rules of tasks/behaviours.py, with its 95 %
interval, by evaluation set and language. Comparisons are paired: two models on the same cases. Reward and KL stand beside
them and decide nothing: a policy that answers "The notes do not say." to everything can have both in good order.

Data without evaluation sets leaves those tables empty; held-out instructions are there for everybody
(tasks/evaluation/references.py), and serve for the KL where there are no grounded cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks import behaviours
from tasks import champion as champions
from tasks.behaviours import Limits
from tasks.champion import Answered, Champion
from tasks.errors import DataError
from tasks.evaluation import references
from tasks.evaluation.degenerate import Degenerate, degenerate
from tasks.evaluation.divergence import Spoken, compare
from tasks.evaluation.facing import GROUNDED, Against, Row, face
from tasks.evaluation.fidelity import kl_per_token
from tasks.evaluation.references import References
from tasks.files import read_jsonl, write_jsonl
from tasks.params import Compute, Evaluate, Seed
from tasks.progress import log
from tasks.reports import Report, Share
from tasks.stats import Difference, Mean, mean, paired, wins
from tasks.training.generate import generate
from tasks.training.hardware import answering, set_up
from tasks.training.models import load_base, load_policy
from tasks.training.rewards import load_reward, score
from tasks.training.tokens import encode_chat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SETS = ("facts", "context", "unanswerable")
MODELS = ("base", "sft", "aligned")
FIGURES = {  # what a model is summed up by: name → the verdict that counts, and on which sets
    "correct": ("right", ("facts", "context")),
    "preferred": ("preferred", GROUNDED),
    "abstains": ("abstains", ("unanswerable",)),
    "over_abstains": ("abstains", ("facts", "context")),
}
Table = dict[str, dict[str, dict[str, Share]]]


class Gain(Report):
    """One model over another, on the same cases."""

    correct: Difference | None = Field(description="right on the answerable cases (facts and context); null without any")
    preferred: Difference | None = Field(description="preferred on context and unanswerable cases; null without any")


class Rewards(Report):
    """What the reward model says of the answers to context and unanswerable cases."""

    sft: Mean = Field(description="reward of the SFT model's answers")
    aligned: Mean = Field(description="reward of the aligned model's answers")
    win_rate: Mean = Field(description="aligned against SFT on the same cases: 1 a win, ½ a tie, 0 a loss")


class Kl(Report):
    """KL(aligned ‖ SFT) along answers sampled from the aligned model at temperature 1, exact at each position."""

    per_token: Mean = Field(description="nats an answer token")
    per_sequence: Mean = Field(description="nats an answer: the KL between the two as policies")


class EvaluateReport(Report):
    """metrics/evaluate.json. Models: base, sft, aligned. Languages: all, en, zh, as far as there are cases."""

    cases: dict[str, int] = Field(description="evaluation set → cases")
    behaviours: dict[str, Table] = Field(
        description="model → set → language → right | cites | concise | abstains | preferred | ended → share")
    correct: dict[str, dict[str, Share]] = Field(description="model → language → right on facts and context")
    preferred: dict[str, dict[str, Share]] = Field(description="model → language → preferred on grounded cases")
    abstains: dict[str, dict[str, Share]] = Field(description="model → language → abstains on unanswerable")
    over_abstains: dict[str, dict[str, Share]] = Field(description="model → language → abstains on facts and context")
    degenerate: dict[str, Degenerate] = Field(description="model → answers that are no answers; empty without cases")
    sft_over_base: Gain | None = Field(description="what supervised fine-tuning gained; null without cases")
    aligned_over_sft: Gain | None = Field(description="what preference training gained and cost; null without cases")
    sampled: dict[str, Table] = Field(
        description="sft | aligned → as behaviours, of answers sampled at temperature 1; empty without cases")
    reward: Rewards | None = Field(description="the reward model's view, trained on the same preferences; null without "
                                   "context and unanswerable cases")
    kl: Kl | None = Field(description="how far preference training moved the model; null without anything to ask")
    references: References | None = Field(description="answers to held-out instructions, by chrF; null without any")
    champion: Against | None = Field(description="against the live release; null before the first one")


def evaluate(cfg: Evaluate, compute: Compute, seed: Seed, dataset: Path, instructions: Path, base: Path, sft: Path,
             merged: Path, reward: Path, champion: Path, out: Path) -> EvaluateReport:
    """Answer the held-out cases and instructions with all three models, judge, compare; write answers.jsonl,
    references.jsonl and challenger.json.

    `dataset`: artifacts/dataset/evaluation; `instructions`: instructions/eval.jsonl; `merged` is the aligned model.
    DataError when ids repeat.
    """
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value)
    cases, asked = read_cases(dataset), references.read_cases(instructions, cfg.reference_cases)
    for name in SETS:
        if not any(case["set"] == name for case in cases):
            log(f"evaluate: no cases of set {name}: nothing is measured on it")
    log(f"evaluate: {len(asked)} held-out instructions" if asked else "evaluate: no held-out instructions: no chrF")
    live = champions.read(champion)
    limits = Limits(cfg.concise_words, cfg.concise_characters)

    model, tokenizer = load_base(base, compute)
    size = {"max_new_tokens": cfg.max_new_tokens, "batch_size": cfg.batch_size}
    rows = answer(cfg, "base", answering(model, compute), tokenizer, cases, limits)
    said = references.answer("base", model, tokenizer, asked, **size)
    del model
    before, tokenizer = load_policy(base, [sft], compute)
    before = answering(before, compute)
    rows += answer(cfg, "sft", before, tokenizer, cases, limits)
    drawn = {"sft": sampled(cfg, seed.value, before, tokenizer, cases, limits)}
    said += references.answer("sft", before, tokenizer, asked, **size)
    aligned, tokenizer = load_base(merged, compute)
    aligned = answering(aligned, compute)
    rows += answer(cfg, "aligned", aligned, tokenizer, cases, limits)
    drawn["aligned"] = sampled(cfg, seed.value, aligned, tokenizer, cases, limits)
    said += references.answer("aligned", aligned, tokenizer, asked, **size)
    grounded = [case for case in cases if case["set"] in GROUNDED]
    kl = divergence(cfg, seed.value, before, aligned, tokenizer, grounded or asked)
    del before, aligned

    known = {case["id"]: case for case in cases}
    theirs = {name: answered for name, answered in live.answers.items()
              if name in known and champions.digest(known[name]) == answered.case}
    log(f"evaluate: scoring by the reward model; {len(theirs)} cases of the live release")
    scorer, tokenizer = load_reward(base, sft, reward, compute)
    judged = [row for row in rows if row["set"] in GROUNDED and row["model"] != "base"]
    released = [known[name] for name in theirs if known[name]["set"] in GROUNDED]
    values = score(answering(scorer, compute), tokenizer,
                   [known[row["id"]]["messages"] for row in judged] + [case["messages"] for case in released],
                   [row["answer"] for row in judged] + [theirs[case["id"]].answer for case in released], cfg.batch_size)
    for row, value in zip(judged, values, strict=False):
        row["reward"] = round(value, 6)
    of_release = {case["id"]: value for case, value in zip(released, values[len(judged):], strict=True)}

    write_jsonl(out / "answers.jsonl", rows)
    write_jsonl(out / references.FILE, said)
    sent = of_each_set(cases, cfg.champion_cases)
    ours = [row for row in rows if row["model"] == "aligned"]
    tonight = Champion(
        release=None, references=references.travelling(asked, said), test_sets=champions.test_sets(dataset),
        answers={row["id"]: Answered(set=row["set"], case=champions.digest(known[row["id"]]), answer=row["answer"],
                                     ended=row["ended"]) for row in ours if row["id"] in sent})
    champions.write_challenger(out, tonight)
    against = None
    if live.release is not None:
        told = references.against(live.references, tonight.references, said, seed.value)
        against = face(live.release, known, theirs, of_release, ours, told, limits, seed.value)
    return summarize(rows, drawn, cases, kl, references.summarize(said, seed.value), against, seed.value)


def read_cases(dataset: Path) -> list[Row]:
    """All cases, each with its "set"; DataError on a repeated id."""
    cases = [case | {"set": name} for name in SETS for case in read_jsonl(dataset / f"{name}.jsonl")]
    seen: set[str] = set()
    for case in cases:
        if case["id"] in seen:
            raise DataError(f"{dataset / case['set']}.jsonl", f"id {case['id']!r} occurs twice",
                            "give each case its own id")
        seen.add(case["id"])
    return cases


def of_each_set(cases: Sequence[Row], most: int | None) -> set[str]:
    """Ids of so many cases of each set (None: all), the same every night."""
    return {name for part in SETS for name in champions.chosen([case for case in cases if case["set"] == part], most)}


def sampled(cfg: Evaluate, seed: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: Sequence[Row],
            limits: Limits) -> list[Row]:
    """One answer at temperature 1 to a fixed part of each set, judged: the likeliest may be good while the others are not."""
    asked = of_each_set(cases, cfg.sampled_cases)
    return answer(cfg, "sampled", model, tokenizer, [case for case in cases if case["id"] in asked], limits, temperature=1.0,
                  seed=seed)


def answer(cfg: Evaluate, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: Sequence[Row],
           limits: Limits, **how: float) -> list[Row]:
    """Greedy answers of one model to all cases, judged: rows of answers.jsonl, reward still null. `how`: other than greedy."""
    log(f"evaluate: {name} answers {len(cases)} cases")
    found = generate(model, tokenizer, [case["messages"] for case in cases], max_new_tokens=cfg.max_new_tokens,
                     batch_size=cfg.batch_size, **how)
    return [
        {"model": name, "set": case["set"], "id": case["id"], "language": case["language"],
         "prompt": case["messages"][-1]["content"], "answer": said.text, "ended": said.ended, "reward": None,
         **behaviours.judge(said.text, case, limits)}
        for case, (said,) in zip(cases, found, strict=True)
    ]


def divergence(cfg: Evaluate, seed: int, before: PreTrainedModel, aligned: PreTrainedModel,
               tokenizer: PreTrainedTokenizerBase, cases: Sequence[Row]) -> Kl | None:
    """KL(aligned ‖ SFT) on answers sampled from the aligned model to a fixed part of the cases; None without any."""
    if not cases:
        return None
    known = {case["id"]: case for case in cases}
    chats = [known[name]["messages"] for name in champions.chosen(cases, cfg.kl_prompts)]
    answers = generate(aligned, tokenizer, chats, max_new_tokens=cfg.max_new_tokens, batch_size=cfg.batch_size,
                       temperature=1.0, seed=seed)
    spoken = [Spoken(encode_chat(tokenizer, chat, add_generation_prompt=True), said.ids)
              for chat, (said,) in zip(chats, answers, strict=True)]
    (found,) = compare(aligned, [before], spoken, pad=tokenizer.pad_token_id, batch_size=cfg.batch_size)
    return Kl(per_token=kl_per_token(found, seed), per_sequence=mean([d.kl for d in found]))


def gain(ours: Sequence[Row], theirs: Sequence[Row], seed: int) -> Gain | None:
    """Differences between judged rows of the same cases in the same order; None without answerable and grounded ones."""
    pairs = list(zip(ours, theirs, strict=True))
    right = [(a["right"], b["right"]) for a, b in pairs if a["right"] is not None]
    preferred = [(a["preferred"], b["preferred"]) for a, b in pairs if a["set"] in GROUNDED]
    if not right and not preferred:
        return None
    correct, liked = (paired(*zip(*found, strict=True), seed) if found else None for found in (right, preferred))
    return Gain(correct=correct, preferred=liked)


def figures(rows: Sequence[Row]) -> dict[str, dict[str, Share]]:
    """One model's judged rows → figure (FIGURES) → language ("all" besides each) → share."""
    return {figure: behaviours.by_language([row for row in rows if row["set"] in sets], verdict)
            for figure, (verdict, sets) in FIGURES.items()}


def summarize(rows: Sequence[Row], drawn: Mapping[str, Sequence[Row]], cases: Sequence[Row], kl: Kl | None,
              told: References | None, against: Against | None, seed: int) -> EvaluateReport:
    """Judged rows of the three models, each in the order of the cases, and of sampled answers of two → the report."""
    by_model = {name: [row for row in rows if row["model"] == name] for name in MODELS}
    learned, aligned = (gain(by_model[a], by_model[b], seed) for a, b in (("sft", "base"), ("aligned", "sft")))
    summed = {name: figures(group) for name, group in by_model.items()}
    scored = [[row["reward"] for row in by_model[name] if row["reward"] is not None] for name in ("sft", "aligned")]
    return EvaluateReport(
        cases={name: sum(case["set"] == name for case in cases) for name in SETS},
        behaviours={name: behaviours.rates(group) for name, group in by_model.items()},
        **{figure: {name: summed[name][figure] for name in MODELS} for figure in FIGURES},
        degenerate={name: degenerate(group) for name, group in by_model.items() if group},
        sft_over_base=learned, aligned_over_sft=aligned,
        sampled={name: behaviours.rates(group) for name, group in drawn.items() if group},
        reward=Rewards(sft=mean(scored[0]), aligned=mean(scored[1]), win_rate=wins(scored[1], scored[0], seed))
        if scored[0] else None,
        kl=kl, references=told, champion=against)
