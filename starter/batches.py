"""Batches for pre-training: documents packed into rows, and the positions whose loss counts.

A batch is a pure function of (seed, step, level) and the shape that follows from the level, so a run can stop anywhere
and go on bit for bit. Making one takes a few milliseconds: there is no worker, and nothing is fetched ahead.
"""

import random
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from starter.documents import make_document
from starter.world import COPY, RANDOM, TEXT, Segment

UNUSED = 255  # the kind of a padding position


@dataclass(frozen=True)
class Shape:
    """Rows and their length in tokens; `scored` positions of a batch enter the loss."""

    rows: int
    length: int

    @property
    def scored(self) -> int:
        """Positions that enter the loss: a fixed number, so that the compiled step keeps one shape."""
        return self.rows * self.length // 2


@dataclass(frozen=True)
class Weights:
    """Loss weights by segment kind. First mentions are noise to the model; copied values are what it must learn."""

    text: float = 0.3
    random: float = 0.03
    copy: float = 1.0


@dataclass
class Batch:
    """Tensors of one step; B rows, T tokens, K scored positions."""

    inputs: torch.Tensor  # (B, T) token ids
    positions: torch.Tensor  # (K,) indices into the B·T flattened positions
    targets: torch.Tensor  # (K,) the next token at each of them
    weights: torch.Tensor  # (K,) loss weights; 0 where fewer than K positions hold text
    kinds: torch.Tensor  # (K,) segment kind of each target
    tokens: int  # non-padding targets in the batch


def encode(tokenizer: PreTrainedTokenizerBase, documents: list[list[Segment]]) -> list[tuple[list[int], list[int]]]:
    """(ids, kinds) of each document, an end-of-text token in front; a token takes the kind of its last character."""
    texts = ["".join(text for text, _ in document) for document in documents]
    out = []
    for document, encoding in zip(
        documents, tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False), strict=True
    ):
        kinds = [kind for text, kind in document for _ in text]
        out.append(([tokenizer.eos_token_id, *encoding.ids], [TEXT] + [kinds[end - 1] for _, end in encoding.offsets]))
    return out


def pack(
    tokenizer: PreTrainedTokenizerBase, r: random.Random, level: float, shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Documents in rows, the fullest row that still has room first; a document never runs over two rows.

    Returns ids and kinds, both (B, T + 1).
    """
    size = shape.length + 1
    tokens = np.full((shape.rows, size), tokenizer.eos_token_id, np.int64)
    kinds = np.full((shape.rows, size), UNUSED, np.uint8)
    used, misses = [0] * shape.rows, 0
    while misses < 6:
        for ids, marks in encode(tokenizer, [make_document(r, level) for _ in range(4)]):
            ids, marks = ids[:size], marks[:size]
            fits = [i for i in range(shape.rows) if used[i] + len(ids) <= size]
            if not fits:
                misses += 1
                continue
            i = max(fits, key=used.__getitem__)
            start, used[i] = used[i], used[i] + len(ids)
            tokens[i, start : used[i]], kinds[i, start : used[i]] = ids, marks
    return tokens, kinds


def make_batch(
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    step: int,
    level: float,
    shape: Shape,
    weights: Weights = Weights(),
) -> Batch:
    """The batch of this step. All COPY positions are scored, and random others up to K.

    Sampled kinds carry the inverse of their sampling share, so the loss keeps its expectation.
    """
    tokens, kinds = pack(tokenizer, random.Random(f"{seed}/{step}/{level:.3f}"), level, shape)
    flat = kinds[:, 1:].reshape(-1)  # (B·T,) kind of each target
    order = np.random.default_rng([seed, step]).permutation(flat.size)
    copies = order[flat[order] == COPY][: shape.scored]
    others = order[(flat[order] == TEXT) | (flat[order] == RANDOM)]
    kept = others[: shape.scored - copies.size]
    spare = order[flat[order] == UNUSED][: shape.scored - copies.size - kept.size]
    positions = np.concatenate([copies, kept, spare])
    positions = positions[np.argsort(positions, kind="stable")]
    table = np.zeros(256, np.float32)
    table[COPY] = weights.copy
    share = max(kept.size, 1) / max(others.size, 1)
    table[TEXT], table[RANDOM] = weights.text / share, weights.random / share
    chosen = flat[positions]
    return Batch(
        inputs=torch.from_numpy(tokens[:, :-1].copy()),
        positions=torch.from_numpy(positions),
        targets=torch.from_numpy(tokens[:, 1:].reshape(-1)[positions].copy()),
        weights=torch.from_numpy(table[chosen]),
        kinds=torch.from_numpy(chosen.astype(np.int64)),
        tokens=int((flat != UNUSED).sum()),
    )
