"""What an answer does: is it right, does it cite, is it concise, does it abstain, is it what people prefer?

One definition for every stage that judges answers (evaluate, answers) and for the starter's preferences, decided by
rules on the text, not by a model: the same text always gets the same verdict, and a reader can check it by hand.

A case is a row of an evaluation set: "answer" (the value, null when the notes do not say), "distractors" (values that
would be wrong), "cite" (the notes that say it; empty for a fact the model should know), "language" ("en" or "zh").
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.rag import prompt
from tasks.reports import Share
from tasks.stats import share

Case = Mapping[str, Any]
BEHAVIOURS = ("right", "cites", "concise", "abstains", "preferred", "ended")

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
LETTER = rf"[^\W_{HAN}]"  # a letter or digit that is no Chinese character
# A full stop after one of these ends no sentence.
SHORT_FORMS = r"(?i:\b(?:mr|mrs|ms|dr|st|no|nos|vs|approx|e\.g|i\.e)\.)(?=\s)"
# Closing marks; a Latin full stop only before a space, the end or Chinese, so that 3.5 and 10.30 stay whole.
SENTENCE_END = re.compile(rf"[。！？!?]+|\.+(?=[\s\"'”’)]|$|[{HAN}])|\n+")


@dataclass(frozen=True)
class Limits:
    """How long a concise answer may be; `evaluate.concise_words` and `evaluate.concise_characters` of params.yaml."""

    words: int
    characters: int


def fold(text: str) -> str:
    """Text as values are compared: NFKC (full-width → half-width), case-folded, single spaces, none beside Chinese."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return re.sub(rf"(?<=[{HAN}]) | (?=[{HAN}])", "", text)


def found(text: str, values: Iterable[str]) -> set[str]:
    """The folded `values` that `text` states as whole tokens.

    Longer values are tried first and take their characters with them, so "王明" is not found inside "王明华" when both
    are values, nor "5 days" inside "15 days" at all. ValueError on an empty value.
    """
    folded = sorted({fold(value) for value in values}, key=lambda value: (-len(value), value))
    if "" in folded:
        raise ValueError("an empty value would be found in every answer")
    if not folded:
        return set()
    pattern = "|".join(_bounded(value) for value in folded)
    return {match.group() for match in re.finditer(pattern, fold(text))}


def right(answer: str, case: Case) -> bool:
    """The value is stated, no distractor is, and the answer does not abstain. False where the case has no answer."""
    if case["answer"] is None or prompt.abstains(answer):
        return False
    gold = fold(case["answer"])
    stated = found(prompt.strip_citations(answer), [case["answer"], *case["distractors"]])
    return stated == {gold}


def cites(answer: str, case: Case) -> bool:
    """The notes named are exactly the notes that say it. False where there is nothing to cite."""
    return bool(case["cite"]) and set(prompt.citations(answer)) == set(case["cite"])


def concise(answer: str, case: Case, limits: Limits) -> bool:
    """One sentence within the limits; citations are not counted. An empty answer is not concise."""
    text = prompt.strip_citations(answer).strip()
    if sentences(text) != 1:
        return False
    if case["language"] == "zh":
        return characters(text) <= limits.characters
    return words(text) <= limits.words


def abstains(answer: str) -> bool:
    """The answer says that the notes do not say (tasks/rag/prompt.py holds the phrasings)."""
    return prompt.abstains(answer)


def preferred(answer: str, case: Case, limits: Limits) -> bool:
    """What the annotators are asked to prefer: with notes that say it, cite and be concise; with notes that do not,
    abstain and be concise; without notes, be concise. Correctness is judged apart, by `right`."""
    if case["answer"] is None:
        return abstains(answer) and concise(answer, case, limits)
    if case["cite"]:
        return cites(answer, case) and concise(answer, case, limits)
    return concise(answer, case, limits)


def judge(answer: str, case: Case, limits: Limits) -> dict[str, bool | None]:
    """All verdicts on one answer; None where one does not apply (right without a value, cites without a note)."""
    return {
        "right": right(answer, case) if case["answer"] is not None else None,
        "cites": cites(answer, case) if case["cite"] else None,
        "concise": concise(answer, case, limits),
        "abstains": abstains(answer),
        "preferred": preferred(answer, case, limits),
    }


def sentences(text: str) -> int:
    """Stretches with a letter or digit between closing marks: "It opens at 3.5. Call Mr. Hale" → 2."""
    text = re.sub(SHORT_FORMS, lambda match: match.group()[:-1], text)
    return sum(any(c.isalnum() for c in part) for part in SENTENCE_END.split(text))


def words(text: str) -> int:
    """Words between spaces that hold a letter or digit."""
    return sum(any(c.isalnum() for c in word) for word in text.split())


def characters(text: str) -> int:
    """Letters, digits and Chinese characters; punctuation and spaces are not counted."""
    return sum(c.isalnum() for c in text)


def repeats(text: str, times: int = 3) -> bool:
    """The answer says the same thing over and over: a stretch of 3 to 40 characters, `times` times in a row."""
    return re.search(rf"(\w.{{2,39}}?)(?:\s*\1){{{times - 1},}}", fold(text)) is not None


def most_frequent(answers: Sequence[str]) -> float:
    """The share of the commonest answer text: 1.0 when a model says one thing to everything. 0.0 of no answers."""
    return max(Counter(map(fold, answers)).values()) / len(answers) if answers else 0.0


def rates(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Share]]]:
    """Judged rows → set → language ("all" besides each) → behaviour → share with its interval.

    A behaviour that applies to no row of a group is left out there, so a set without citations has no "cites".
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        for language in ("all", row["language"]):
            groups.setdefault((row["set"], language), []).append(row)
    table: dict[str, dict[str, dict[str, Share]]] = {}
    for (name, language), group in sorted(groups.items()):
        table.setdefault(name, {})[language] = {
            key: share(flags)
            for key in BEHAVIOURS
            if (flags := [row[key] for row in group if row.get(key) is not None])
        }
    return table


def by_language(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, Share]:
    """The share of one verdict over all rows ("all") and in each language; rows where it is None do not count."""
    flags: dict[str, list[bool]] = {}
    for row in rows:
        if row[key] is not None:
            for language in ("all", row["language"]):
                flags.setdefault(language, []).append(row[key])
    return {language: share(values) for language, values in sorted(flags.items())}


def _bounded(value: str) -> str:
    """A pattern for a folded value as whole tokens. Chinese writes no spaces, so it bounds letters and digits only.

    A number does not begin or end inside a longer one: not 12 in 12:30, 12.5, 5-12, B-12 or 12,000, but 11:00 in
    "11:00,21:00" (a full-width comma folds to a plain one).
    """
    before = after = ""
    if re.match(LETTER, value[0]):
        before = rf"(?<!{LETTER})"
    if value[0].isdigit():
        before += rf"(?<!\d[.:])(?<!{LETTER}-)"
        before += r"(?<!\d,)" if re.match(r"\d{3}(?!\d)", value) else ""
    if re.match(LETTER, value[-1]):
        after = rf"(?!{LETTER})"
    if value[-1].isdigit():
        after += r"(?![.:-]\d)(?!,\d{3}(?!\d))"
    return before + re.escape(value) + after
