"""tasks/stats.py against arithmetic that can be done by hand."""

import math
import random

import pytest

from tasks import stats


def test_wilson_by_hand():
    """8 of 10, z = 1.96: centre .8 + .19208 = .99208; spread 1.96·√(.016 + .009604) = .31363; scale 1.38416."""
    low, high = stats.wilson(8, 10)
    assert low == pytest.approx((0.99208 - 0.31363) / 1.38416, abs=1e-4)
    assert high == pytest.approx((0.99208 + 0.31363) / 1.38416, abs=1e-4)


def test_wilson_at_the_ends():
    """0 of n ends exactly at 0, and its upper end is z²/(n + z²): 3.8415/(10 + 3.8415) = .2775; n of n mirrors it."""
    assert stats.wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert stats.wilson(10, 10) == (pytest.approx(1 - 0.2775, abs=1e-4), 1.0)


@pytest.mark.parametrize("successes, n", [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_share(successes, n):
    """No cases, or more successes than cases, is a mistake of the caller."""
    with pytest.raises(ValueError, match="is no share"):
        stats.wilson(successes, n)


def test_share_counts_flags():
    """Three true of four is 0.75 of n = 4, rounded to six digits."""
    got = stats.share([True, True, False, True])
    assert (got.share, got.n) == (0.75, 4)
    assert got.low == round(stats.wilson(3, 4)[0], 6)


@pytest.mark.parametrize("freedom, expected", [(5, 2.5706), (10, 2.2281), (30, 2.0423), (200, 1.9719)])
def test_student_matches_the_table(freedom, expected):
    """The 97.5 % column of the printed t table."""
    assert stats.student(0.975, freedom) == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("t, freedom, expected", [
    (6.3138, 1, 0.05), (2.9200, 2, 0.05), (2.3534, 3, 0.05), (2.2281, 10, 0.025), (3.1315, 200, 0.001), (0.0, 7, 0.5)])
def test_student_tail_matches_the_table(t, freedom, expected):
    """Printed quantiles of t give back their tails; the other side is what is left of 1."""
    assert stats.student_tail(t, freedom) == pytest.approx(expected, rel=2e-4)
    assert stats.student_tail(-t, freedom) == pytest.approx(1 - expected, rel=2e-4)


def test_mean_by_hand():
    """1 … 11: mean 6, s² = 110/10 = 11, standard error 1, t(10) = 2.2281, so [3.772, 8.228]."""
    got = stats.mean(list(range(1, 12)))
    assert (got.mean, got.n) == (6.0, 11)
    assert (got.low, got.high) == (pytest.approx(3.772, abs=1e-3), pytest.approx(8.228, abs=1e-3))


def test_mean_of_one_and_of_none():
    """One value has no spread to speak of; no value has no mean."""
    assert stats.mean([2.5]) == stats.Mean(mean=2.5, low=2.5, high=2.5, n=1)
    with pytest.raises(ValueError, match="no values"):
        stats.mean([])


def test_bootstrap_of_a_constant():
    """When every case differs by the same amount, every resample has that mean: no width."""
    assert stats.bootstrap([0.25] * 40, seed=1) == (0.25, 0.25)


def test_bootstrap_agrees_with_the_normal_interval():
    """Differences 1, 0, −1 with shares .2, .7, .1 (n = 1,000): mean .1, variance .3 − .01 = .29,
    standard error √(.29/1000) = .01703, so .1 ± 1.96 · .01703 = [.0666, .1334]."""
    low, high = stats.bootstrap([1] * 200 + [0] * 700 + [-1] * 100, seed=3)
    assert low == pytest.approx(0.0666, abs=2e-3)
    assert high == pytest.approx(0.1334, abs=2e-3)


def test_bootstrap_is_seeded():
    """The same seed gives the same interval, another seed nearly the same one."""
    x = [random.Random(0).random() for _ in range(50)]
    assert stats.bootstrap(x, seed=1) == stats.bootstrap(x, seed=1)
    assert stats.bootstrap(x, seed=1) == pytest.approx(stats.bootstrap(x, seed=2), abs=0.01)


def test_bootstrap_in_blocks_is_the_same_size():
    """More cases than one block holds: all resamples are still drawn, none left at what memory held."""
    x = [1.0, 0.0] * 2000
    low, high = stats.bootstrap(x, seed=0)
    assert 0.47 < low < 0.5 < high < 0.53


def test_sign_test_by_hand():
    """1 against 5: 2 · (C(6,0) + C(6,1))/2⁶ = 14/64; equal counts and no discordant pair give 1."""
    assert stats.sign_test(1, 5) == stats.sign_test(5, 1) == 14 / 64
    assert stats.sign_test(4, 4) == 1.0
    assert stats.sign_test(0, 0) == 1.0


def test_sign_test_of_thousands():
    """Big counts neither overflow nor underflow to a wrong answer: 5,000 to 0 is 2^−4999."""
    assert stats.sign_test(5000, 0) == 0.0 or math.log2(stats.sign_test(5000, 0)) == -4999
    assert stats.sign_test(2500, 2501) == pytest.approx(1.0, abs=0.05)


class TestMcnemar:
    """Superiority: exact, one-sided."""

    def test_by_hand(self):
        """5 won of 6 that differ: (C(6,5) + C(6,6))/2⁶ = 7/64. Nothing differs: no evidence, 1."""
        assert stats.binomial(5, 1) == 7 / 64
        assert stats.binomial(0, 0) == 1.0
        assert stats.binomial(0, 3) == 1.0

    def test_published(self):
        """Cavo et al. 2012 (complete response before and after therapy), 6 and 16 of 161 patients differ: the exact conditional
        McNemar test gives P = 0.052479, two-sided (Fagerland, Lydersen & Laake 2017, ch. 8)."""
        assert 2 * stats.binomial(16, 6) == pytest.approx(0.052479, abs=5e-7)

    def test_of_thousands(self):
        """5,000 won, none lost: 2^−5000, no underflow to an error."""
        assert stats.binomial(5000, 0) == 0.0
        assert stats.binomial(2500, 2500) == pytest.approx(0.5056, abs=1e-4)


class TestTango:
    """Non-inferiority: score test and interval of a paired difference of shares."""

    @pytest.mark.parametrize("better, worse, n, low, high", [
        (1, 7, 21, -0.5172, -0.0260),  # Bentur et al. 2009, airway hyper-responsiveness before and after transplantation
        (6, 16, 161, -0.1240, -0.0054),  # Cavo et al. 2012
    ])
    def test_published_intervals(self, better, worse, n, low, high):
        """95 % intervals printed for Tango's method in Fagerland, Lydersen & Laake (Statistics in Medicine 2014; book 2017)."""
        assert stats.score_interval(better, worse, n, 0.025) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))

    @pytest.mark.parametrize("better, worse", [(6, 16), (31, 29), (0, 5)])
    def test_no_margin_is_mcnemar(self, better, worse):
        """At a difference of 0: (better − worse)/√(better + worse)."""
        assert stats.score(better, worse, 161, 0.0) == pytest.approx((better - worse) / math.sqrt(better + worse))

    def test_without_a_differing_case(self):
        """0 of n against −Δ: p̂ = Δ, variance nΔ(1 − Δ), z = √(nΔ/(1 − Δ)): √(620 · .05/.95) = 5.712. 29 cases: 1.235, no proof.

        A bootstrap of the same differences has no width at all, whatever the number of cases.
        """
        assert stats.score(0, 0, 620, -0.05) == pytest.approx(5.7124, abs=1e-4)
        assert stats.score(0, 0, 29, -0.05) == pytest.approx(1.2354, abs=1e-4)
        assert stats.bootstrap([0.0] * 29, seed=0) == (0.0, 0.0)
        low, high = stats.score_interval(0, 0, 50, 0.025)  # Wilson's z²/(n + z²) on either side: 3.8415/53.8415
        assert (low, high) == (pytest.approx(-0.07135, abs=1e-5), pytest.approx(0.07135, abs=1e-5))

    def test_by_hand(self):
        """b = 10, c = 5, n = 100, δ = −.1: 200p² + (−.1·195 − 15)p + 5·.11 = 0 → p̂ = (34.5 + √(1190.25 − 440))/400 = .154727;
        variance 100(.309454 − .11) = 19.9454; z = (10 − 5 + 10)/4.46602 = 3.35869."""
        assert stats.score(10, 5, 100, -0.1) == pytest.approx(3.35869, abs=1e-5)

    def test_the_other_side_mirrors_it(self):
        """Changing sides changes signs."""
        assert stats.score(31, 12, 300, -0.05) == pytest.approx(-stats.score(12, 31, 300, 0.05))
        low, high = stats.score_interval(31, 12, 300, 0.01)
        assert stats.score_interval(12, 31, 300, 0.01) == (pytest.approx(-high), pytest.approx(-low))

    @pytest.mark.parametrize("n, margin", [(160, 0.1), (300, 0.1), (620, 0.05)])
    @pytest.mark.parametrize("differing", [0.0, 0.05, 0.15, 0.4])
    def test_its_level_is_what_it_says(self, n, margin, differing):
        """All tables of n cases, weighed by a model that is worse by just the margin: never more than 1.05 times .05/30."""
        import numpy as np

        level = 0.05 / 30
        lost, won = margin + differing / 2, differing / 2
        logs = np.array([math.lgamma(i + 1) for i in range(n + 1)])
        total = 0.0
        for b in range(n + 1 if won else 1):
            wide = max(0, int(b + n * margin))  # more losses than this never pass
            c = next((k for k in range(wide, -1, -1) if k + b <= n and stats.score(b, k, n, -margin) >= 2.9352), -1)
            k = np.arange(c + 1)
            log = logs[n] - logs[b] - logs[k] - logs[n - b - k] + k * math.log(lost) + (n - b - k) * math.log(1 - lost - won)
            total += float(np.exp(log + (b * math.log(won) if b else 0.0)).sum())
        assert total <= 1.05 * level


