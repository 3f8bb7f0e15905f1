"""tasks/evaluation/kept.py: what a quantized model still does, counted by hand."""

from __future__ import annotations

import pytest

from tasks.behaviours import Limits
from tasks.evaluation.kept import judged, kept
from tasks.training.generate import Generated

LIMITS = Limits(words=8, characters=20)


def case(number: int, name: str) -> dict:
    """Case `number`, whose value is its number; without a note in set facts, without a value in set unanswerable."""
    return {"id": f"{name}-{number}", "set": name, "language": "en", "distractors": ["99"],
            "answer": None if name == "unanswerable" else str(number), "cite": [1] if name == "context" else []}


def said(text: str, ended: bool = True) -> Generated:
    """An answer."""
    return Generated(text, 0.0, 3, ended)


CASES = [case(10, "facts"), case(11, "facts"), case(12, "context"), case(13, "context"), case(14, "unanswerable")]
GOOD = ["It is 10.", "It is 11.", "It is 12. [1]", "It is 13. [1]", "The notes do not say."]


def test_what_is_lost_is_counted_case_by_case():
    """Before: all right. After: 11 became 99, 13 lost its source, and the abstention a value. Right 4/4 → 3/4, preferred 3/3
    → 1/3, abstains 1/1 → 0/1; a cut and an empty answer are degenerate, 2/5."""
    after = ["It is 10.", "It is 99.", "It is 12. [1]", "It is 13.", "It is 99. [1]"]
    before = judged(CASES, [said(text) for text in GOOD], LIMITS)
    found = kept(before, judged(CASES, [said(text) for text in after], LIMITS), seed=1)
    assert (found.right.unquantized.share, found.right.quantized.share, found.right.lost.difference) == (1.0, 0.75, 0.25)
    assert (found.right.lost.n, found.right.lost.better, found.right.lost.worse) == (4, 1, 0)
    assert (found.preferred.lost.n, found.preferred.quantized.share) == (3, pytest.approx(1 / 3, abs=1e-6))
    assert (found.abstains.unquantized.share, found.abstains.quantized.share, found.abstains.lost.n) == (1.0, 0.0, 1)
    assert found.right.lost.high >= 0.5 > found.right.lost.difference  # 4 cases prove little: at worst half are lost
    assert [side.share.share for side in found.degenerate.values()] == [0.0, 0.0]
    broken = judged(CASES, [said(""), said("It is 11", ended=False), *(said(text) for text in GOOD[2:])], LIMITS)
    assert kept(before, broken, seed=1).degenerate["quantized"].share.share == 0.4


def test_the_same_answers_lose_nothing():
    """No difference, and no width: equal answers cannot differ on other cases drawn from these."""
    rows = judged(CASES, [said(text) for text in GOOD], LIMITS)
    lost = kept(rows, rows, seed=1).right.lost
    assert (lost.difference, lost.low, lost.high, lost.better, lost.worse) == (0, 0, 0, 0, 0)


def test_held_out_instructions_have_no_verdict_but_may_degenerate():
    """A night without evaluation sets still sees a model that repeats itself."""
    asked = [{"id": "log-1", "messages": []}, {"id": "log-2", "messages": []}]
    before = judged(asked, [said("Press start."), said("Hold it.")], LIMITS)
    after = judged(asked, [said("Press start."), said("Hold it hold it hold it hold it")], LIMITS)
    found = kept(before, after, seed=1)
    assert found.right is found.preferred is found.abstains is None
    assert (found.degenerate["unquantized"].share.share, found.degenerate["quantized"].share.share) == (0.0, 0.5)
