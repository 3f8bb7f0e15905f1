"""Tonight's model against the live release: worse in nothing, and proven better in something?

Two questions, each a one-sided test on the same cases. *Is it as good?* The hypothesis to overturn is that it is worse by
the margin (Tango's score test). *Is it better?* The hypothesis to overturn is that it is not (exact McNemar). Whatever is
not overturned, the live release stays: too few cases and too wide an interval are refusals, not passes.

Somebody who looks every night and stops at the first success is fooled sooner or later. So alpha, the chance of being
fooled, is for `nights` nights together, and each night spends its part (a union bound: it holds however much the nights
resemble each other). Nothing is counted from night to night: the same metrics give the same verdict.
Reasons and figures: docs/decisions/0017-better-not-merely-lucky.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

from tasks.params import Gate
from tasks.reasons import BETTER, EVIDENCE, WORSE, Reason
from tasks.stats import Difference, binomial, bounded_mean, score, score_interval, student, student_tail


class Behaviour(NamedTuple):
    """What is compared. Higher is better in all of them: what should be rare is compared by its absence."""

    limit: str  # in section gate
    what: str
    shares: bool = True  # yes or no a case; else a value of 0 … 1


BEHAVIOURS = {  # as in champion.behaviours of metrics/evaluate.json
    "correct": Behaviour("champion_correct_loss", "right answers"),
    "preferred": Behaviour("champion_preferred_loss", "answers the way people prefer"),
    "abstains": Behaviour("champion_abstains_loss", "abstentions where the notes do not say"),
    "over_abstains": Behaviour("champion_over_abstains_rise", "answers where they do say"),
    "degenerate": Behaviour("champion_degenerate_rise", "answers that are neither empty, cut nor repetitive"),
    "reference": Behaviour("champion_reference_loss", "chrF on held-out instructions", shares=False),
}


def p_worse(found: Difference, margin: float, shares: bool = True) -> float:
    """How likely figures as good as these would be from a model that is worse by `margin`: small speaks for the model."""
    if shares:
        return NormalDist().cdf(-score(found.better, found.worse, found.n, -margin))
    value, error = bounded_mean(found.difference, found.spread, found.n)
    return student_tail((value + margin) / error, found.n - 1)


def p_no_better(found: Difference, shares: bool = True) -> float:
    """How likely figures as good as these would be from a model that is no better."""
    return binomial(found.better, found.worse) if shares else p_worse(found, 0.0, shares=False)


def interval(found: Difference, level: float, shares: bool = True) -> tuple[float, float]:
    """Where the true difference lies but for a chance of `level` at each end: above −margin where p_worse < level."""
    if shares:
        return score_interval(found.better, found.worse, found.n, level)
    value, error = bounded_mean(found.difference, found.spread, found.n)
    half = student(1 - level, found.n - 1) * error
    return value - half, value + half


def against(cfg: Gate, met: Mapping[str, Any], live: str) -> Iterator[Reason]:
    """The rules on `met`, champion in metrics/evaluate.json; none where the floors decide alone.

    A model that says the same as the live release, word for word, has nothing to prove: it is the live model, with new documents
    or another license.
    """
    if cfg.against_champion == "floors":
        return
    found = {name: Difference.model_validate(value) for name, value in met["behaviours"].items()}
    shared = met["cases"] + (found["reference"].n if "reference" in found else 0)
    for name, behaviour in BEHAVIOURS.items():
        margin = getattr(cfg, behaviour.limit)
        if margin is not None:
            yield as_good(behaviour, margin, found.get(name), live, cfg.alpha / cfg.nights, cfg.champion_cases)
    if cfg.against_champion == "better" and not met["differing"] and shared >= cfg.champion_cases:
        yield Reason(rule="against_champion", figure=None, limit=cfg.alpha / cfg.nights, passed=True, refusal=None,
                     why=f"against_champion: all {shared:,} shared cases are answered in the words of {live}: nothing to prove")
    elif cfg.against_champion == "better":
        yield better(cfg, found, live)


def as_good(behaviour: Behaviour, margin: float, found: Difference | None, live: str, level: float, least: int) -> Reason:
    """Whether a loss of `margin` or more can be ruled out."""
    rule, shared = behaviour.limit, found.n if found else 0
    if found is None or shared < least:
        return Reason(rule=rule, figure=None, limit=margin, passed=False, refusal=EVIDENCE,
                      why=f"{rule}: {EVIDENCE}: {_cases(shared)} shared with {live}, and champion_cases asks for {least}")
    p, (low, high) = p_worse(found, margin, behaviour.shares), interval(found, level, behaviour.shares)
    passed = p <= level
    said = (f"{points(found.difference)} points of {behaviour.what} against {live} on {shared} shared cases, "
            f"at worst {points(low)}; {points(-margin)} is the limit")
    refusal = None if passed else WORSE if found.difference <= -margin or high < 0 else EVIDENCE
    if refusal == EVIDENCE:
        needed = cases_needed(p, shared, level)
        said += f"; {needed:,} such cases would do" if needed else ""
    return Reason(rule=rule, figure=round(low, 6), limit=margin, passed=passed, refusal=refusal,
                  why=f"{rule}: {refusal + ': ' if refusal else ''}{said}")


def better(cfg: Gate, found: Mapping[str, Difference], live: str) -> Reason:
    """Whether one of the behaviours that may prove it is better beyond chance."""
    rule, level = "against_champion", cfg.alpha / cfg.nights / len(cfg.champion_proves)
    measured = {name: found[name] for name in cfg.champion_proves if name in found and found[name].n >= cfg.champion_cases}
    if not measured:
        shared = max((found[name].n for name in cfg.champion_proves if name in found), default=0)
        return Reason(rule=rule, figure=None, limit=level, passed=False, refusal=EVIDENCE,
                      why=f"{rule}: {EVIDENCE}: {_cases(shared)} shared with {live} on which {_or(cfg.champion_proves)} could be "
                          f"proven better, and champion_cases asks for {cfg.champion_cases}; while it cannot be had, "
                          "against_champion: floors compares nothing")
    p = {name: p_no_better(each, BEHAVIOURS[name].shares) for name, each in measured.items()}
    proven = [name for name in measured if p[name] <= level]
    if proven:
        said = " and ".join(f"{points(measured[name].difference)} points of {BEHAVIOURS[name].what} (p {p[name]:.2g})"
                            for name in proven)
        why = f"better than {live}: {said}; p of {level:.2g} is asked"
    else:
        why = f"{BETTER} than {live}: " + "; ".join(
            f"{BEHAVIOURS[name].what} {gain(each, level, BEHAVIOURS[name].shares)}" for name, each in measured.items())
    return Reason(rule=rule, figure=float(f"{min(p.values()):.6g}"), limit=level, passed=bool(proven),
                  refusal=None if proven else BETTER, why=f"{rule}: {why}")


def gain(found: Difference, level: float, shares: bool = True) -> str:
    """What was gained and what would have been enough: "31 won, 29 lost (60 to 29 would do)"."""
    if shares:
        return f"{found.better} won, {found.worse} lost ({wins_needed(found.worse, level)} to {found.worse} would do)"
    _, error = bounded_mean(found.difference, found.spread, found.n)
    return f"{points(found.difference)} points ({points(student(1 - level, found.n - 1) * error)} would do)"


def wins_needed(lost: int, level: float) -> int:
    """The fewest cases that must be won where so many are lost, for the exact test to see a gain."""
    won = lost
    while binomial(won, lost) > level:
        won += 1
    return won


def cases_needed(p: float, cases: int, level: float) -> int | None:
    """Cases on which the same shares of won and lost ones would pass: z grows with their root; None where z is not above 0.

    What nobody lost or won needs this many too: with a margin of Δ, z² (1 − Δ)/Δ cases.
    """
    z = NormalDist().inv_cdf(1 - p) if p < 0.5 else 0.0
    return math.ceil(cases * (NormalDist().inv_cdf(1 - level) / z) ** 2) if z > 0 else None


def points(value: float) -> str:
    """A difference of shares in points: "+1.2"."""
    return f"{100 * value + 0.0:+.1f}"


def _cases(count: int) -> str:
    return f"{count or 'no'} case{'s are' if count > 1 else ' is'}"


def _or(names: list[str]) -> str:
    return " or ".join(names)
