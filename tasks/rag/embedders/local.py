"""Any sentence-transformers model as a function from texts to vectors of length 1, with the hash that names its
weights.

One place for what differs between models: the prefixes they want before queries and passages, the longest input they
read, their tokenizer. Only safetensors are read, and no code that comes with a model is run.

A text's vector does not depend on the texts beside it, to the bit, so that a vector can be kept while its neighbours
change. A transformer does not give that by itself: padding moves the last bits (all-MiniLM-L6-v2 on a CPU: four of five
vectors, by up to 1.6e-7), so texts of one length in tokens go together and nothing is padded. Below 12 tokens a
text alone got other bits than among others, and at 3 tokens fewer than 4 rows did: short batches are filled up. From 12
tokens on, 1 to 64 rows gave equal bits. It costs nothing against padded batches: 15.4 CPU-seconds for 1,500 texts, 17.5
padded. Measured on one processor; where another one breaks it, reused vectors differ from new ones by that much.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.files import sha256_file
from tasks.rag.chunks import sha256_lines
from tasks.training.hardware import lower

if TYPE_CHECKING:
    import numpy as np

SHORT, ROWS = 16, 4  # a batch of texts below SHORT tokens has a multiple of ROWS rows


class LocalEmbedder:
    """A loaded embedding model. `name` is `embed.model` as the user wrote it."""

    def __init__(
        self,
        folder: Path,
        name: str,
        batch_size: int,
        device: str,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        precision: str = "fp32",
    ):
        """Load the model of a folder; prefixes of None are those that the model's own configuration states."""
        check_folder(folder, name)
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
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        self._lowered = precision != "fp32"
        lower(self._model, precision)
        self.name, self._batch_size = name, batch_size
        self._padded = not isinstance(self._model[0], StaticEmbedding)
        prompts = self._model.prompts or {}
        self._prefixes: dict[str, str] = {
            "query": (prompts.get("query") or "") if query_prefix is None else query_prefix,
            "document": (prompts.get("document") or "") if passage_prefix is None else passage_prefix,
        }
        self.weights_sha256 = weights_hash(folder)
        self.dim = int(self._model.get_embedding_dimension() or 0)
        longest = self._model.max_seq_length
        self.longest: int | None = None if longest is None or longest == float("inf") else int(longest)
        self._unknown = _unknown_id(self._model.tokenizer)
        told = [self.weights_sha256, self._prefixes["document"], str(self.longest)]
        self.identity = sha256_lines(["vectors 1", *told, *([] if precision == "fp32" else [precision])])
        self.probe: np.ndarray | None = None  # the weights are hashed

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) fp32, each of length 1."""
        return self._vectors(self._model.encode_document, "document", texts)

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) fp32, each of length 1; models that tell questions from passages are told."""
        return self._vectors(self._model.encode_query, "query", texts)

    def _vectors(self, encode: Any, kind: str, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        vectors = np.zeros((len(texts), self.dim), np.float32)
        for places, copies, size in self._groups(kind, texts):
            rows = encode(
                [texts[place] for place in places] + [texts[places[0]]] * copies,
                prompt=self._prefixes[kind],
                batch_size=size,
                show_progress_bar=False,
                normalize_embeddings=True,
                convert_to_numpy=True,
            )
            vectors[places] = rows[: len(places)]
        lengths = np.linalg.norm(vectors, axis=1)
        if not np.isfinite(vectors).all():
            raise ModelError(
                self.name, "gave a vector that is not finite", "restore its weights, or take another model"
            )
        # A text of which the model knows no token has no direction; it stays 0 and is found by its words alone.
        vectors[lengths < 0.5] = 0.0
        if self._lowered:  # lengths were made 1 in few digits
            vectors /= np.where(lengths < 0.5, 1, lengths)[:, None]
        return vectors

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Places of passages that go through the model together: of one length in tokens, where it pads."""
        groups = self._groups("document", texts)
        return [places[at : at + size] for places, _, size in groups for at in range(0, len(places), size)]

    def _groups(self, kind: str, texts: Sequence[str]) -> Iterator[tuple[list[int], int, int]]:
        """Places of texts that may share a batch, copies that fill it up, rows of a batch."""
        if not texts:
            return
        if not self._padded:  # one sum a text: nothing to keep apart
            yield list(range(len(texts))), 0, self._batch_size
            return
        groups: dict[int, list[int]] = defaultdict(list)
        for place, text in enumerate(texts):
            length = self.count(self._prefixes[kind] + text)
            groups[length if self.longest is None else min(length, self.longest)].append(place)
        for length, places in sorted(groups.items()):
            if length < SHORT:
                yield places, -len(places) % ROWS, max(ROWS, self._batch_size // ROWS * ROWS)
            else:
                yield places, 0, self._batch_size

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
        return special + self.count(self._prefixes["document"])

    def unknown_share(self, texts: Sequence[str]) -> float:
        """Share of the tokens that stand for "not in my vocabulary": the model reads nothing there."""
        ids = [i for text in texts for i in self.ids(text)]
        return sum(i == self._unknown for i in ids) / len(ids) if ids and self._unknown is not None else 0.0


def weights_hash(folder: Path) -> str:
    """SHA-256 over everything that decides a vector: weights, tokenizer, pooling, prompts; not the model card."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix != ".md" and not p.name.startswith(".")]
    names = sorted((p.relative_to(folder).as_posix(), p) for p in files if ".cache" not in p.relative_to(folder).parts)
    return sha256_lines(f"{name} {sha256_file(path)}" for name, path in names)


def check_folder(folder: Path, name: str) -> None:
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
