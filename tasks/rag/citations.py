"""Citations checked while an answer is being written: one that names no shown note is taken out before it is seen.

Text from an opening bracket on, and the spaces before it, are held back until they can be no citation, or are one.
The result is the same however the text is cut into pieces.
"""

from __future__ import annotations

import re

from tasks.rag.prompt import CITATION

_CITED = re.compile(rf"(?P<space>\s*)(?P<mark>{CITATION.pattern})", CITATION.flags)
# what may still become a citation: spaces, and brackets followed by nothing but what a citation is made of
_UNDECIDED = re.compile(r"\s*(?:[\[［【][\s\dA-Za-z资料来源,，、;；]*)+$|\s+$")


class CitationFilter:
    """Pieces of an answer in, the same without invented citations out. `invented` are the numbers it took out."""

    def __init__(self, shown: int):
        """`shown` notes were in the prompt, numbered from 1."""
        self._shown, self._held = shown, ""
        self.invented: list[int] = []

    def feed(self, piece: str) -> str:
        """What is decided after one more piece."""
        self._settle(piece)
        undecided = _UNDECIDED.search(self._held)
        cut = undecided.start() if undecided else len(self._held)
        decided, self._held = self._held[:cut], self._held[cut:]
        return decided

    def finish(self) -> str:
        """The rest, without spaces at its end."""
        rest, self._held = self._held.rstrip(), ""
        return rest

    def _settle(self, piece: str) -> None:
        """Taking one citation out may make another of the brackets around it: repeat until nothing changes."""
        text = self._held + piece
        while (again := _CITED.sub(self._checked, text)) != text:
            text = again
        self._held = text

    def _checked(self, match: re.Match[str]) -> str:
        numbers = [int(number) for number in re.findall(r"\d+", match["mark"])]
        there = [number for number in numbers if 1 <= number <= self._shown]
        if len(there) == len(numbers):
            return match[0]
        self.invented += [n for n in dict.fromkeys(numbers) if n not in there and n not in self.invented]
        return f"{match['space']}[{', '.join(map(str, there))}]" if there else ""
