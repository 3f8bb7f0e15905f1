"""Texts into vectors of length 1, whoever makes them: the one interface, and the choice by `embed.model`.

Stages, retrieval and servers know `Embedder` alone. What stands behind it is a model on this machine
(tasks/rag/embedders/local.py) or, with `embed.endpoint`, a server (endpoint.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tasks.errors import DataError, ModelError
from tasks.files import read_json
from tasks.params import Compute, Embed
from tasks.rag.chunks import MANIFEST

if TYPE_CHECKING:
    import numpy as np

KEY = "EMBEDDING_API_KEY"
ALIKE = 0.999  # cosine; another model's vectors are far below, the rounding of one model on other hardware is above


class Embedder(Protocol):
    """A model that is ready to embed."""

    name: str  # embed.model as the user wrote it
    weights_sha256: str  # of all that decides a vector, so far as it can be seen from here
    identity: str  # equal for two models that give one passage one vector: weights, passage prefix, longest input
    dim: int
    longest: int | None  # tokens that are read; None: no limit, or one that only the server knows
    probe: np.ndarray | None  # vector of a fixed text, where the weights cannot be hashed

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) fp32, each of length 1, or 0 where the model knows nothing of a text."""
        ...

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """The same for questions; models that tell them from passages are told."""
        ...

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Which passages go through the model together, by place; `passages` is best called with one batch."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text, special ones not counted."""
        ...

    def overhead(self) -> int:
        """Tokens that come on top of every passage: special ones and the prefix."""
        ...

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Share of the tokens that stand for "not in my vocabulary"."""
        ...


def load_embedder(cfg: Embed, starter: Path, compute: Compute) -> Embedder:
    """The model that `embed.model` names, at `embed.endpoint` or here."""
    if cfg.endpoint is not None:
        from tasks.rag.embedders.endpoint import EndpointEmbedder
        from tasks.rag.embedders.tokens import load_tokenizer

        tokenizer = load_tokenizer(cfg.tokenizer, cfg.revision, starter) if cfg.tokenizer else None
        return EndpointEmbedder(
            cfg.endpoint,
            cfg.model,
            cfg.batch_size,
            os.environ.get(KEY),
            tokenizer,
            cfg.query_prefix,
            cfg.passage_prefix,
        )
    from tasks.rag.embedders.folders import locate

    return local_embedder(locate(cfg.model, cfg.revision, starter), cfg, compute)


def local_embedder(folder: Path, cfg: Embed, compute: Compute) -> Embedder:
    """The model of a folder, as section embed wants it."""
    from tasks.rag.embedders.local import LocalEmbedder
    from tasks.training.hardware import device_of

    return LocalEmbedder(
        folder,
        cfg.model,
        cfg.batch_size,
        str(device_of(compute)),
        cfg.query_prefix,
        cfg.passage_prefix,
        compute.at(cfg.precision).precision,
    )


def embedder_of(manifest: dict[str, Any], starter: Path, compute: Compute) -> Embedder:
    """The model that made an embedded folder, by its manifest; a ModelError when it is another one by now."""
    later = {"precision": None, "endpoint": None, "tokenizer": None, "save_every": 1}  # a release of before knows none
    settings = {**later, **manifest["settings"]}
    fields = {name: settings[name] for name in Embed.model_fields if name in settings}
    embedder = load_embedder(Embed.model_validate(fields), starter, compute)
    if embedder.weights_sha256 != manifest["weights_sha256"]:
        raise ModelError(
            settings["model"],
            "is not the model that made these vectors (its weights have another hash)",
            "embed the documents again: dvc repro embed",
        )
    if not same_model(embedder, manifest.get("probe")):
        raise ModelError(
            settings["model"],
            "is not the model that made these vectors: its server gives another vector for the same text now",
            "embed the documents again: dvc repro --force --single-item embed, then dvc repro",
        )
    return embedder


def same_model(embedder: Embedder, kept: Any) -> bool:
    """Whether the kept probe vector is this model's; a model whose weights are hashed has none and needs none."""
    import numpy as np

    if embedder.probe is None:
        return True
    try:
        probe = np.asarray(kept, dtype=np.float32)
    except (TypeError, ValueError):
        return False
    return probe.shape == embedder.probe.shape and float(probe @ embedder.probe) >= ALIKE


def probe_of(embedder: Embedder, before: Path | None = None) -> list[float] | None:
    """The probe vector for a manifest.

    It is the former manifest's where that one is of this model: a server's last bits differ from call to call, those of
    an artifact may not.
    """
    if embedder.probe is None:
        return None
    if before is not None:
        with contextlib.suppress(DataError, AttributeError):
            kept = read_json(before / MANIFEST).get("probe")
            if same_model(embedder, kept):
                return kept
    return [float(number) for number in embedder.probe]
