"""tasks/against.py: what the gate promises of thirty nights, by simulation with its own functions; and its figures by hand."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest

from tasks.against import BEHAVIOURS, as_good, better, cases_needed, interval, p_no_better, p_worse, wins_needed
from tasks.params import Gate, load
from tasks.stats import Difference

GATE = load(Path(__file__).parent.parent / "params.yaml").gate  # as committed: the promises are made for it
CASES = {"correct": 620, "preferred": 600, "abstains": 300, "over_abstains": 620, "degenerate": 920}  # the starter's
# Share of cases on which two trainings on the same data differ. Of 482 questions a night of the starter turned 20 right answers
# wrong and about as many right again (README, Feedback): 8 %; the rest is assumed, and more of it than seen.
DIFFER = {"correct": 0.08, "preferred": 0.12, "abstains": 0.12, "over_abstains": 0.01, "degenerate": 0.01}
RUNS, NIGHTS = 1000, 30


def counts(better: int, worse: int, n: int) -> Difference:
    """A paired difference of which only the counts are known."""
    return Difference.model_construct(better=better, worse=worse, n=n, difference=(better - worse) / n)


@functools.cache
def passes(cfg: str, name: str, won: int, lost: int) -> tuple[bool, bool]:
    """What the gate says of one behaviour's counts: (as good as the live release, proven better)."""
    gate = Gate.model_validate_json(cfg)
    found, behaviour = counts(won, lost, CASES[name]), BEHAVIOURS[name]
    good = as_good(behaviour, getattr(gate, behaviour.limit), found, "r1", gate.alpha / gate.nights, gate.champion_cases)
    return good.passed, name in gate.champion_proves and better(gate, {name: found}, "r1").passed


