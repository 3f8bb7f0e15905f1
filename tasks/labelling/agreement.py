"""Do people agree, and what do they prefer that they should not: measured on all judgements, shown, never acted upon.

A unit is a prompt with two of its answers; a value is +1, 0 (a tie) or −1; which answer is the first is a hash's choice
(tasks/pairs.py), so that no habit such as "longer is better" makes agreement look like chance. Of an annotator who judged
the same unit more than once the latest word counts. Skips, and rankings flagged all_bad or unsafe, have no value.

Shares have Wilson's intervals as if the pairs were independent. Those of one ranking are not, so the true intervals are
somewhat wider. Nothing here holds a text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from pydantic import Field

from tasks.formats.rows import Ranking, fingerprint
from tasks.labelling.speed import Fast, too_fast
from tasks.pairs import Ballot, Vote, ballots, flagged
from tasks.reports import Report, Share
from tasks.stats import Mean, mean, share

VALUES = (-1, 0, 1)
NAMED = 50  # annotators, and judgements made too fast, that the report names


class Annotator(Report):
    """What one annotator did, and how it compares."""

    name: str = Field(description="pseudonym, or what the rows call the annotator")
    judgements: int = Field(description="rankings, flagged ones included, skipped ones not")
    skipped: int = Field(description="rankings in which the annotator would not say")
    flagged: int = Field(description="rankings flagged all_bad or unsafe")
    pairs: int = Field(description="pairs of answers put in an order")
    ties: int = Field(description="pairs of answers put on one level")
    agrees: Share | None = Field(
        description="share of the ordered pairs that go as the majority of the others; null without such pairs")
    longer: Share | None = Field(description="share of the ordered pairs, of unequal length, in which the longer answer won")
    first: Share | None = Field(description="share of the ordered pairs in which the answer shown first won; null if unknown")
    seconds: float | None = Field(description="median time for a judgement; null if unknown")
    fast: int = Field(description="judgements made much faster than people usually make them")


class Judgements(Report):
    """All judgements of the data. Lengths are in characters."""

    annotators: int = Field(description="people with at least one ranking, or a file that names nobody")
    judgements: int = Field(description="rankings, flagged ones included, skipped ones not")
    skipped: int = Field(description="rankings in which the annotator would not say")
    flags: dict[str, int] = Field(description="flag → rankings")
    reasons: dict[str, int] = Field(description="what decided → rankings")
    pairs: int = Field(description="votes: an annotator put two answers in an order")
    ties: int = Field(description="an annotator put two answers on one level")
    judged_twice: int = Field(description="pairs of answers that two or more annotators judged, ties included")
    alpha: float | None = Field(
        description="Krippendorff's α, ordinal: 1 all agree, 0 as by chance; null where nothing was judged twice or all "
        "judgements are the same")
    longer: dict[str, Share] = Field(description="all or language → share of the votes in which the longer answer won")
    length_difference: dict[str, Mean] = Field(
        description="all or language → by how many characters the better answer is longer, over all votes")
    first: Share | None = Field(description="share of the votes in which the answer shown first won; null if unknown")
    timed: int = Field(description="judgements whose time is known")
    seconds: float | None = Field(description="their median time")
    too_fast_below: float | None = Field(description="seconds below which a judgement counts as fast; null with few timed")
    fast: int = Field(description="judgements that were")
    fastest: list[Fast] = Field(description=f"the first {NAMED} of them, fastest first")
    by_annotator: list[Annotator] = Field(description=f"the {NAMED} with most judgements")


def judgements(rankings: Sequence[Ranking]) -> Judgements:
    """Everything about these rankings, which the checks have passed and of which no two are copies."""
    grouped: dict[str, list[Ranking]] = {}
    for ranking in rankings:
        grouped.setdefault(fingerprint(ranking.messages), []).append(ranking)
    units = [ballot for group in grouped.values() for ballot in ballots(group)]
    votes = [(ballot, who, vote) for ballot in units for who, vote in ballot.votes.items()]
    ordered = [(ballot, who, vote) for ballot, who, vote in votes if vote.value]
    said = [ranking for ranking in rankings if not ranking.skipped]
    limit, fast = too_fast(said)
    by_language = {"all": ordered} | {
        name: [each for each in ordered if each[2].ranking.language == name]
        for name in sorted({vote.ranking.language for _, _, vote in ordered})}
    longer = {name: _share(_longer(b, v) for b, _, v in part) for name, part in by_language.items()}
    of: dict[str, tuple[list[Ranking], list[tuple[Ballot, Vote]]]] = {r.annotator: ([], []) for r in rankings}
    for ranking in rankings:
        of[ranking.annotator][0].append(ranking)
    for ballot, who, vote in votes:
        of[who][1].append((ballot, vote))
    each = [_annotator(name, *mine, sum(one.annotator == name for one in fast)) for name, mine in of.items()]
    return Judgements(
        annotators=len(each),
        judgements=len(said),
        skipped=len(rankings) - len(said),
        flags=dict(sorted(Counter(flag for r in rankings for flag in set(r.flags)).items())),
        reasons=dict(sorted(Counter(reason for r in rankings for reason in set(r.reasons)).items())),
        pairs=len(ordered),
        ties=len(votes) - len(ordered),
        judged_twice=sum(len(ballot.votes) > 1 for ballot in units),
        alpha=alpha([[vote.value for vote in ballot.votes.values()] for ballot in units]),
        longer={name: found for name, found in longer.items() if found},
        length_difference={name: mean([_won_by(b, v) for b, _, v in part]) for name, part in by_language.items() if part},
        first=_share(_first(b, v) for b, _, v in ordered),
        timed=sum(ranking.seconds is not None for ranking in said),
        seconds=_median(said),
        too_fast_below=limit,
        fast=len(fast),
        fastest=fast[:NAMED],
        by_annotator=sorted(each, key=lambda a: (-a.judgements, a.name))[:NAMED],
    )


def alpha(units: Sequence[Sequence[int]]) -> float | None:
    """Krippendorff's α (2004, chapter 11) with the ordinal metric. `units`: the values that annotators gave each."""
    counts = [[unit.count(value) for value in VALUES] for unit in map(list, units) if len(unit) > 1]
    if sum(any(column) for column in zip(*counts, strict=True)) < 2:
        return None  # no unit twice, or one value everywhere: nothing could have disagreed
    import krippendorff

    found = krippendorff.alpha(value_counts=counts, value_domain=VALUES, level_of_measurement="ordinal")
    return round(float(found), 6) + 0.0