class TestBoundedMean:
    """Values between −1 and 1: mean and standard error with one imagined at either end."""

    def test_by_hand(self):
        """Four values .5, .5, −.5, −.5: mean 0, squares 4 · .25 + 2 = 3 over 6 = .5, error √(.5/5) = .31623."""
        assert stats.bounded_mean(0.0, 0.5, 4) == (0.0, pytest.approx(0.316228, abs=1e-6))

    def test_nothing_differs(self):
        """200 equal answers: √(2/202/201) = .00702 instead of no width."""
        assert stats.bounded_mean(0.0, 0.0, 200) == (0.0, pytest.approx(0.007018, abs=1e-6))

    def test_of_many_it_is_the_plain_one(self):
        """100,000 values of spread .2 about .1: the two hardly matter; .2/√100,000 = .000632."""
        value, error = stats.bounded_mean(0.1, 0.2, 100_000)
        assert (value, error) == (pytest.approx(0.1, abs=1e-5), pytest.approx(0.000632, abs=1e-6))


def test_paired_counts_discordant_cases():
    """right/right, right/wrong, wrong/wrong, right/wrong: difference 2/4, better 2, worse 0, p = 2/2² = .5."""
    got = stats.paired([True, True, False, True], [True, False, False, False], seed=0)
    assert (got.difference, got.n, got.better, got.worse, got.p) == (0.5, 4, 2, 0, 0.5)
    assert 0 <= got.low <= 0.5 <= got.high <= 1
    assert got.spread == 0.5  # of 0, 1, 0, 1


