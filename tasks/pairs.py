"""Rankings into preference pairs. The whole rule:

1. A ranking that was skipped, or flagged as all_bad or unsafe, makes no pair.
2. Every two answers of a ranking that stand on different levels are one vote of its annotator; a tie votes for nothing.
3. Answers are told by their text, not by their letter. Where an annotator judged the same two answers to the same prompt
   more than once, the judgement with the latest `updated` counts, whatever it says (a tie or a flag takes an earlier vote
   back); rows without `updated` come before all others, in the order of files and lines.
4. Where annotators disagree about a pair the majority decides, and an even vote drops it: a pair taught both ways teaches
   nothing. The pair names those who voted for it and their annotations, one to one.
5. A prompt has at most `pairs_per_prompt` pairs, drawn by a hash of the seed and the texts, and its pairs share one
   weight, so that four answers (six pairs) do not count six times as much as two (Ouyang et al. 2022, section 3.5, treat
   the comparisons of a prompt as one batch element for the same reason).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

from tasks.formats.rows import Message, Ranking, fingerprint

NO_PAIRS = frozenset(["all_bad", "unsafe"])  # flags


@dataclass(frozen=True)
class Pair:
    """One preference: what was preferred to what, by whom, and how much it weighs in the loss."""

    id: str
    messages: list[Message]
    chosen: str
    rejected: str
    weight: float
    annotators: list[str]
    annotations: list[str | int | None]  # of `annotators`, one to one; None where a row tells no id
    language: str
    source: str


@dataclass
class Tally:
    """What became of the votes."""

    skipped: int = 0  # rankings in which the annotator would not say
    flagged: int = 0  # rankings flagged as all_bad or unsafe
    prompts: int = 0  # prompts with a ranking that is neither
    judged: int = 0  # pairs of answers that somebody ordered
    judged_twice: int = 0  # of these, by two annotators or more
    agreed: int = 0  # of these, all the same way
    overruled: int = 0  # votes against the majority
    even: int = 0  # pairs dropped because the vote was even
    ties: int = 0  # times that a ranking put two answers on one level
    capped: int = 0  # pairs left out because their prompt had enough


@dataclass(frozen=True)
class Vote:
    """What an annotator says of two answers: +1 the first is better, −1 the second is, 0 neither."""

    value: int
    ranking: Ranking


@dataclass
class Ballot:
    """The votes on one pair of answer texts. Which of them is first, a hash decides: neither length nor place does."""

    first: str
    second: str
    votes: dict[str, Vote] = field(default_factory=dict)  # annotator → vote


def pairs(rankings: Sequence[Ranking], *, per_prompt: int, prompt_weight: float, seed: int) -> tuple[list[Pair], Tally]:
    """Pairs of all rankings, grouped by prompt in the order of first appearance, and what became of the votes."""
    tally = Tally()
    prompts: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        prompts.setdefault(fingerprint(ranking.messages), []).append(ranking)
        tally.skipped += ranking.skipped
        tally.flagged += flagged(ranking)
    found = []
    for group in prompts.values():
        tally.prompts += any(says(ranking) for ranking in group)
        tally.ties += sum(len(letters) * (len(letters) - 1) // 2 for r in group if says(r) for letters in r.ranking)
        settled = [pair for ballot in ballots(group) if (pair := _settle(ballot, tally))]
        settled.sort(key=lambda pair: _draw(seed, pair.id, pair.chosen, pair.rejected))
        tally.capped += max(0, len(settled) - per_prompt)
        kept = settled[:per_prompt]
        found += [_weighed(pair, prompt_weight / len(kept)) for pair in kept]
    return found, tally


def flagged(ranking: Ranking) -> bool:
    """Whether the annotator found that no answer should be learned from."""
    return not NO_PAIRS.isdisjoint(ranking.flags)


def says(ranking: Ranking) -> bool:
    """Whether the ranking says which answers are better."""
    return bool(ranking.ranking) and not ranking.skipped and not flagged(ranking)


def ballots(group: Sequence[Ranking]) -> list[Ballot]:
    """The pairs of answers to one prompt with each annotator's last word on them (rules 1 to 3); no votes, no ballot."""
    found: dict[tuple[str, str], Ballot] = {}
    for ranking in sorted(group, key=lambda r: r.updated):
        if ranking.skipped:
            continue
        level = {letter: n for n, letters in enumerate(ranking.ranking) for letter in letters}
        for one, two in combinations(sorted(ranking.answers), 2):
            first, second = sorted((one, two), key=lambda letter: _draw(0, ranking.answers[letter]))
            texts = ranking.answers[first], ranking.answers[second]
            ballot = found.setdefault(texts, Ballot(*texts))
            if says(ranking):
                value = (level[first] < level[second]) - (level[first] > level[second])
                ballot.votes[ranking.annotator] = Vote(value, ranking)
            else:
                ballot.votes.pop(ranking.annotator, None)
    return [ballot for ballot in found.values() if ballot.votes]


def _settle(ballot: Ballot, tally: Tally) -> Pair | None:
    """What the majority prefers (rule 4); None where nobody prefers anything or the vote is even."""
    votes = {who: vote for who, vote in ballot.votes.items() if vote.value}
    total = sum(vote.value for vote in votes.values())
    tally.judged += bool(votes)
    tally.judged_twice += len(votes) > 1
    tally.agreed += len(votes) > 1 and abs(total) == len(votes)
    if total == 0:
        tally.even += bool(votes)
        return None
    winners = sorted(who for who, vote in votes.items() if vote.value * total > 0)
    tally.overruled += len(votes) - len(winners)
    rows = [votes[who].ranking for who in winners]
    chosen, rejected = (ballot.first, ballot.second) if total > 0 else (ballot.second, ballot.first)
    return Pair(
        id=f"{rows[0].id}-{_draw(0, chosen, rejected)[:8]}",
        messages=rows[0].messages,
        chosen=chosen,
        rejected=rejected,
        weight=0.0,
        annotators=winners,
        annotations=[row.annotation for row in rows],
        language=rows[0].language,
        source=rows[0].source,
    )


def _weighed(pair: Pair, weight: float) -> Pair:
    """The pair with its share of the prompt's weight, rounded so that the file shows no noise."""
    return Pair(**{**vars(pair), "weight": round(weight, 6)})


def _draw(seed: int, *texts: str) -> str:
    """Hex digits that order texts at random, but always alike."""
    return hashlib.sha256("\0".join([str(seed), *texts]).encode()).hexdigest()