def _annotator(name: str, rankings: Sequence[Ranking], votes: Sequence[tuple[Ballot, Vote]], fast: int) -> Annotator:
    said = [ranking for ranking in rankings if not ranking.skipped]
    ordered = [(ballot, vote) for ballot, vote in votes if vote.value]
    return Annotator(
        name=name,
        judgements=len(said),
        skipped=len(rankings) - len(said),
        flagged=sum(map(flagged, said)),
        pairs=len(ordered),
        ties=len(votes) - len(ordered),
        agrees=_share(_agrees(ballot, name, vote) for ballot, vote in ordered),
        longer=_share(_longer(ballot, vote) for ballot, vote in ordered),
        first=_share(_first(ballot, vote) for ballot, vote in ordered),
        seconds=_median(said),
        fast=fast,
    )


def _share(flags: Iterable[bool | None]) -> Share | None:
    """The share of true ones among those that say anything."""
    known = [flag for flag in flags if flag is not None]
    return share(known) if known else None


def _agrees(ballot: Ballot, who: str, vote: Vote) -> bool | None:
    """Whether the vote goes as most of the others'; None where they have none, or are even."""
    others = sum(other.value for name, other in ballot.votes.items() if name != who)
    return vote.value * others > 0 if others else None


def _won_by(ballot: Ballot, vote: Vote) -> int:
    """Characters by which the better answer is longer."""
    return (len(ballot.first) - len(ballot.second)) * vote.value


def _longer(ballot: Ballot, vote: Vote) -> bool | None:
    """Whether the longer answer won; None where both have one length."""
    return _won_by(ballot, vote) > 0 if _won_by(ballot, vote) else None


def _first(ballot: Ballot, vote: Vote) -> bool | None:
    """Whether the answer that was shown before the other won; None where nobody knows which that was."""
    if not vote.ranking.letters_shown:
        return None
    place = {text: letter for letter, text in vote.ranking.answers.items()}
    return (place[ballot.first] < place[ballot.second]) == (vote.value > 0)


def _median(rankings: Sequence[Ranking]) -> float | None:
    times = [ranking.seconds for ranking in rankings if ranking.seconds is not None]
    return round(median(times), 3) if times else None
