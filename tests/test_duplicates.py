"""tasks/duplicates: near duplicates are found, and facts that only look alike are kept."""

from __future__ import annotations

import pytest

from tasks.duplicates import NearDuplicates, folded, questions, same_facts, tokens


def test_tokens_fold_case_width_and_punctuation():
    """Times and decimals stay whole, each Chinese character is a token, full width becomes half width."""
    assert tokens("It OPENS at １１:００, B-417!") == ["it", "opens", "at", "11:00", "b", "417"]
    assert tokens("价格是￥3.5，对吗？") == ["价", "格", "是", "3.5", "对", "吗"]


@pytest.mark.parametrize(
    "one, other, same",
    [
        ("How much is the Cedar stool?", "HOW MUCH is the  Cedar stool", True),
        ("How much is the Cedar stool?", "Hello, how much is the Cedar stool?", True),
        ("How much is the Cedar stool?", "How much is the Cedar bench?", False),
        ("It costs £12.", "It costs £13.", False),
        ("It opens at 9:00.", "It opens at 9:00. [1]", False),
        ("It is open on Sunday.", "It is not open on Sunday.", False),
        ("松木台灯多少钱？", "请问一下，松木台灯多少钱", True),
        ("松木台灯多少钱？", "松木水壶多少钱？", False),
        ("周日开门。", "周日不开门。", False),
        ("店长是王明。", "店长是王明华。", True),
    ],
)
def test_only_plain_words_may_be_put_in(one, other, same):
    """Up to four added words; changes, numbers and negations keep both. (A longer Chinese name is the rule's price.)"""
    assert same_facts(tokens(one), tokens(other), 4) is same
    assert same_facts(tokens(other), tokens(one), 4) is same


def test_the_index_proposes_and_the_words_decide():
    """Of 60 prices that differ in a number or name none is a copy; a greeting in front of one is."""
    near = NearDuplicates(0.6, 4)
    note = "Answer from the notes below and name the note; if they do not say, say so. Question: "
    texts = [
        f"{note}How much is the {thing} stool? It costs {n}." for n in range(20) for thing in ("Cedar", "Fjord", "Pavo")
    ]
    assert [near.add(str(i), text) for i, text in enumerate(texts)] == [None] * 60
    assert near.find(texts[7].replace("Question: ", "Question:  Hello, ")) == "7"
    assert near.add("again", texts[31].upper()) == "31"
    assert near.find("something else altogether") is None
    assert near.find("") is None


def test_folded_conversations_and_their_questions():
    """Roles count for a copy; only what the user says counts for overlap."""
    said = [{"role": "user", "content": "Open?"}, {"role": "assistant", "content": "Yes!"}]
    assert folded(said) == "user open | assistant yes"
    assert questions(said) == ["open"]
