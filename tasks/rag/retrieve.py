"""From a question to passages, and how good that is.

The measures are the usual ones for one list a question (Järvelin & Kekäläinen 2002 for nDCG), with documents as what is
relevant: a ranking of chunks becomes a ranking of documents by each document's first chunk.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from tasks.files import read_json
from tasks.params import Answers, Compute, Index
from tasks.rag.chunks import MANIFEST
from tasks.rag.embedder import Embedder, embedder_of
from tasks.rag.rerank import Reranker, load_reranker
from tasks.rag.stores import Filter, Hit, Store, ordered
from tasks.rag.stores.builds import open_index

MODES = ("dense", "sparse", "hybrid")
RERANKED = "reranked"  # one more, where there is a reranker


class Retriever:
    """A store and the model that made its vectors; the same class in the answer stage and in a server."""

    def __init__(
        self, store: Store, embedder: Embedder, alpha: float, reranker: Reranker | None = None, rerank: int = 0
    ):
        """`alpha` is the weight of dense search in hybrid search; `rerank` passages of it go to the reranker."""
        self.store, self.embedder, self.alpha = store, embedder, alpha
        self.reranker, self.rerank = reranker, rerank

    @classmethod
    def open(
        cls, index: Path, embedded: Path, starter: Path, compute: Compute, where: Index, answering: Answers | None = None
    ) -> Retriever:
        """Open what an index manifest names, making the store again where it is missing. StoreError, ModelError.

        `where` is the present params' section, which says where builds are kept; `answering` names the reranker, and
        without it hybrid search has the last word.
        """
        store = open_index(index, embedded, where)
        alpha = read_json(index / MANIFEST)["settings"]["alpha"]
        embedder = embedder_of(read_json(embedded / MANIFEST), starter, compute)
        if answering is None:
            return cls(store, embedder, alpha)
        return cls(store, embedder, alpha, load_reranker(answering, compute), answering.rerank)

    @property
    def modes(self) -> tuple[str, ...]:
        """The ways to search that this retriever has, the best last."""
        return (*MODES, RERANKED) if self.reranker else MODES

    def search(
        self, questions: Sequence[str], k: int, mode: str | None = None, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """The k best chunks for each question; a text that was taken already is passed over. `mode` None is the best
        there is.

        Reranked: the first `rerank` by the reranker's score, those after them as hybrid search has them.
        """
        mode = mode or self.modes[-1]
        if mode == RERANKED:
            found = self.search(questions, max(k, self.rerank), MODES[-1], filter)
            return [self._reranked(question, hits)[:k] for question, hits in zip(questions, found, strict=True)]
        vectors = self.embedder.queries(questions) if mode != "sparse" else [None] * len(questions)
        out = []
        for question, vector in zip(questions, vectors, strict=True):
            wanted = 2 * k  # copies of a page are common, and the prompt has no room for them
            if mode == "dense":
                hits = self.store.dense(vector, wanted, filter)
            elif mode == "sparse":
                hits = self.store.sparse(question, wanted, filter)
            else:
                hits = self.store.hybrid(question, vector, wanted, self.alpha, filter)
            out.append(_distinct(hits)[:k])
        return out

    def _reranked(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        first, rest = hits[: self.rerank], hits[self.rerank :]
        scores = self.reranker.scores(question, [hit.chunk.passage for hit in first])
        return [*ordered([Hit(hit.chunk, score) for hit, score in zip(first, scores, strict=True)]), *rest]


def _distinct(hits: Sequence[Hit]) -> list[Hit]:
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(hit.chunk.text, hit)
    return list(first.values())


def sources(hits: Sequence[Hit]) -> list[str]:
    """The documents of a ranking of chunks, each at its first place."""
    return list(dict.fromkeys(hit.chunk.source for hit in hits))


def recall(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Share of the relevant documents among the first k."""
    return len(set(ranking[:k]) & set(relevant)) / len(relevant)


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """1 / place of the first relevant document; 0 when there is none among the first k."""
    return next((1 / place for place, source in enumerate(ranking[:k], 1) if source in relevant), 0.0)


def ndcg(ranking: Sequence[str], relevant: Collection[str], k: int) -> float:
    """Discounted gain Σ 1/log₂(place + 1) over relevant places, divided by that of the ideal ranking."""
    gain = sum(1 / math.log2(place + 1) for place, source in enumerate(ranking[:k], 1) if source in relevant)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(len(relevant), k) + 1))
    return gain / ideal
