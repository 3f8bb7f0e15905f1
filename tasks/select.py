"""Which prompts people are asked about first, and with which of their sampled answers.

People's time is what alignment costs, so it goes where a judgement teaches most: to answers that the reward model cannot
put in an order, and that are worth telling apart. What two answers are worth is

    value(i, j) = H(σ(r_i − r_j)) · d(i, j)

H(p) = −p log₂ p − (1 − p) log₂(1 − p), in bits: 1 where the reward model tosses a coin, 0 where it is sure.
d = 1 − the mean of chrF both ways (tasks/evaluation/chrf.py): 0 for equal texts, 1 for such that share no character.
Characters, not words, so that Chinese counts alike.

Of a prompt those `answers` are shown whose pairs are worth most: the best pair, then answer by answer what adds most. Its
score is the mean value of the pairs shown. docs/decisions/0014 says why chance has a share in the order.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field

from tasks.evaluation.chrf import chrf
from tasks.files import sha256_tree, write_jsonl
from tasks.formats.rows import FEEDBACK, clean, control, fingerprint
from tasks.params import Compute, Seed, Select
from tasks.progress import bar, log
from tasks.reports import Report
from tasks.training.hardware import answering, set_up
from tasks.training.rewards import load_reward, score
from tasks.training.rows import read_rows

DIGITS = 6  # beyond them a figure differs between processors and says nothing


class SelectReport(Report):
    """metrics/select.json."""

    prompts: int = Field(description="prompts with sampled answers")
    selected: int = Field(description="prompts that people can be asked about, in the order of selected.jsonl")
    without_choice: int = Field(description="prompts left out: fewer than two different answers")
    answers: dict[str, int] = Field(description="answers shown → prompts")
    why: dict[str, int] = Field(description="feedback, uncertain or random → prompts of the whole order")
    sureness: float | None = Field(description="mean sureness of the reward model on what is shown: 0.5 a coin, 1 sure")
    difference: float | None = Field(description="mean text distance of what is shown, 0 … 1")
    model: str = Field(description="whose answers they are: sft-<first 12 hex digits of the adapter's hash>")


@dataclass(frozen=True)
class Asked:
    """A prompt with the answers to show, and what they are worth."""

    row: dict[str, Any]  # of candidates.jsonl
    answers: list[str]
    rewards: list[float]
    sureness: float  # mean over the pairs shown of the larger of P and 1 − P
    difference: float  # mean over them of d
    score: float  # mean over them of H(P) · d
    draw: str  # chance's order


def select(cfg: Select, compute: Compute, seed: Seed, candidates: Path, base: Path, sft: Path, reward: Path,
           out: Path) -> SelectReport:
    """Write out/selected.jsonl: all prompts with at least two different answers, those to ask about first in front.

    An untrained reward model (no pairs yet) scores by the mean log-probability of an answer's tokens.
    """
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value)
    rows = read_rows(candidates / "candidates.jsonl", ("id", "messages", "language", "answers"))
    texts = [_different(row) for row in rows]
    flat = [(row, text) for row, each in zip(rows, texts, strict=True) for text in (each if len(each) > 1 else [])]
    model, tokenizer = load_reward(base, sft, reward, compute)
    model = answering(model, compute)
    rewards = iter(score(model, tokenizer, [row["messages"] for row, _ in flat], [text for _, text in flat], cfg.batch_size))
    found = [_asked(row, each, [round(next(rewards), DIGITS) for _ in each], cfg.answers, seed.value)
             for row, each in bar([pair for pair in zip(rows, texts, strict=True) if len(pair[1]) > 1], "prompts")]
    name = f"sft-{sha256_tree(sft)[:12]}"
    ordered = list(order(found, cfg.random))
    write_jsonl(out / "selected.jsonl", [_fields(asked, why, name) for asked, why in ordered])
    log(f"{len(found)} of {len(rows)} prompts can be asked about; the others have fewer than two different answers")
    return SelectReport(
        prompts=len(rows), selected=len(found), without_choice=len(rows) - len(found),
        answers=dict(sorted(Counter(str(len(asked.answers)) for asked in found).items())),
        why=dict(sorted(Counter(why for _, why in ordered).items())),
        sureness=round(fmean(asked.sureness for asked in found), DIGITS) if found else None,
        difference=round(fmean(asked.difference for asked in found), DIGITS) if found else None, model=name)


def order(found: Sequence[Asked], random: float) -> Iterator[tuple[Asked, str]]:
    """(prompt, why) in the order of asking.

    First what users were not content with. Then two queues over all others: by score, in which the languages take turns, and
    by a draw from seed and prompt.
    The nth place is chance's wherever ⌊n · random⌋ steps up, so that the first n places hold ⌊n · random⌋ of its picks for
    every n; each queue passes over what the other one took. A new prompt enters each queue at its own place and moves
    those behind it by one at most: no draw changes.
    """
    yield from ((asked, FEEDBACK) for asked in by_score([a for a in found if a.row.get("origin") == FEEDBACK]))
    left = by_score([a for a in found if a.row.get("origin") != FEEDBACK])
    queues = {"uncertain": iter(left), "random": iter(sorted(left, key=lambda asked: asked.draw))}
    taken: set[int] = set()
    part = Fraction(str(random))  # 0.2 · 5 is 1, not a little less
    for place in range(1, len(left) + 1):
        why = "random" if math.floor(place * part) > math.floor((place - 1) * part) else "uncertain"
        asked = next(each for each in queues[why] if id(each) not in taken)
        taken.add(id(asked))
        yield asked, why


def by_score(found: Sequence[Asked]) -> list[Asked]:
    """The best first, each language by itself and all of them in proportion: the kth of n prompts in a language stands at
    (k − ½)/n. Scores are not compared across languages: two Chinese answers share fewer n-grams than two English ones, and
    people would be asked in Chinese first.
    """
    best = sorted(found, key=lambda asked: (-asked.score, asked.draw))
    count = Counter(asked.row["language"] for asked in best)
    rank: Counter[str] = Counter()
    place = {}
    for asked in best:
        rank[asked.row["language"]] += 1
        place[id(asked)] = Fraction(2 * rank[asked.row["language"]] - 1, 2 * count[asked.row["language"]])
    return sorted(best, key=lambda asked: place[id(asked)])


def value(reward: float, other: float, difference: float) -> float:
    """H(σ(r_i − r_j)) · d, in bits."""
    p = sure(reward, other)
    return difference * (-p * math.log2(p) - (1 - p) * math.log2(1 - p) if p < 1 else 0.0)


def sure(reward: float, other: float) -> float:
    """The probability that the reward model gives its own choice of two: 0.5 … 1."""
    return 1 / (1 + math.exp(-abs(reward - other)))


def distance(a: str, b: str) -> float:
    """How much two texts differ, 0 … 1, whichever comes first."""
    return round(1 - (chrf(a, b) + chrf(b, a)) / 2, DIGITS)


def _different(row: dict[str, Any]) -> dict[str, bool]:
    """Answer → whether the prompt brought it. Texts are as a dataset keeps them; what the checks would refuse (empty ones,
    copies, control characters), nobody is asked about."""
    found: dict[str, bool] = {}
    for answer in row["answers"]:
        text = clean(answer["text"])
        if text and not control([text]):
            found[text] = found.get(text, False) or bool(answer.get("given"))
    return found


def _asked(row: dict[str, Any], texts: dict[str, bool], rewards: list[float], most: int, seed: int) -> Asked:
    """The answers to show: those that the prompt brought, then whatever is worth most beside them."""
    names = list(texts)
    apart = {pair: distance(names[pair[0]], names[pair[1]]) for pair in combinations(range(len(names)), 2)}
    worth = {(i, j): value(rewards[i], rewards[j], d) for (i, j), d in apart.items()}
    shown = [n for n, name in enumerate(names) if texts[name]][:most]
    if not shown:
        shown = list(max(worth, key=lambda pair: worth[pair]))
    while len(shown) < min(most, len(names)):
        others = [n for n in range(len(names)) if n not in shown]
        shown.append(max(others, key=lambda n: sum(worth[min(n, m), max(n, m)] for m in shown)))
    shown.sort()
    pairs = list(combinations(shown, 2))
    return Asked(
        row=row, answers=[names[n] for n in shown], rewards=[rewards[n] for n in shown],
        sureness=round(fmean(sure(rewards[i], rewards[j]) for i, j in pairs), DIGITS),
        difference=round(fmean(apart[pair] for pair in pairs), DIGITS),
        score=round(fmean(worth[pair] for pair in pairs), DIGITS),
        draw=hashlib.sha256(f"{seed}\0{fingerprint(row['messages'])}".encode()).hexdigest())


def _fields(asked: Asked, why: str, model: str) -> dict[str, Any]:
    """A row of selected.jsonl."""
    return {**{key: asked.row[key] for key in ("id", "messages", "language")}, "answers": asked.answers,
            "rewards": asked.rewards, "sureness": asked.sureness, "difference": asked.difference, "score": asked.score,
            "why": why, "model": model}
