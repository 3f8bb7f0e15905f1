"""tasks/rag/groundedness.py: answers in English and Chinese beside their passages, each verdict by hand."""

from __future__ import annotations

import pytest

from tasks.rag.groundedness import figures_of, grounded, words_of

NOTES = ["Ashgate store\nThe Ashgate store opens at 8:00. Kate Field has locker B-123.",
         "Karo lamp\nPrice: £1,250; warranty 24 months."]
ASKED = "When does the Ashgate store open?"
ZH_NOTES = ["青山店\n- 开门时间：08:00\n- 店长：王明华；停车位120个，地址：松树路12号"]
ZH_ASKED = "青山店几点开门？"


@pytest.mark.parametrize("answer, expected", [
    ("It opens at 8:00. [1]", True),                             # opens, 8:00
    ("It opens at 08:00.", True),                                # the same time
    ("It opens at 8:30. [1]", False),                            # no passage has that time
    ("It opens at 8.", False),                                   # nor 8 by itself
    ("8:00.", True),                                             # a figure is enough
    ("[1]", False),                                              # a citation claims nothing
    ("", False),
    ("The locker is b-123.", True),                              # case aside
    ("The locker is 123.", False),                               # half a code
    ("The Karo lamp's price is £1250.", True),                   # the comma of thousands aside
    ("The price of the Karo lamp is 1,250.", True),              # a price says its number
    ("The price of the Karo lamp is $1,250.", False),            # another currency
    ("Kate Field", True),
    ("The manager is Kate Field.", False),                       # kate, field of manager, kate, field: 2/3 < 0.8
    ("The store manager Kate Field has locker B-123.", True),    # 4 of 5: store, kate, field, locker
    ("The Ashgate store opens at 8:00 and the café sells cakes.", False),  # 3 of 6
    ("Both are open.", True),                                    # open is the question's
])
def test_english(answer, expected):
    """At 0.8; 'the', 'at', 'it' are no content."""
    assert grounded(answer, ASKED, NOTES, 0.8) is expected


@pytest.mark.parametrize("answer, expected", [
    ("青山店的开门时间是8:00。[1]", True),       # 青山 山店 | 开门 门时 时间: all there
    ("８：００开门。", True),                    # full-width digits are digits
    ("开门时间为9:00。", False),
    ("店长是王明华。", True),                    # 店长 | 王明 明华
    ("店长是王明。", True),                      # cannot see that a name was cut
    ("店长是李小龙。", False),                   # 店长 of 店长, 李小, 小龙: 1/3
    ("停车位120个。", True),
    ("停车位12个。", True),                      # 12 is there, of the wrong thing: not what is measured
    ("停车位20个。", False),                     # 20 only inside 120
    ("王。明华", True),                          # no pair across punctuation: 明华 alone
])
def test_chinese(answer, expected):
    """Pairs of neighbouring characters, cut at 的, 是, 为 and at punctuation."""
    assert grounded(answer, ZH_ASKED, ZH_NOTES, 0.8) is expected


def test_the_share_is_a_limit_that_may_be_met():
    """kate, field of manager, kate, field: 2/3; of 0.66 enough, of 0.67 not. Figures have no share."""
    assert grounded("The manager is Kate Field.", ASKED, NOTES, 0.66)
    assert not grounded("The manager is Kate Field.", ASKED, NOTES, 0.67)
    assert not grounded("Kate Field, 9:00.", ASKED, NOTES, 0.0)


def test_figures():
    """Every word with a digit; ranges and codes whole; commas part lists, but not thousands."""
    assert figures_of("From 08:00 to 18:30, aisle 12, 2.5 kg, B-12, £ 3,400.") == {"8:00", "18:30", "12", "2.5", "b-12", "£3400"}
    assert figures_of("11:00，21:00；￥40；007号") == {"11:00", "21:00", "¥40", "007"}
    assert figures_of("Twelve") == set()


def test_a_range_states_both_ends_and_a_code_does_not():
    """8:00-18:30 says 8:00 and 18:30; B-12 does not say 12."""
    assert grounded("18:30", "When?", ["Open 08:00-18:30"], 1.0) and grounded("8:00", "When?", ["Open 08:00-18:30"], 1.0)
    assert not grounded("12", "Which aisle?", ["Locker B-12"], 1.0)


def test_words():
    """No stop words, no single letters, possessives and contractions cut, hyphens part."""
    assert words_of("Ruth's well-known shop isn't in a café, B") == ["ruth", "well", "known", "shop", "café"]
    assert words_of("店长是谁？在东区") == ["店长", "东区"]
