"""Does an answer say only what its passages say? Decided by words, not by a model, so that a reader can check it.

An answer is grounded when

1. each of its figures (numbers, codes, clock times, prices: every word with a digit in it) is a figure of its passages or
   of the question, as it is written there but for case, full-width forms, the commas of thousands and the 0 of 08:00; and
2. at least a given share of its other content words are words of its passages or of the question. In English these are
   the words that are no stop words; in Chinese, which writes no spaces, every two neighbouring characters between
   punctuation and function characters.

Citations are not claims. An answer that says nothing is not grounded. What this cannot see: a figure of the right
passage said of the wrong thing (`right` sees that), and a "not" too many.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tasks.behaviours import HAN, LETTER, fold
from tasks.rag.prompt import strip_citations

# Function words and characters: they say nothing that could stand in a passage or not.
_FUNCTION = """
a about after all also am an and any are as at be because been before being between both but by can could did do does
doing done during each either else for from had has have having he her here hers him his how however i if in into is it
its itself just may me might mine more most must my neither no nor not of off on once one only or other our ours out over
own same shall she should so some such than that the their theirs them then there these they this those through to too
under until up us very was we were what when where which while who whom whose why will with within without would yes you
your yours
aren couldn didn doesn don hadn hasn haven isn shouldn wasn weren won wouldn
"""
STOP_WORDS = frozenset(_FUNCTION.split())
STOP_CHARACTERS = "的了是在有和与或为于也都就及把被从由对"

# A run of letters and digits; a full stop, colon, comma of thousands, hyphen, slash or apostrophe inside keeps it whole.
_WORD = re.compile(rf"(?:[$£€¥] ?)?{LETTER}+(?:(?:[.:](?=\d)|,(?=\d{{3}}(?!\d))|['’/-]){LETTER}+)*")
_HAN_RUN = re.compile(rf"(?:(?![{STOP_CHARACTERS}])[{HAN}])+")
_RANGE = re.compile(r"\d[\d.:]*(?:[-/]\d[\d.:]*)+")  # 8:00-18:30 says both of its ends; B-12 does not say 12


def grounded(answer: str, question: str, passages: Sequence[str], least: float) -> bool:
    """Whether all figures, and a share of at least `least` of the other content words, stand in passages or question."""
    said = strip_citations(answer)
    known = [*passages, question]
    figures, words = figures_of(said), words_of(said)
    if not figures and not words:
        return False
    if not figures <= {part for text in known for figure in figures_of(text) for part in {figure, *_parts(figure)}}:
        return False
    stated = {word for text in known for word in words_of(text)}
    return sum(word in stated for word in words) >= least * len(words)


def figures_of(text: str) -> set[str]:
    """The figures of a text: "Locker B-123 costs £1,250 from 08:00" → {"b-123", "£1250", "8:00"}."""
    found = (word for word in _WORD.findall(fold(text)) if any(c.isdigit() for c in word))
    return {_plain(re.sub("[, ]", "", word)) for word in found}


def words_of(text: str) -> list[str]:
    """The other content words: "The Ash store opens." → ["ash", "store", "opens"]; "店长是谁" → ["店长", "长是", "是谁"]."""
    folded = fold(text)
    words = [part for word in _WORD.findall(folded) if not any(c.isdigit() for c in word)
             for part in re.split("[/-]", re.sub("['’][^/-]*", "", word.lstrip("$£€¥ ")))]
    pairs = [a + b for run in _HAN_RUN.findall(folded) for a, b in pairwise(run)]
    return [word for word in words if len(word) > 1 and word not in STOP_WORDS] + pairs


def _parts(figure: str) -> set[str]:
    """What a figure says besides itself: a price its number, a range both ends."""
    bare = figure.lstrip("$£€¥")
    return {bare, *(map(_plain, re.split("[-/]", bare)) if _RANGE.fullmatch(bare) else ())}


def _plain(figure: str) -> str:
    """08:00 → 8:00."""
    return re.sub(r"^0(?=\d:\d\d)", "", figure)
