"""champion.json: the live release, as the next night's challenger meets it.

It carries the champion's own answers to a fixed part of the evaluation cases, so that a night can compare itself with
the release on the same cases without its weights being there (they may be gone from the cache, or on another machine).
The verdicts are not stored: tonight's rules judge both sides. A case that has changed since is recognised by its digest
and left out of the comparison.

    {"release": null}                                        nothing released yet
    {"release": "r0007", "answers": {"context-0012": {"set": "context", "case": "9f86d081884c7d65", "answer": "…"}, …}}

The evaluate stage writes the challenger's half (challenger.json); promotion makes it the champion with `champion_from`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import DataError
from tasks.files import canonical_json, read_json, write_json

CHALLENGER = "challenger.json"  # in the evaluate stage's folder


class Answered(BaseModel):
    """What a model said to one case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: str = Field(description="evaluation set: facts, context or unanswerable")
    case: str = Field(description="digest of the case as it was asked and judged")
    answer: str = Field(description="the greedy answer")


class Champion(BaseModel):
    """The live release and its answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: str | None = Field(description="id of the live release; null before the first one")
    answers: dict[str, Answered] = Field(default_factory=dict, description="case id → answer")


def read(path: Path) -> Champion:
    """Read champion.json; DataError when it is missing or not of this form."""
    raw = read_json(path)
    try:
        return Champion.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(str(path), f"{where or 'content'}: {first['msg']}",
                        "restore it: git checkout champion.json, or promote a release again") from None


def write(path: Path, champion: Champion) -> None:
    """Write champion.json atomically, the same bytes for the same champion."""
    content = champion.model_dump(mode="json")
    if champion.release is None:
        content = {"release": None}
    write_json(path, content)


def write_challenger(folder: Path, answers: Mapping[str, Answered]) -> None:
    """Write the answers that would travel with a release of this night."""
    write_json(folder / CHALLENGER, {name: answered.model_dump(mode="json") for name, answered in answers.items()})


def champion_from(release: str, evaluation: Path) -> Champion:
    """The champion that a release becomes: its id, and the answers of its night (folder of the evaluate stage)."""
    path = evaluation / CHALLENGER
    try:
        return Champion.model_validate({"release": release, "answers": read_json(path)})
    except ValidationError as error:
        raise DataError(str(path), error.errors()[0]["msg"], "run the stage again: dvc repro evaluate") from None


def digest(case: Mapping[str, Any]) -> str:
    """16 hex digits that change when a case asks or accepts something else."""
    content = {key: case[key] for key in ("messages", "answer", "distractors", "cite", "language")}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def chosen(cases: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    """Ids of the `most` cases with the smallest hashed ids: the same ones every night, also when others come or go."""
    ids = sorted((case["id"] for case in cases), key=lambda name: hashlib.sha256(name.encode()).digest())
    return sorted(ids[:most])
