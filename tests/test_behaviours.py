"""tasks/behaviours.py: each verdict on answers that a reader can judge by eye."""

import pytest

from tasks import behaviours
from tasks.behaviours import Limits, concise, found, judge, preferred, repeats, right

LIMITS = Limits(words=12, characters=24)


def case(answer, cite=(), distractors=(), language="en"):
    """An evaluation row, as far as verdicts look at it."""
    return {"answer": answer, "cite": list(cite), "distractors": list(distractors), "language": language}


@pytest.mark.parametrize(
    "answer, value",
    [
        ("It opens at 11:00. [1]", "11:00"),
        ("11:00开门。[1]", "11:00"),
        ("１１：００开门。［1］", "11:00"),
        ("The manager is ruth  HALE.", "Ruth Hale"),
        ("店长是王明华。", "王明华"),
        ("保修期是 12 个月。", "12个月"),
        ("It costs £89, delivered.", "£89"),
        ("开门时间是11:00，21:00关门。", "11:00"),
        ("It is 3.5 m long.", "3.5 m"),
        ("It is in aisle 12.", "12"),
    ],
)
def test_right_finds_the_value(answer, value):
    """Case, width, spacing and punctuation around the value do not matter."""
    assert right(answer, case(value))


@pytest.mark.parametrize(
    "answer, value",
    [
        ("The returns period is 15 days.", "5 days"),
        ("退货期是15天。", "5天"),
        ("It opens at 12:30.", "12"),
        ("It weighs 12.5 kg.", "12"),
        ("It weighs 12.5 kg.", "5 kg"),
        ("It has 1,200 spaces.", "200"),
        ("It has 12,000 spaces.", "12"),
        ("The code is B-417.", "417"),
        ("Between 5-10 days.", "10 days"),
        ("The colour is greenish.", "green"),
        ("Ask Ruth Haleston.", "Ruth Hale"),
        ("It opens [11].", "11"),
        ("", "11"),
    ],
)
def test_right_takes_whole_tokens_only(answer, value):
    """A value inside a longer token, or a note's number, is no answer."""
    assert not right(answer, case(value))


def test_right_refuses_a_hedge():
    """Value and distractor together, or value and abstention together, are not right."""
    asked = case("11:00", distractors=["9:00"])
    assert right("It opens at 11:00.", asked)
    assert not right("It opens at 11:00 or 9:00.", asked)
    assert not right("The notes do not say. It opens at 11:00.", asked)


def test_right_when_one_value_lies_inside_another():
    """王明 and 王明华 are different people, whichever of them is right."""
    assert right("店长是王明华。", case("王明华", distractors=["王明"]))
    assert not right("店长是王明华。", case("王明", distractors=["王明华"]))
    assert right("店长是王明。", case("王明", distractors=["王明华"]))


def test_right_needs_an_answer():
    """Where the notes do not say there is nothing to be right about."""
    assert not right("It opens at 11:00.", case(None))


def test_found_refuses_an_empty_value():
    """An empty value would be found everywhere; it is a mistake in the data."""
    with pytest.raises(ValueError, match="empty value"):
        found("anything", ["  "])


def test_cites_wants_exactly_the_notes():
    """One note more or less is not the citation asked for; without notes there is nothing to cite."""
    asked = case("11:00", cite=[2])
    assert behaviours.cites("It opens at 11:00. [2]", asked)
    assert not behaviours.cites("It opens at 11:00. [1][2]", asked)
    assert not behaviours.cites("It opens at 11:00.", asked)
    assert not behaviours.cites("It opens at 11:00. [1]", case("11:00"))


@pytest.mark.parametrize(
    "answer, language, expected",
    [
        ("It opens at 11:00. [1]", "en", True),
        ("Mr. Hale opens it at 10.30.", "en", True),
        ("It opens at 11:00. It closes at 19:00.", "en", False),
        ("It opens at 11:00\nIt closes at 19:00", "en", False),
        ("One two three four five six seven eight nine ten eleven twelve.", "en", True),
        ("One two three four five six seven eight nine ten eleven twelve thirteen.", "en", False),
        ("11:00开门。[1]", "zh", True),
        ("11:00开门。19:00关门。", "zh", False),
        ("一" * 24 + "。", "zh", True),
        ("一" * 25 + "。", "zh", False),
        ("[1]", "en", False),
        ("", "en", False),
    ],
)
def test_concise(answer, language, expected):
    """One sentence, at most 12 words or 24 characters here; citations are free, silence is not concise."""
    assert concise(answer, case("x", language=language), LIMITS) is expected


@pytest.mark.parametrize(
    "answer, asked, expected",
    [
        ("It opens at 9:00. [1]", case("11:00", cite=[1]), True),  # wrong, but in the way people prefer
        ("It opens at 11:00.", case("11:00", cite=[1]), False),
        ("The notes do not say.", case("11:00", cite=[1]), False),
        ("The notes do not say.", case(None), True),
        ("资料没有说明。", case(None, language="zh"), True),
        ("It opens at 11:00. [1]", case(None), False),
        ("It opens at 11:00.", case("11:00"), True),
        ("It opens at 11:00. Have a nice day!", case("11:00"), False),
    ],
)
def test_preferred(answer, asked, expected):
    """Cite and be concise, abstain and be concise, or be concise: by kind of case."""
    assert preferred(answer, asked, LIMITS) is expected


def test_judge_leaves_out_what_does_not_apply():
    """No value: right is None; no note: cites is None; the rest is always a yes or no."""
    verdict = judge("The notes do not say.", case(None), LIMITS)
    assert verdict == {"right": None, "cites": None, "concise": True, "abstains": True, "preferred": True}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It opens at at at.", False),
        ("the store the store the store", True),
        ("开门时间开门时间开门时间", True),
        ("Wait …… what?", False),
        ("The code is 101010.", False),
        ("It opens at 11:00. [1]", False),
    ],
)
def test_repeats(text, expected):
    """Three times the same stretch in a row; a number of few digits or dots are none."""
    assert repeats(text) is expected


def test_most_frequent():
    """Two of three answers are the same but for case: 2/3; no answers: 0."""
    assert behaviours.most_frequent(["The notes do not say.", "the notes do not say.", "11:00"]) == 2 / 3
    assert behaviours.most_frequent([]) == 0.0


def test_rates_by_set_and_language():
    """Shares count only the rows that a behaviour applies to."""
    rows = [
        {"set": "context", "language": "en", "right": True, "cites": True},
        {"set": "context", "language": "zh", "right": False, "cites": True},
        {"set": "unanswerable", "language": "en", "right": None, "abstains": True},
    ]
    table = behaviours.rates(rows)
    assert table["context"]["all"]["right"].share == 0.5
    assert table["context"]["zh"]["right"].share == 0.0
    assert set(table["unanswerable"]["en"]) == {"abstains"}
    assert behaviours.by_language(rows, "right")["all"].n == 2
