"""Agreement, biases and speed: figures derived by hand."""

from __future__ import annotations

import json
import math

import pytest

from tasks.labelling.agreement import NAMED, alpha, judgements
from tasks.labelling.speed import too_fast
from tasks.stats import share
from tests.judgement_fixtures import PEOPLE, SCRIPT, judged, many

SHORT, LONG = "At 8.", "It opens at eight."


def better(winner: str, who: str, prompt: str = "When?", **fields):
    """A judgement of the short and the long answer; the short one is A."""
    return judged(prompt, [SHORT, LONG], [[0], [1]] if winner == SHORT else [[1], [0]], who, **fields)


def of(found, name: str):
    """One annotator's line."""
    return next(each for each in found.by_annotator if each.name == name)


def test_alpha_by_hand():
    """Units (+,+), (+,−), (−,−): coincidences ++ 2, −− 2, +− and −+ 1 each; n = 6, of each value 3.

    Observed disagreement 2/6; expected 2 · 3 · 3 / (6 · 5) = 0.6; α = 1 − (1/3) / 0.6 = 4/9. With two values every metric
    gives the same.
    """
    assert alpha([[1, 1], [1, -1], [-1, -1]]) == pytest.approx(4 / 9, abs=1e-6)
    assert alpha([[1, 1], [1, -1], [-1, -1], [1]]) == pytest.approx(4 / 9, abs=1e-6)  # judged once: says nothing
    assert alpha([[1, 1], [-1, -1]]) == 1.0
    assert alpha([[1, -1], [-1, 1]]) == pytest.approx(1 - 1 / (2 * 2 * 2 / (4 * 3)), abs=1e-6)  # −0.5


def test_a_tie_is_nearer_than_the_opposite():
    """Ordinal: + against a tie disagrees less than + against −, by the ranks between. Counts n₋ = n₀ = n₊ = 2:

    δ²(+,0) = δ²(0,−) = (1 + 1)² = 4, δ²(+,−) = (1 + 2 + 1)² = 16. Expected, over ordered pairs of different values: 2 · 2 · 2 ·
    (4 + 4 + 16) / (6 · 5) = 6.4. Units (+,0), (0,−), (−,+) have 2 · (4 + 4 + 16) / 6 = 8: α = 1 − 8/6.4 = −0.25. Units (+,0),
    (0,+), (−,−) have 2 · (4 + 4) / 6 = 8/3: α = 1 − (8/3)/6.4 = 0.583333.
    """
    assert alpha([[1, 0], [0, -1], [-1, 1]]) == pytest.approx(-0.25, abs=1e-6)
    assert alpha([[1, 0], [0, 1], [-1, -1]]) == pytest.approx(0.583333, abs=1e-6)


def test_alpha_is_unknown_where_nothing_could_disagree():
    """Nothing judged twice, or one value everywhere: null, no warning, no division by zero."""
    assert alpha([]) is alpha([[1], [-1]]) is alpha([[1, 1], [1, 1]]) is None
    found = judgements([better(SHORT, "a")])
    assert found.alpha is found.first is found.seconds is found.too_fast_below is None
    assert of(found, "a").agrees is None


def test_annotators_meet_the_majority_of_the_others():
    """a, b: long; c: short. a and b agree with one of two others: even, left out. c is against both. In a second prompt a and
    b alone say long: each agrees with the other."""
    again = [better(LONG, who, "Q2") for who in "ab"]
    found = judgements([better(LONG, "a"), better(LONG, "b"), better(SHORT, "c"), *again])
    assert (of(found, "a").agrees.share, of(found, "a").agrees.n) == (1.0, 1)
    assert (of(found, "c").agrees.share, of(found, "c").agrees.n) == (0.0, 1)
    assert (found.judged_twice, found.pairs, found.annotators) == (2, 5, 3)


def test_agreement_is_on_texts_whatever_letter_they_had():
    """The same preference, shown the other way round, is agreement."""
    other = judged("When?", [LONG, SHORT], [[0], [1]], "b")
    third = judged("Q2", [SHORT, LONG], [[0], [1]], "a"), judged("Q2", [LONG, SHORT], [[1], [0]], "b")
    found = judgements([better(LONG, "a"), other, *third])
    assert found.alpha == 1.0 and of(found, "b").agrees == share([True, True])


def test_the_last_word_counts():
    """An annotator who changes their mind is one vote; a later tie takes a preference back."""
    first = better(LONG, "a", updated="2026-11-24T01:00:00")
    later = better(SHORT, "a", updated="2026-11-24T02:00:00")
    found = judgements([later, first])
    assert found.pairs == 1 and found.longer["all"].share == 0.0
    tie = judged("When?", [SHORT, LONG], [[0, 1]], "a", updated="2026-11-24T03:00:00")
    assert (judgements([tie, later]).pairs, judgements([tie, later]).ties) == (0, 1)