def simulate(gate: Gate, gains: dict[str, float], nights: int = NIGHTS, differ: dict[str, float] | None = None,
             seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(as good, proven better) of each run and night: (RUNS, nights) twice. `gains`: true differences of shares.

    Cases are sure or coins. One release is met all the run, so its luck with the coins is the run's, and nights are alike. A gain
    is half coins that have become sure and half cases that were surely wrong; a loss is the same the other way round.
    """
    draw, cfg = np.random.default_rng(seed), gate.model_dump_json()
    good, proven = np.ones((RUNS, nights), bool), np.zeros((RUNS, nights), bool)
    for name, n in CASES.items():
        gain = gains.get(name, 0.0)
        coins, sure, fixed = round(2 * (differ or DIFFER)[name] * n), round(abs(gain) * n), round(abs(gain) * n / 2)
        assert sure <= coins
        heads = draw.binomial(coins, 0.5, size=(RUNS, 1))  # coins that the release has right
        settled = draw.hypergeometric(heads, coins - heads, sure)  # of these, some that are sure tonight
        won = draw.binomial(coins - sure - (heads - settled), 0.5, size=(RUNS, nights))
        lost = draw.binomial(heads - settled, 0.5, size=(RUNS, nights))
        won, lost = (won + sure - settled + fixed, lost) if gain >= 0 else (won, lost + settled + fixed)
        pairs, place = np.unique(won * 1000 + lost, return_inverse=True)
        said = np.array([passes(cfg, name, *divmod(int(pair), 1000)) for pair in pairs])[place.reshape(won.shape)]
        good &= said[..., 0]
        proven |= said[..., 1]
    return good, proven


def share(flags: np.ndarray) -> float:
    """Share of runs in which it happened in any night."""
    return float(flags.any(axis=1).mean())


def test_identical_models_are_promoted_in_at_most_a_twentieth_of_thirty_nights():
    """Without the correction for looking every night it is more than a twentieth, which is what the correction is for."""
    good, proven = simulate(GATE, {})
    assert 0 < share(good & proven) <= 0.05
    good, proven = simulate(GATE.model_copy(update={"nights": 1}), {})
    assert share(good & proven) > 0.2


def test_identical_models_that_differ_much_are_not_promoted_more():
    """A fifth of the right answers and a quarter of the preferred ones change each night: still at most a twentieth."""
    differ = DIFFER | {"correct": 0.2, "preferred": 0.25, "abstains": 0.25}
    good, proven = simulate(GATE, {}, differ=differ)
    assert share(proven) <= 0.05 and share(good & proven) <= 0.05


@pytest.mark.parametrize("name", ["correct", "preferred", "abstains"])
def test_not_worse_lets_out_what_is_worse_by_the_margin_in_at_most_a_twentieth(name):
    """One behaviour is worse by just its margin and all else is equal, for thirty nights. With the whole alpha each night it
    would be let out in more."""
    margin = getattr(GATE, BEHAVIOURS[name].limit)
    good, _ = simulate(GATE, {name: -margin})
    assert share(good) <= 0.05
    if name == "correct":
        assert share(simulate(GATE.model_copy(update={"nights": 1}), {name: -margin})[0]) > 0.05


def test_what_is_worse_by_the_margin_is_never_called_better():
    """In `better` it would have to be proven better elsewhere at the same time."""
    good, proven = simulate(GATE, {"correct": -0.05})
    assert share(good & proven) <= 0.002


def test_power_at_five_points():
    """+5 points in right and preferred answers: let out in the first night in four of five runs, within a week in 19 of 20.
    +5 in right answers alone: in three of five, and in nine of ten."""
    both = np.logical_and(*simulate(GATE, {"correct": 0.05, "preferred": 0.05}, nights=7))
    assert share(both[:, :1]) >= 0.8 and share(both) >= 0.95
    one = np.logical_and(*simulate(GATE, {"correct": 0.05}, nights=7))
    assert share(one[:, :1]) >= 0.6 and share(one) >= 0.9


def test_power_of_not_worse():
    """An equal model is let out in two of three nights; one that is 2 points worse in right and preferred answers in one of ten.
    That is how much `not_worse` may drift."""
    good, _ = simulate(GATE, {}, nights=1)
    assert 0.6 <= share(good) <= 0.9
    good, _ = simulate(GATE, {"correct": -0.02, "preferred": -0.02}, nights=1)
    assert 0.02 <= share(good) <= 0.2


def test_p_values_by_hand():
    """5 won of 6: 7/64. 0 of 620 against −5 points: z 5.712. chrF .02 ± .00993 (200 of spread .1): t 1.995, against −.05 7.03."""
    assert p_no_better(counts(5, 1, 200)) == 7 / 64
    assert p_worse(counts(0, 0, 620), 0.05) == pytest.approx(5.6e-9, rel=0.02)
    told = Difference.model_construct(difference=0.02, spread=0.1, n=200, better=90, worse=70)
    assert p_no_better(told, shares=False) == pytest.approx(0.0237, abs=2e-4)
    assert p_worse(told, 0.05, shares=False) == pytest.approx(1.7e-11, rel=0.1)
    low, high = interval(told, 0.05 / 30, shares=False)  # t of 199 at .05/30: 2.971
    assert (low, high) == (pytest.approx(0.0198 - 0.0295, abs=1e-4), pytest.approx(0.0198 + 0.0295, abs=1e-4))


@pytest.mark.parametrize("won, lost", [(10, 40), (20, 35), (30, 30), (0, 4)])
def test_the_interval_and_the_test_say_the_same(won, lost):
    """The interval's lower end is the margin at which p is the level."""
    found, level = counts(won, lost, 620), 0.05 / 30
    low, _ = interval(found, level)
    assert p_worse(found, -low) == pytest.approx(level, rel=1e-6)


def test_what_would_be_needed():
    """60 to 29: P[X ≥ 60] of 89 is 6.7e-4, with one win less 9.1e-4, and .05/60 = 8.3e-4 is asked. Nothing differs on 100 cases:
    z² = 100/19 against −5 points, so 164 = 19 · 2.935² cases; a loss beyond the margin is not cured by more of the same."""
    assert wins_needed(29, 0.05 / 60) == 60
    assert cases_needed(p_worse(counts(0, 0, 100), 0.05), 100, 0.05 / 30) == 164
    assert cases_needed(p_worse(counts(0, 20, 100), 0.05), 100, 0.05 / 30) is None
