"""Rankings into preference pairs.

Every ordered pair of a ranking is one annotator's vote; ties vote for nothing. Where annotators disagree about a pair
the majority decides, and an even vote drops it: a pair taught both ways teaches nothing. A prompt's pairs share one
weight, so that four answers (six pairs) do not count six times as much as two (Ouyang et al. 2022, section 3.5, treat
the comparisons of a prompt as one batch element for the same reason).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tasks.formats.rows import Message, Ranking, fingerprint


@dataclass(frozen=True)
class Pair:
    """One preference: what was preferred to what, by whom, and how much it weighs in the loss."""

    id: str
    messages: list[Message]
    chosen: str
    rejected: str
    weight: float
    annotators: list[str]
    annotations: list[str | int]
    language: str
    source: str


@dataclass
class Tally:
    """What became of the votes."""

    prompts: int = 0  # prompts with a ranking
    judged: int = 0  # pairs of answers that somebody ordered
    judged_twice: int = 0  # of these, by two annotators or more
    agreed: int = 0  # of these, all the same way
    overruled: int = 0  # votes against the majority
    even: int = 0  # pairs dropped because the vote was even
    ties: int = 0  # times that a ranking put two answers on one level
    capped: int = 0  # pairs left out because their prompt had enough


@dataclass
class _Votes:
    """Votes on one pair of answer texts: annotator → +1 where the first text is better, −1 where the second is."""

    by: dict[str, int] = field(default_factory=dict)
    rows: dict[str, Ranking] = field(default_factory=dict)


def pairs(rankings: Sequence[Ranking], *, per_prompt: int, prompt_weight: float, seed: int) -> tuple[list[Pair], Tally]:
    """Pairs of all rankings, grouped by prompt in the order of first appearance, at most `per_prompt` of each prompt.

    Which pairs of a prompt stay is drawn by a hash of the seed and the texts: the same every night, whatever comes in.
    """
    prompts: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        prompts.setdefault(fingerprint(ranking.messages), []).append(ranking)
    found, tally = [], Tally(prompts=len(prompts))
    for group in prompts.values():
        settled = _settle(group, tally)
        settled.sort(key=lambda pair: _draw(seed, pair.id, pair.chosen, pair.rejected))
        tally.capped += max(0, len(settled) - per_prompt)
        kept = settled[:per_prompt]
        found += [_weighed(pair, prompt_weight / len(kept)) for pair in kept]
    return found, tally


def _settle(group: Sequence[Ranking], tally: Tally) -> list[Pair]:
    """The majority's pairs of one prompt. The later ranking of an annotator replaces the earlier one, pair by pair."""
    ballots: dict[tuple[str, str], _Votes] = {}
    for ranking in group:
        level = {letter: n for n, letters in enumerate(ranking.ranking) for letter in letters}
        for one, two in combinations(sorted(ranking.answers), 2):
            if level[one] == level[two]:
                tally.ties += 1
                continue
            texts = (ranking.answers[one], ranking.answers[two])
            first, second = sorted(texts)
            better = texts[0] if level[one] < level[two] else texts[1]
            votes = ballots.setdefault((first, second), _Votes())
            votes.by[ranking.annotator] = 1 if better == first else -1
            votes.rows[ranking.annotator] = ranking
    out = []
    for (first, second), votes in ballots.items():
        total = sum(votes.by.values())
        tally.judged += 1
        tally.judged_twice += len(votes.by) > 1
        tally.agreed += len(votes.by) > 1 and abs(total) == len(votes.by)
        if total == 0:
            tally.even += 1
            continue
        winners = sorted(who for who, vote in votes.by.items() if vote * total > 0)
        tally.overruled += len(votes.by) - len(winners)
        rows = [votes.rows[who] for who in winners]
        chosen, rejected = (first, second) if total > 0 else (second, first)
        out.append(
            Pair(
                id=f"{rows[0].id}-{_draw(0, chosen, rejected)[:8]}",
                messages=rows[0].messages,
                chosen=chosen,
                rejected=rejected,
                weight=0.0,
                annotators=winners,
                annotations=[r.annotation for r in rows if r.annotation is not None],
                language=rows[0].language,
                source=rows[0].source,
            )
        )
    return out


def _weighed(pair: Pair, weight: float) -> Pair:
    """The pair with its share of the prompt's weight, rounded so that the file shows no noise."""
    return Pair(**{**vars(pair), "weight": round(weight, 6)})


def _draw(seed: int, *texts: str) -> str:
    """Hex digits that order texts at random, but always alike."""
    return hashlib.sha256("\0".join([str(seed), *texts]).encode()).hexdigest()