def test_length_bias_by_hand():
    """Long is 13 characters longer; it wins 3 of 4 votes, so the better answer is (3 · 13 − 13) / 4 = 6.5 longer on average;
    pairs of one length say nothing of length."""
    rows = [better(LONG, "a", "1"), better(LONG, "a", "2"), better(LONG, "b", "3", language="zh"), better(SHORT, "b", "4")]
    found = judgements([*rows, judged("5", ["ab", "cd"], [[0], [1]], "a")])
    assert len(LONG) - len(SHORT) == 13
    assert found.longer["all"] == share([True, True, True, False]) and found.longer["zh"] == share([True])
    assert found.length_difference["all"].mean == pytest.approx(26 / 5) and found.length_difference["zh"].mean == 13
    assert of(found, "b").longer == share([True, False])


def test_position_bias_only_where_the_order_shown_is_known():
    """A is shown first in 3 rows and wins 2; the row without an order counts for nothing. Of three answers, B > C > A: B before
    C and won, A before B and C and lost both."""
    shown = [better(SHORT, "a", str(n), letters_shown=True) for n in range(2)] + [better(LONG, "a", "3", letters_shown=True)]
    found = judgements([*shown, better(LONG, "b", "4")])
    assert found.first == share([True, True, False]) and of(found, "b").first is None
    three = judged("5", ["x", "yy", "zzz"], [[1], [2], [0]], "a", letters_shown=True)
    assert judgements([three]).first == share([True, False, False])


def test_skips_ties_flags_and_reasons_are_counted():
    """A flagged ranking has no votes; a skip is no judgement."""
    rows = [better(LONG, "a", "1", reasons=("honest", "helpful")), better(LONG, "a", "2", flags=("unsafe",)),
            judged("3", [SHORT, LONG], [], "a", skipped=True), judged("4", [SHORT, LONG], [[0, 1]], "a", reasons=("honest",))]
    found = judgements(rows)
    assert (found.judgements, found.skipped, found.pairs, found.ties) == (3, 1, 1, 1)
    assert found.flags == {"unsafe": 1} and found.reasons == {"helpful": 1, "honest": 2}
    line = of(found, "a")
    assert (line.judgements, line.skipped, line.flagged, line.pairs, line.ties) == (3, 1, 1, 1, 1)


def test_a_judgement_made_too_fast_by_hand():
    """Ten take 8 … 12.5 s: median of the eleven 10 s, the median distance |ln s − ln 10| below ln 1.25, so that counts: the
    limit is 10 · exp(−3.5 · ln 1.25 / 0.6745) = 3.14 s."""
    times = [8.0, 8.5, 9.0, 9.5, 10.0, 10.0, 10.5, 11.0, 12.0, 12.5]
    rows = [better(LONG, "a", str(n), seconds=t, annotation=n) for n, t in enumerate(times)]
    limit, fast = too_fast([*rows, better(LONG, "b", "x", seconds=0.0, annotation=99)])
    assert limit == pytest.approx(10 * math.exp(-3.5 * math.log(1.25) / 0.6745), abs=1e-3)
    assert [(each.annotator, each.annotation, each.seconds) for each in fast] == [("b", 99, 0.0)]
    assert too_fast(rows)[1] == [] and too_fast(rows[:9]) == (None, [])
    found = judgements([*rows, better(LONG, "b", "x", seconds=0.0, annotation=99)])
    assert (found.fast, found.timed, found.seconds, of(found, "b").fast, of(found, "a").fast) == (1, 11, 10.0, 1, 0)
    assert found.pairs == 11  # it counts like the others


def test_people_who_hurry_and_differ_stand_out():
    """In the made-up judgements the last of four orders at random and quickly: agreement and speed both name them."""
    found = judgements(many())
    worst = min(found.by_annotator, key=lambda each: each.agrees.share)
    assert worst.name == PEOPLE[3] and worst.agrees.high < min(e.agrees.low for e in found.by_annotator if e is not worst)
    assert {each.annotator for each in found.fastest} == {PEOPLE[3]} and worst.fast == found.fast > 3
    assert judgements(many()[::-1]).alpha == found.alpha  # the order of the rows does not matter


def test_the_figures_are_few_and_hold_no_text():
    """A thousand annotators do not make a megabyte; of prompts and answers nothing is there."""
    rows = [better(LONG, f"annotator-{n:04d}", str(n % 7), seconds=0.01 if n < 90 else 10.0, annotation=n) for n in range(1000)]
    found = judgements(rows)
    assert found.annotators == 1000 and len(found.by_annotator) == len(found.fastest) == NAMED and found.fast == 90
    told = json.dumps(found.model_dump(mode="json"))
    assert len(told) < 60_000 and LONG not in told and SCRIPT not in told
