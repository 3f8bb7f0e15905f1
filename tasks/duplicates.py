"""When two texts say the same: folding, near-duplicate search, and overlap with the evaluation sets.

Template-like data makes similarity treacherous: "How much is the Cedar stool?" and "How much is the Cedar bench?"
share nearly all their characters and are different facts. So MinHash only proposes; a pair counts as near duplicates
when, after folding case, width, spaces and punctuation, one text is the other with a few plain words put in. A changed
word, number, name or Chinese character, or an added number or negation, keeps both.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tasks.formats.rows import Message

if TYPE_CHECKING:
    from datasketch import MinHash

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# a number with its inner marks (11:00, 3.5, B-417 gives b and 417), a word, or one Chinese character
_TOKEN = re.compile(rf"\d+(?:[.:]\d+)*|[{_HAN}]|[^\W\d_{_HAN}]+")
_NEGATIONS = frozenset(
    [
        "not",
        "no",
        "never",
        "none",
        "without",
        "except",
        "cannot",
        "t",
        "nor",
        "不",
        "没",
        "无",
        "未",
        "非",
        "别",
        "莫",
        "否",
    ]
)
_SHINGLE = 3  # tokens in a row that are hashed together
_PERMUTATIONS = 128
_SEED = 1  # of MinHash's permutations: fixed, so that equal rows give equal sketches every night


def tokens(text: str) -> list[str]:
    """The words, numbers and Chinese characters of a text, folded: full width to half, upper case to lower."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def folded(messages: Sequence[Message]) -> str:
    """Messages as one line for comparison; roles count, punctuation and spaces do not."""
    return " | ".join(f"{m['role']} {' '.join(tokens(m['content']))}" for m in messages)


def same_facts(one: Sequence[str], other: Sequence[str], added: int) -> bool:
    """Whether one token list is the other with at most `added` tokens put in, none a number or a negation."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > added:
        return False
    at = 0
    for token in long:
        if at < len(short) and token == short[at]:
            at += 1
        elif token[0].isdigit() or token in _NEGATIONS:
            return False
    return at == len(short)


class NearDuplicates:
    """A growing set of texts that can be asked for one that says the same.

    `threshold` is the Jaccard similarity of 3-token shingles from which a pair is looked at (Broder 1997); `added` is
    the number of tokens by which the two may differ.
    """

    def __init__(self, threshold: float, added: int) -> None:
        from datasketch import MinHashLSH

        self._index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
        self._added = added
        self._tokens: dict[str, list[str]] = {}
        self._order: dict[str, int] = {}

    def find(self, text: str) -> str | None:
        """The key of the first text that says the same as this one, or None."""
        found = tokens(text)
        return self._closest(found, self._sketch(found))

    def add(self, key: str, text: str) -> str | None:
        """Put a text in unless one that says the same is there, whose key is returned. Keys must differ."""
        found = tokens(text)
        sketch = self._sketch(found)
        twin = self._closest(found, sketch)
        if twin is None:
            self._tokens[key], self._order[key] = found, len(self._order)
            self._index.insert(key, sketch)
        return twin

    def _closest(self, found: list[str], sketch: MinHash) -> str | None:
        """Of the texts that the index proposes, the first that came in and says the same."""
        close = sorted(self._index.query(sketch), key=self._order.__getitem__)
        return next((key for key in close if same_facts(self._tokens[key], found, self._added)), None)

    @staticmethod
    def _sketch(found: list[str]) -> MinHash:
        """MinHash of the shingles; a text shorter than a shingle is one shingle."""
        from datasketch import MinHash

        sketch = MinHash(num_perm=_PERMUTATIONS, seed=_SEED)
        count = max(1, len(found) - _SHINGLE + 1)
        sketch.update_batch(sorted({" ".join(found[i : i + _SHINGLE]).encode() for i in range(count)}))
        return sketch


def questions(messages: Iterable[Message]) -> list[str]:
    """The folded user messages of a conversation: what overlap with the evaluation sets is judged by."""
    return [" ".join(tokens(m["content"])) for m in messages if m["role"] == "user"]