def test_paired_with_itself_is_nothing():
    """A model against its own answers: zero, with no width."""
    got = stats.paired([1, 0, 1], [1, 0, 1], seed=0)
    assert (got.difference, got.low, got.high, got.p) == (0.0, 0.0, 0.0, 1.0)


def test_paired_refuses_unequal_lists():
    """Cases that only one side answered must be left out by the caller, not dropped in silence."""
    with pytest.raises(ValueError):
        stats.paired([1, 2], [1], seed=0)


def test_wins_counts_ties_as_half():
    """win, tie, loss, win: (1 + ½ + 0 + 1)/4 = .625."""
    assert stats.wins([2.0, 1.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0], seed=0).mean == 0.625


def test_ratio_weighs_by_size():
    """Answers of 1 and 9 tokens with 0 and 9 agreeing: 9/10, not the mean .5 of the two shares."""
    got = stats.ratio([0, 9], [1, 9], seed=0)
    assert (got.mean, got.n) == (0.9, 2)
    assert (got.low, got.high) == (0.0, 1.0)


def test_ratio_refuses_nothing():
    """No answers, or none with a token, have no ratio."""
    for parts, wholes in (([], []), ([0], [0]), ([1], [1, 2])):
        with pytest.raises(ValueError, match="ratio"):
            stats.ratio(parts, wholes, seed=0)
