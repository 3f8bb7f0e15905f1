"""A second look at what hybrid search found: a model that reads question and passage together puts them in order.

Slower than a search by far, so it sees the first few passages only (`answers.rerank`). The hook is a Protocol of one
function; what is built in is any sentence-transformers CrossEncoder, under the rules of the embedding model: safetensors
only, no code that comes with a model, a hub id pinned to a commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tasks.errors import ModelError
from tasks.files import read_json
from tasks.params import Answers, Compute
from tasks.rag.embedders.folders import pinned
from tasks.rag.embedders.local import check_folder, weights_hash

PAIRS = 32  # pairs of one forward pass


class Reranker(Protocol):
    """How well each passage answers a question."""

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """A finite number a passage, in their order; higher is better, comparable within this question."""


class CrossEncoder:
    """A loaded sentence-transformers CrossEncoder. Its scores are logits: a sigmoid would make ties of the best."""

    def __init__(self, folder: Path, name: str, device: str):
        """Load the model of a folder; `name` is `answers.reranker` as the user wrote it. ModelError."""
        _check(folder, name)
        import torch
        from sentence_transformers import CrossEncoder as Model

        try:
            self._model = Model(
                str(folder), device=device, local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True}, activation_fn=torch.nn.Identity(),
            )
        except Exception as error:  # anything from a missing key to a wrong shape; the folder is what the user can mend
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ModelError(name, f"cannot be loaded ({reason})", "take a CrossEncoder folder") from error
        if self._model.num_labels != 1:
            raise ModelError(name, f"gives {self._model.num_labels} scores a pair", "take a CrossEncoder with one label")
        self.name, self.weights_sha256 = name, weights_hash(folder)

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """See Reranker.scores."""
        import numpy as np

        if not passages:
            return []
        pairs = [(question, passage) for passage in passages]
        found = np.asarray(self._model.predict(pairs, batch_size=PAIRS, show_progress_bar=False), dtype=np.float64)
        if not np.isfinite(found).all():
            raise ModelError(self.name, "gave a score that is not finite", "restore its weights, or take another model")
        return found.tolist()


def load_reranker(cfg: Answers, compute: Compute) -> CrossEncoder | None:
    """The model that `answers.reranker` names; None where it is null."""
    if cfg.reranker is None:
        return None
    from tasks.training.hardware import device_of

    folder = pinned(cfg.reranker, cfg.reranker_revision, "answers.reranker", "null")
    return CrossEncoder(folder, cfg.reranker, str(device_of(compute)))


def _check(folder: Path, name: str) -> None:
    """Refuse what is no CrossEncoder: a model without a head for scores would be given one of random numbers."""

    def said(file: str, key: str) -> Any:
        return read_json(folder / file).get(key) if (folder / file).is_file() else None

    kinds = said("config.json", "architectures") or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds) and \
            said("config_sentence_transformers.json", "model_type") != "CrossEncoder":
        raise ModelError(name, f"{folder.name} holds no CrossEncoder ({', '.join(kinds) or 'no config.json'})",
                         "take a folder that one was saved to")
    check_folder(folder, name)
