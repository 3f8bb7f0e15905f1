"""champion.json and champion-search.json: the live release, as the next night's challenger meets it.

champion.json carries the champion's own answers to the evaluation cases and to held-out instructions, so that a night can
compare itself with the release on the same cases without its weights being there (they may be gone from the cache, or on
another machine). The verdicts are not stored: tonight's rules judge both sides. champion-search.json carries what the
release's search had found for the questions on the documents. They are two, because documents change by themselves: a model
that is compared with no new release need not be evaluated again. A case that has changed since is recognised by its digest
and left out of the comparison; the hashes of whole test sets say whether there were others then (tasks/frozen.py).

    {"release": null}                                        nothing released yet
    {"release": "r0007", "answers": {"context-0012": {"set": "context", "case": "9f86d081884c7d65", "answer": "…"}, …},
     "references": {"fact-0007": {"case": "2c26b46b68ffc68f", "answer": "…"}, …}, "test_sets": {"context": "3f2a…", …}}
    {"release": "r0007", "questions": {"documents-en-0001": {"case": "9f86d081884c7d65", "rank": 1, "found": true}, …}}

The stages evaluate and retrieve write the challenger (challenger.json: the same without the id); promotion makes it the
champion with `champion_from`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import DataError
from tasks.files import canonical_json, read_json, sha256_file, write_json

CHALLENGER = "challenger.json"  # in the folder of the stage that met the champion


class Answered(BaseModel):
    """What a model said to one case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: str = Field(description="evaluation set: facts, context or unanswerable")
    case: str = Field(description="digest of the case as it was asked and judged")
    answer: str = Field(description="the greedy answer")
    ended: bool = Field(True, description="whether the model ended it itself; files of older releases do not tell")


class Told(BaseModel):
    """What a model said to one held-out instruction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str = Field(description="digest of the instruction and the log's own answer")
    answer: str = Field(description="the greedy answer")


class Found(BaseModel):
    """What search found for one question."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str = Field(description="digest of the question as it was asked and judged")
    rank: int | None = Field(ge=1, description="rank of the right document; null when it was not among those looked at")
    found: bool = Field(description="whether a passage of the right document that the model was shown has the value")


class Live(BaseModel):
    """What both files have."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: ClassVar[str]  # that writes the challenger

    release: str | None = Field(description="id of the live release; null before the first one")


class Champion(Live):
    """The live release and its answers."""

    stage: ClassVar[str] = "evaluate"

    answers: dict[str, Answered] = Field(default_factory=dict, description="case id → answer")
    references: dict[str, Told] = Field(default_factory=dict, description="id of a held-out instruction → answer")
    test_sets: dict[str, str] = Field(default_factory=dict, description="evaluation set → SHA-256 of its cases")


class SearchChampion(Live):
    """The live release and what its search found."""

    stage: ClassVar[str] = "retrieve"

    questions: dict[str, Found] = Field(default_factory=dict, description="question id → what was found")


Kind = TypeVar("Kind", bound=Live)


def read(path: Path, kind: type[Kind] = Champion) -> Kind:
    """Read champion.json, or champion-search.json as SearchChampion; DataError when it is missing or of another form."""
    raw = read_json(path)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(str(path), f"{where or 'content'}: {first['msg']}",
                        f"restore it: git checkout {path.name}, or promote a release again") from None


def write(path: Path, champion: Live) -> None:
    """Write it atomically, the same bytes for the same champion."""
    content = champion.model_dump(mode="json")
    if champion.release is None:
        content = {"release": None}
    write_json(path, content)


def write_challenger(folder: Path, tonight: Live) -> None:
    """Write what would travel with a release of this night; its id is not known yet."""
    write_json(folder / CHALLENGER, tonight.model_dump(mode="json", exclude={"release"}))


def champion_from(release: str, folder: Path, kind: type[Kind] = Champion) -> Kind:
    """The champion that a release becomes: its id, and the challenger in the folder of its stage."""
    path = folder / CHALLENGER
    try:
        return kind.model_validate({**read_json(path), "release": release})
    except ValidationError as error:
        raise DataError(str(path), error.errors()[0]["msg"], f"run the stage again: dvc repro {kind.stage}") from None


def test_sets(evaluation: Path) -> dict[str, str]:
    """Evaluation set → SHA-256 of its file in artifacts/dataset/evaluation, of those that have a case."""
    return {path.stem: sha256_file(path) for path in sorted(evaluation.glob("*.jsonl")) if path.stat().st_size}


def digest(case: Mapping[str, Any]) -> str:
    """16 hex digits that change when a case asks or accepts something else."""
    content = {key: case[key] for key in ("messages", "answer", "distractors", "cite", "language")}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def digest_told(messages: Sequence[Mapping[str, str]], reference: str) -> str:
    """The same of a held-out instruction and its reference."""
    return hashlib.sha256(canonical_json([list(messages), reference]).encode()).hexdigest()[:16]


def chosen(cases: Sequence[Mapping[str, Any]], most: int | None) -> list[str]:
    """Ids of the `most` cases (None: all) with the smallest hashed ids: the same every night, also when others come or go."""
    ids = sorted((case["id"] for case in cases), key=lambda name: hashlib.sha256(name.encode()).digest())
    return sorted(ids[:most])
