"""What was set in the controls of a labelling page, or why it cannot be read: the server checks none of what it stores.

    compare      Choices "verdict" (A, B, tie)      Choices "reasons", "flags"
    rank         Ranker "rank", Choices "confirmed" (yes): an order that nobody touched is stored as if ranked
    correction   TextArea "text", Choices "decision" (approve, reject)

Controls of other names are a team's own and are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tasks.labelling.people import masked

Row = dict[str, Any]


class Malformed(Exception):
    """Why an annotation cannot be read."""


def compared(results: Sequence[Row]) -> list[list[str]]:
    """The verdict on two answers as a ranking; a tie shares a list."""
    verdict = single(results, "verdict", ("A", "B", "tie"), "verdict")
    return [["A", "B"]] if verdict == "tie" else [[verdict], ["B" if verdict == "A" else "A"]]


def ranked(results: Sequence[Row], letters: list[str]) -> list[list[str]]:
    """The order of three or four answers: complete, without doubles, and confirmed."""
    found = _values(results, "rank", "ranker")
    if len(found) != 1:
        raise Malformed("there is no rank" if not found else "there are two ranks")
    buckets = found[0]
    if not isinstance(buckets, dict) or not all(isinstance(bucket, list) for bucket in buckets.values()):
        raise Malformed("its rank is not a list of letters")
    if buckets.get("_"):
        raise Malformed(f"the rank is incomplete: {len(buckets['_'])} of {len(letters)} answers were not placed")
    if {key for key, bucket in buckets.items() if bucket} - {"rank"}:
        raise Malformed("the answers lie in several buckets, which is no rank")
    rank = buckets.get("rank", [])
    unknown = [letter for letter in rank if letter not in letters]
    if unknown:
        raise Malformed(f"the rank names {_short(unknown[0])}, which is none of the answers {', '.join(letters)}")
    if len(set(rank)) < len(rank):
        raise Malformed(f"the rank names an answer twice ({', '.join(rank)})")
    if len(rank) < len(letters):
        raise Malformed(f"the rank is incomplete: {len(rank)} of {len(letters)} answers")
    if several(results, "confirmed", ("yes",)) != ["yes"]:
        raise Malformed("the order is not confirmed: untouched answers look ranked")
    return [[letter] for letter in rank]


def corrected(results: Sequence[Row]) -> str:
    """The text that is approved."""
    texts = [text for value in _values(results, "text", "text") for text in (value if isinstance(value, list) else [value])]
    if not all(isinstance(text, str) for text in texts):
        raise Malformed("its text is not a text")
    texts = [text for text in texts if text.strip()]
    if len(texts) != 1:
        raise Malformed("it approves no text" if not texts else f"it approves {len(texts)} texts, and nobody can say which")
    return texts[0]


def _values(results: Sequence[Row], control: str, kind: str) -> list[Any]:
    """What was set in a control of the page: value[kind] of each of its results."""
    mine = [item for item in results if item.get("from_name") == control]
    if not all(isinstance(item.get("value"), dict) and kind in item["value"] for item in mine):
        raise Malformed(f"control {control!r} does not hold {kind}")
    return [item["value"][kind] for item in mine]


def several(results: Sequence[Row], control: str, allowed: Sequence[str]) -> list[str]:
    """What was chosen, in the order of `allowed`."""
    chosen = []
    for value in _values(results, control, "choices"):
        chosen += value if isinstance(value, list) else [value]
    unknown = [choice for choice in chosen if choice not in allowed]
    if unknown:
        raise Malformed(f"{control}: {_short(unknown[0])} is none of {', '.join(allowed)}")
    return [choice for choice in allowed if choice in chosen]


def single(results: Sequence[Row], control: str, allowed: Sequence[str], noun: str) -> str:
    """The one thing chosen."""
    chosen = several(results, control, allowed)
    if len(chosen) != 1:
        raise Malformed(f"there is no {noun}" if not chosen else f"there are two {noun}s ({', '.join(chosen)})")
    return chosen[0]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return masked(text if len(text) <= 40 else f"{text[:40]}…")
