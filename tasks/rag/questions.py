"""Questions on the documents: each has one document that answers it and the value it should state, or neither.

The stages that look them up (retrieve) and answer them (answers) read them here, and mean the same by "found".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks import behaviours
from tasks.errors import DataError
from tasks.files import canonical_json, read_jsonl, write_jsonl
from tasks.rag.chunks import Chunk
from tasks.rag.stores import Hit

PASSAGES = "passages.jsonl"  # in the retrieve stage's folder
FIELDS = {"id", "question", "answer", "distractors", "source", "language"}
Case = Mapping[str, Any]


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Rows of documents.jsonl, maybe none; DataError for a row without its fields, for an id that is there twice and for
    questions of which none is answerable."""
    cases = read_jsonl(path)
    seen: set[str] = set()
    for number, case in enumerate(cases, 1):
        if missing := sorted(FIELDS - set(case)):
            raise DataError(f"{path}:{number}", f"lacks {', '.join(missing)}", "add the field, or drop the row")
        if (case["answer"] is None) != (case["source"] is None):
            raise DataError(
                f"{path}:{number}",
                "has an answer without its document, or a document without an answer",
                "give both, or null for both",
            )
        if case["id"] in seen:
            raise DataError(f"{path}:{number}", f"id {case['id']!r} occurs twice", "give each question its own id")
        seen.add(case["id"])
    if cases and not any(case["answer"] is not None for case in cases):
        raise DataError(str(path), "has no answerable question", "add questions with their answers")
    return cases


def found(case: Case, hits: Sequence[Hit]) -> bool:
    """Whether a passage of the right document states the value."""
    right = (hit.chunk.passage for hit in hits if hit.chunk.source == case["source"])
    return any(behaviours.found(passage, [case["answer"]]) for passage in right)


def digest(case: Case) -> str:
    """16 hex digits that change when a question asks something else, or something else should be found."""
    content = {key: case[key] for key in ("question", "answer", "source")}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def write_passages(path: Path, found: Mapping[str, Sequence[Hit]]) -> None:
    """Question id → the passages it is asked with, best first; whole chunks, so that asking needs no index."""
    write_jsonl(path, ({"id": name, "passages": [asdict(hit) for hit in hits]} for name, hits in found.items()))


def read_passages(path: Path, cases: Sequence[Case]) -> list[list[Hit]]:
    """The passages of each question, in the order of `cases`; DataError when they are those of other questions."""
    rows = {row["id"]: row["passages"] for row in read_jsonl(path)}
    if set(rows) != {case["id"] for case in cases}:
        raise DataError(str(path), "has the passages of other questions", "run the stage that writes it: dvc repro retrieve")
    return [[Hit(Chunk(**hit["chunk"]), hit["score"]) for hit in rows[case["id"]]] for case in cases]
