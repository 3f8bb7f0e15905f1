"""Intervals and paired comparisons: how much of a figure is the model, and how much the choice of cases.

Everything is seeded and in NumPy or plain Python, so equal inputs give equal figures. All intervals are at 95 % unless
a `confidence` is given. Figures are rounded to six decimals where they become part of a report: beyond that they would
differ between processors and say nothing.

Pages show bootstrap intervals. Decisions are not made by them: with few or no differing cases they shrink to nothing,
and far out in the tail they know no more than their resamples. For these there are tests on counts (`score`, `binomial`),
and for values that are no yes or no an interval that never shrinks to nothing (`bounded_mean`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist, pstdev

from pydantic import Field

from tasks.reports import Report, Share

RESAMPLES = 4000  # bootstrap resamples: the ends of a 95 % interval then move by about 1 % of its width between seeds
DIGITS = 6


class Mean(Report):
    """A mean with its 95 % interval."""

    mean: float = Field(description="arithmetic mean")
    low: float = Field(description="lower end of the interval")
    high: float = Field(description="upper end of the interval")
    n: int = Field(description="values")


class Difference(Report):
    """A paired difference: both sides answered the same n cases."""

    difference: float = Field(description="mean of (ours − theirs) over the cases")
    low: float = Field(description="lower end of the 95 % bootstrap interval")
    high: float = Field(description="upper end of the 95 % bootstrap interval")
    n: int = Field(description="cases that both sides answered")
    better: int = Field(description="cases on which ours is above theirs")
    worse: int = Field(description="cases on which ours is below theirs")
    p: float = Field(description="exact two-sided sign test of better against worse (McNemar for yes/no cases)")
    spread: float = Field(description="standard deviation of ours − theirs over the cases (divisor n)")


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share, within [0, 1] (Wilson 1927, eq. for the roots of (p̂ − p)² = z² p(1 − p)/n).

    Unlike p̂ ± z·s it keeps its coverage near 0 and 1, where good models live. ValueError when n is 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no share")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale  # exact at the ends, where rounding leaves 2e-17
    high = 1.0 if successes == n else (centre + spread) / scale
    return low, high


def share(flags: Sequence[bool]) -> Share:
    """The share of true flags with its Wilson interval. ValueError when there are none."""
    low, high = wilson(sum(map(bool, flags)), len(flags))
    return Share(share=_round(sum(map(bool, flags)) / len(flags)), low=_round(low), high=_round(high), n=len(flags))


def student(probability: float, freedom: int) -> float:
    """Quantile of Student's t by its expansion about the normal one (Abramowitz & Stegun 26.7.5).

    The error is below 0.003 from 5 degrees of freedom on at 97.5 %; with fewer the interval comes out somewhat narrow.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom ** (power + 1) for power, term in enumerate(terms))


def student_tail(t: float, freedom: int) -> float:
    """P[T ≥ t] of Student's t with whole degrees of freedom: a finite sum (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    sine, cosine = t / math.hypot(t, math.sqrt(freedom)), math.sqrt(freedom / (freedom + t * t))
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    both = 2 / math.pi * (math.asin(sine) + sine * total) if odd else sine * total  # P[|T| ≤ t], with the sign of t
    return max(0.0, (1 - both) / 2)


def mean(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """The mean with Student's interval; one value has an interval of no width. ValueError when there are none."""
    import numpy as np

    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise ValueError("the mean of no values")
    centre = float(x.mean())
    half = 0.0
    if x.size > 1:
        half = student((1 + confidence) / 2, x.size - 1) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return Mean(mean=_round(centre), low=_round(centre - half), high=_round(centre + half), n=int(x.size))


