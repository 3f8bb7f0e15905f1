"""The test sets stay what they are, and nothing that is trained on asks what they ask. Both are told by hash.

Stage prepare leaves out what overlaps the evaluation sets, near-copies too. This is the check behind it, on the files that
were trained on: a row that got in another way, by hand or by a mistake in prepare, makes every figure on its case worthless,
and no figure would show it. The gate asks, and metrics/gate.json (in git, and in each release's manifest) has the hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks.champion import test_sets
from tasks.duplicates import questions
from tasks.files import read_jsonl
from tasks.formats.rows import fingerprint, user
from tasks.reports import Report

ANSWERED = ("instructions/train.jsonl", "preferences/train.jsonl")  # rows whose answers are learned
TRAINED = (*ANSWERED, "prompts/prompts.jsonl")  # answers to prompts are sampled, judged and learned later
NAMED = 20  # rows that are named

Row = dict[str, Any]


class Frozen(Report):
    """The evaluation sets by hash, and whether training has seen them."""

    test_sets: dict[str, str] = Field(description="evaluation set → SHA-256 of its file; sets without cases are not here")
    changed: list[str] = Field(description="sets that were not these when the live release was evaluated; empty before one")
    cases: int = Field(description="test cases: those of all sets, and the held-out instructions")
    rows: int = Field(description="rows that are trained on, or sampled for")
    seen: int = Field(description="test cases that one of these rows asks")
    where: list[str] = Field(description=f"the first {NAMED} of them: case (file: row)")


def look(dataset: Path, then: Mapping[str, str]) -> Frozen:
    """Compare the test sets in artifacts/dataset with what is trained on there; `then`: the live release's test sets.

    A case is asked where a user's message is its own but for case, width, spaces and punctuation. Held-out instructions are
    told from the others by their whole prompt, as stage prepare draws them: two may well ask nearly the same.
    """
    now = test_sets(dataset / "evaluation")
    asked: dict[str, str] = {}  # hash of a question → the first row that asks it
    answered: dict[str, str] = {}
    rows = 0
    for name in TRAINED:
        for row in read_jsonl(dataset / name):
            rows, place = rows + 1, f"{name}: {row['id']}"
            for key in _hashes(row["messages"]):
                asked.setdefault(key, place)
            if name in ANSWERED:
                answered.setdefault(fingerprint(_prompt(name, row)), place)
    cases = [row for name in now for row in read_jsonl(dataset / "evaluation" / f"{name}.jsonl")]
    held_out = read_jsonl(dataset / "instructions" / "eval.jsonl")
    seen = [*_seen(((case["id"], list(_hashes(_messages(case)))) for case in cases), asked),
            *_seen(((row["id"], [fingerprint(row["messages"][:-1])]) for row in held_out), answered)]
    changed = sorted(name for name in {*now, *then} if now.get(name) != then.get(name)) if then else []
    return Frozen(test_sets=now, changed=changed, cases=len(cases) + len(held_out), rows=rows, seen=len(seen), where=seen[:NAMED])


def _seen(cases: Iterable[tuple[str, list[str]]], known: Mapping[str, str]) -> Iterator[str]:
    for name, keys in cases:
        place = next((known[key] for key in keys if key in known), None)
        if place:
            yield f"{name} ({place})"


def _hashes(messages: list[dict[str, str]]) -> Iterator[str]:
    return (hashlib.sha256(asked.encode()).hexdigest() for asked in questions(messages))


def _messages(case: Row) -> list[dict[str, str]]:
    return case["messages"] if "messages" in case else user(case["question"])


def _prompt(name: str, row: Row) -> list[dict[str, str]]:
    """The messages that are answered: a pair keeps its answers apart, an instruction's is its last message."""
    return row["messages"] if name.startswith("preferences") else row["messages"][:-1]
