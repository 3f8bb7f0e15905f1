"""A release in memory: model, tokenizer, retriever, the prompt's words and its settings, all of one manifest.

It is one frozen object, so whoever has it has parts that belong together, for as long as it is held.
"""

from __future__ import annotations

import os
import shlex
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks import records
from tasks.errors import DataError, GateError, StoreError
from tasks.params import Answers, Params
from tasks.rag.prompt import TEMPLATES, Template
from tasks.rag.retrieve import Retriever
from tasks.rag.stores import Filter, Hit
from tasks.serving import parts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class LoadedRelease:
    """Everything that serves together. Its folder stays on disk until the object is gone."""

    id: str
    name: str  # the model's name on its card
    published: str  # ISO 8601
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    retriever: Retriever
    templates: Mapping[str, Template]
    answering: Answers
    # an embedding model's tokenizer must not be used by two threads at once
    _searching: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def search(self, question: str, k: int | None = None, mode: str | None = None, filter: Filter | None = None) -> list[Hit]:
        """Passages for a question: the k best, or as many as this release puts into a prompt."""
        settings: dict[str, Any] = {"mode": mode} if mode else {}
        with self._searching:
            return self.retriever.search([question], k or self.answering.top_k, filter=filter, **settings)[0]


def load(root: Path, params: Params, release: str | None = None) -> LoadedRelease:
    """The named release, or the live one, ready to answer. GateError when nothing is live or the name is unknown;
    StoreError, ModelError, DataError when a part is missing or broken."""
    from tasks.rag.answer import load_model
    from tasks.training.hardware import set_up

    wanted = release or records.live(root)
    if wanted is None:
        raise GateError("releases/LIVE", "nothing is live", "run a night (make nightly), or nightshift promote")
    record = records.record(root, wanted)
    templates, answering = _templates(record), _answering(record, params.answers)
    folder, handle = parts.materialise(root, record)
    try:
        compute = params.compute.at(answering.precision)
        set_up(compute)
        retriever = _retriever(root, params, folder, answering)
        model, tokenizer = load_model(folder / "model", compute)
        loaded = LoadedRelease(
            record["release"], record["manifest"]["name"], record["published"], model, tokenizer, retriever, templates, answering
        )
        _try(loaded)
    except BaseException:
        os.close(handle)
        raise
    weakref.finalize(loaded, os.close, handle)
    return loaded


def _retriever(root: Path, params: Params, folder: Path, answering: Answers) -> Retriever:
    """The one place that opens an index; the builds lie where params.yaml has them now."""
    try:
        where = params.index.model_copy(update={"folder": str(root / params.index.folder)})
        return Retriever.open(folder / "index", folder / "embedded", _starter(root), params.compute, where, answering)
    except ValidationError as error:
        raise _newer(str(folder / "index"), error.errors()[0]["loc"]) from None


def _try(loaded: LoadedRelease) -> None:
    """One question to the end of its first token: a release that cannot answer must not take over, and a kernel that
    has to be compiled is not compiled in a request."""
    from tasks.rag.answer import stream

    hits = loaded.search("?", 1)
    settings = loaded.answering
    for _ in stream(loaded.model, loaded.tokenizer, "?", hits, headings=settings.headings,
                    max_new_tokens=settings.max_new_tokens, limit=1, templates=loaded.templates):
        pass


def _templates(record: Mapping[str, Any]) -> dict[str, Template]:
    """The manifest's; today's for a release from before manifests had them."""
    known = {item.name for item in fields(Template)}
    written = record["manifest"].get("prompt", {})
    for language, words in written.items():
        if set(words) != known:
            raise _newer(record["release"], ("prompt", language, *sorted(set(words) ^ known)))
    return {**TEMPLATES, **{language: Template(**words) for language, words in written.items()}}


def _answering(record: Mapping[str, Any], now: Answers) -> Answers:
    """The manifest's; what it does not say, as a release from before a setting existed does not, is as params.yaml has it."""
    try:
        return Answers.model_validate({**now.model_dump(), **record["manifest"].get("answering", {})})
    except ValidationError as error:
        raise _newer(record["release"], ("answering", *error.errors()[0]["loc"])) from None


def _newer(thing: str, loc: tuple[Any, ...]) -> StoreError:
    return StoreError(
        thing,
        f"has settings that this version cannot use ({'.'.join(map(str, loc))})",
        "it was made by another version of Nightshift: serve it with that one, or run a night with this one",
    )


def _starter(root: Path) -> Path:
    """The starter's embedding model, from the graph: the only place where paths are written."""
    import yaml

    try:
        words = shlex.split(yaml.safe_load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]["embed"]["cmd"])
        return root / words[words.index("--starter") + 1]
    except (OSError, KeyError, ValueError, IndexError, TypeError, yaml.YAMLError):
        raise DataError(
            str(root / "dvc.yaml"), "has no stage embed with a --starter", "run from the repository's root"
        ) from None