def bootstrap(differences: Sequence[float], seed: int, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences, by resampling cases (Efron & Tibshirani 1993, § 13.3).

    Cases, not answers, are the unit: both sides of a case stay together. `differences`: (n,). ValueError when n is 0.
    """
    import numpy as np

    x = np.asarray(differences, dtype=np.float64)
    if x.size == 0:
        raise ValueError("no paired cases")
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    block = max(1, 2**22 // x.size)  # at most 4 M indices at once: 32 MB
    for start in range(0, RESAMPLES, block):
        picked = generator.integers(0, x.size, size=(min(block, RESAMPLES - start), x.size))
        means[start : start + block] = x[picked].mean(axis=1)  # (block, n) → (block,)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def sign_test(better: int, worse: int) -> float:
    """Exact two-sided p of `better` against `worse` discordant pairs under a fair coin; McNemar's exact test.

    p = min(1, 2 · P[X ≤ min(better, worse)]), X ~ Binomial(better + worse, ½); 1 when no pair differs.
    """
    n, k = better + worse, min(better, worse)
    # Integers of any length: exact, and no underflow at n in the thousands.
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)


def binomial(better: int, worse: int) -> float:
    """P[X ≥ better], X ~ Binomial(better + worse, ½): the exact one-sided McNemar test that ours is better.

    Under "no better than theirs" a differing case falls to either side by a fair coin at best (McNemar 1947).
    """
    return _upper_tail(better, better + worse)


@cache
def _upper_tail(k: int, n: int) -> float:
    return sum(math.comb(n, i) for i in range(k, n + 1)) / 2**n  # integers of any length: exact, no underflow


def score(better: int, worse: int, n: int, difference: float) -> float:
    """z of Tango's score test that the true paired difference of two shares is `difference` (Tango 1998, § 3).

    Of n cases `better` are right on our side alone and `worse` on theirs alone. With p = P[theirs alone] and
    p + δ = P[ours alone], the likelihood under δ is greatest at the root p̂ of
    2n·p² + (δ(2n − better + worse) − better − worse)·p − worse·δ(1 − δ) = 0, and
    z = (better − worse − nδ) / √(n(2p̂ + δ(1 − δ))). At δ = 0 this is McNemar's (better − worse)/√(better + worse).
    Large z: more than `difference`. It needs no differing case: 0 of n against δ = −Δ gives √(nΔ/(1 − Δ)).
    """
    b = difference * (2 * n - better + worse) - better - worse
    root = (math.sqrt(b * b + 8 * n * worse * difference * (1 - difference)) - b) / (4 * n)
    variance = n * (2 * root + difference * (1 - difference))
    lead = better - worse - n * difference
    return lead / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, lead) if lead else 0.0


def score_interval(better: int, worse: int, n: int, level: float) -> tuple[float, float]:
    """Tango's interval of the difference of two paired shares; the truth lies beyond each end with chance `level`."""
    z = NormalDist().inv_cdf(1 - level)
    return _crossing(better, worse, n, z), _crossing(better, worse, n, -z)


def _crossing(better: int, worse: int, n: int, z: float) -> float:
    """The difference at which `score`, which falls as the difference rises, is z."""
    low, high = -1.0, 1.0
    for _ in range(50):  # 2 · 2⁻⁵⁰
        middle = (low + high) / 2
        low, high = (middle, high) if score(better, worse, n, middle) > z else (low, middle)
    return low


def bounded_mean(value: float, spread: float, n: int) -> tuple[float, float]:
    """(mean, standard error) of n values between −1 and 1, one imagined at either end put in.

    What Bonett & Price (2012) do for paired shares: where all cases agree, the error stays that of what may yet come.
    """
    square = (n * (spread * spread + value * value) + 2) / (n + 2)
    shrunk = n * value / (n + 2)
    return shrunk, math.sqrt((square - shrunk * shrunk) / (n + 1))


def paired(ours: Sequence[float], theirs: Sequence[float], seed: int) -> Difference:
    """Compare two models on the same cases, in the same order: ours − theirs. ValueError on unequal or empty lists."""
    pairs = list(zip(ours, theirs, strict=True))
    differences = [float(a) - float(b) for a, b in pairs]
    low, high = bootstrap(differences, seed)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Difference(
        difference=_round(math.fsum(differences) / len(differences)),
        low=_round(low),
        high=_round(high),
        n=len(differences),
        better=better,
        worse=worse,
        p=_round(sign_test(better, worse)),
        spread=_round(pstdev(differences)),
    )


def ratio(parts: Sequence[float], wholes: Sequence[float], seed: int) -> Mean:
    """Σ parts / Σ wholes with a bootstrap interval over the pairs: tokens come in answers, and answers are what was drawn.

    (Share of tokens that agree: parts = agreeing tokens of each answer, wholes = its tokens.) ValueError when empty.
    """
    import numpy as np

    a, b = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    if a.size == 0 or a.shape != b.shape or b.sum() <= 0:
        raise ValueError("a ratio needs as many parts as wholes, and something in them")
    picked = np.random.default_rng(seed).integers(0, a.size, size=(RESAMPLES, a.size))
    low, high = np.quantile(a[picked].sum(axis=1) / np.maximum(b[picked].sum(axis=1), 1e-300), [0.025, 0.975])
    return Mean(mean=_round(a.sum() / b.sum()), low=_round(low), high=_round(high), n=int(a.size))


def wins(ours: Sequence[float], theirs: Sequence[float], seed: int) -> Mean:
    """Win rate: the mean over cases of 1 for a win, ½ for a tie, 0 for a loss, with a bootstrap interval."""
    points = [0.5 + 0.5 * ((a > b) - (a < b)) for a, b in zip(ours, theirs, strict=True)]
    low, high = bootstrap(points, seed)
    return Mean(mean=_round(math.fsum(points) / len(points)), low=_round(low), high=_round(high), n=len(points))


def _round(x: float) -> float:
    return round(float(x), DIGITS) + 0.0  # + 0.0 turns −0.0 into 0.0
