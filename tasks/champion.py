"""champion.json and champion-search.json: the live release, as the next night's challenger meets it.

champion.json carries the champion's own answers to a fixed part of the evaluation cases, so that a night can compare
itself with the release on the same cases without its weights being there (they may be gone from the cache, or on another
machine). The verdicts are not stored: tonight's rules judge both sides. champion-search.json carries what the release's
search had found for the questions on the documents. They are two, because documents change by themselves: a model that
is compared with no new release need not be evaluated again. A case that has changed since is recognised by its digest and
left out of the comparison.

    {"release": null}                                        nothing released yet
    {"release": "r0007", "answers": {"context-0012": {"set": "context", "case": "9f86d081884c7d65", "answer": "…"}, …}}
    {"release": "r0007", "questions": {"documents-en-0001": {"case": "9f86d081884c7d65", "rank": 1, "found": true}, …}}

The stages evaluate and retrieve write the challenger's half (challenger.json); promotion makes it the champion with
`champion_from`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import DataError
from tasks.files import canonical_json, read_json, write_json

CHALLENGER = "challenger.json"  # in the folder of the stage that met the champion


class Answered(BaseModel):
    """What a model said to one case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    set: str = Field(description="evaluation set: facts, context or unanswerable")
    case: str = Field(description="digest of the case as it was asked and judged")
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
    cases: ClassVar[str]  # the field that holds the challenger's half

    release: str | None = Field(description="id of the live release; null before the first one")


class Champion(Live):
    """The live release and its answers."""

    stage: ClassVar[str] = "evaluate"
    cases: ClassVar[str] = "answers"

    answers: dict[str, Answered] = Field(default_factory=dict, description="case id → answer")


class SearchChampion(Live):
    """The live release and what its search found."""

    stage: ClassVar[str] = "retrieve"
    cases: ClassVar[str] = "questions"

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


def write_challenger(folder: Path, cases: Mapping[str, Answered | Found]) -> None:
    """Write what would travel with a release of this night."""
    write_json(folder / CHALLENGER, {name: case.model_dump(mode="json") for name, case in cases.items()})


def champion_from(release: str, folder: Path, kind: type[Kind] = Champion) -> Kind:
    """The champion that a release becomes: its id, and the challenger's half in the folder of its stage."""
    path = folder / CHALLENGER
    try:
        return kind.model_validate({"release": release, kind.cases: read_json(path)})
    except ValidationError as error:
        raise DataError(str(path), error.errors()[0]["msg"], f"run the stage again: dvc repro {kind.stage}") from None


def digest(case: Mapping[str, Any]) -> str:
    """16 hex digits that change when a case asks or accepts something else."""
    content = {key: case[key] for key in ("messages", "answer", "distractors", "cite", "language")}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def chosen(cases: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    """Ids of the `most` cases with the smallest hashed ids: the same ones every night, also when others come or go."""
    ids = sorted((case["id"] for case in cases), key=lambda name: hashlib.sha256(name.encode()).digest())
    return sorted(ids[:most])
