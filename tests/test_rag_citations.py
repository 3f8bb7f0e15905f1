"""tasks/rag/citations.py: invented citations never get out, however the text comes."""

from __future__ import annotations

import random

import pytest

from tasks.rag.citations import CitationFilter
from tasks.rag.prompt import citations


def through(pieces: list[str], shown: int) -> tuple[str, list[int]]:
    """Filtered text and what was taken out."""
    citing = CitationFilter(shown)
    return "".join([*map(citing.feed, pieces), citing.finish()]), citing.invented


@pytest.mark.parametrize(
    "text, expected, invented",
    [
        ("It opens at 9. [1]", "It opens at 9. [1]", []),
        ("It opens at 9. [7]", "It opens at 9.", [7]),
        ("At 9 [7], they say.", "At 9, they say.", [7]),
        ("At 9 [1, 7].", "At 9 [1].", [7]),
        ("At 9【资料7】。", "At 9。", [7]),
        ("At 9 ［2］ ok", "At 9 ［2］ ok", []),
        ("[0] and [note 3]", " and", [0, 3]),
        ("a [see below] b [x", "a [see below] b [x", []),
        ("[1234] is a number", "[1234] is a number", []),
        ("[[9]8] and [[9]1]", " and [1]", [9, 8]),
        ("no end [1", "no end [1", []),
        ("spaces  ", "spaces", []),
        ("", "", []),
    ],
)
def test_by_hand(text, expected, invented):
    """Two notes were shown. A citation goes with the space before it; what was built around it is looked at again."""
    assert through([text], 2) == (expected, invented)


def test_any_cut_gives_the_same():
    """3,000 texts of what is dangerous, cut at random: the text and the numbers of the whole, and none is invented."""
    draw = random.Random(0)
    alphabet = ["[", "]", "【", "】", "［", "1", "2", "9", ", ", "、", " ", "\n", "note", "资料", "x", ".", "[9]", "[1]"]
    for _ in range(3000):
        text = "".join(draw.choice(alphabet) for _ in range(draw.randint(0, 14)))
        whole = through([text], 2)
        pieces, rest = [], text
        while rest:
            cut = draw.randint(1, 4)
            pieces, rest = [*pieces, rest[:cut]], rest[cut:]
        assert through(pieces, 2) == whole, (text, pieces)
        assert set(citations(whole[0])) <= {1, 2}, text


def test_decided_text_is_not_held_back():
    """A reader sees words as they come; only a bracket and the spaces before it wait."""
    citing = CitationFilter(1)
    assert [citing.feed(piece) for piece in ("It", " opens", " at", " 9.", " [", "1", "]", " Or", " [x", ". y")] == [
        "It", " opens", " at", " 9.", "", "", " [1]", " Or", "", " [x. y"]
