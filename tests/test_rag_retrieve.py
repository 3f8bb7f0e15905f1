"""tasks/rag/retrieve.py: rankings from a store, and the measures against ir-measures."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tasks.rag.chunks import Chunk, chunk_id
from tasks.rag.retrieve import Retriever, ndcg, recall, reciprocal_rank, sources
from tasks.rag.stores import Hit


def hit(text: str, source: str, n: int = 0, score: float = 1.0) -> Hit:
    """A hit on a chunk of a source."""
    return Hit(Chunk(chunk_id(source, n, text), source, None, "", 0, len(text), text, "en"), score)


class Given:
    """A store that has found what it is given, and notes what it was asked."""

    def __init__(self, hits: list[Hit]):
        self.hits, self.asked = hits, []

    def dense(self, vector, k, filter=None):
        """See Store.dense."""
        self.asked.append(("dense", vector.tolist(), k, filter))
        return self.hits[:k]

    def sparse(self, text, k, filter=None):
        """See Store.sparse."""
        self.asked.append(("sparse", text, k, filter))
        return self.hits[:k]

    def hybrid(self, text, vector, k, alpha, filter=None):
        """See Store.hybrid."""
        self.asked.append(("hybrid", text, vector.tolist(), k, alpha, filter))
        return self.hits[:k]


class Lengths:
    """An embedder whose vectors are the lengths of texts."""

    def queries(self, texts):
        """(n, 1)."""
        return np.array([[len(text)] for text in texts], np.float32)


def test_search_asks_the_store_by_mode():
    """Each mode reaches the store with its own arguments, the index's alpha and the filter."""
    store = Given([])
    retriever = Retriever(store, Lengths(), alpha=0.4)
    for mode in ("dense", "sparse", "hybrid"):
        assert retriever.search(["When?"], 3, mode, {"language": "en"}) == [[]]
    assert store.asked == [
        ("dense", [5.0], 6, {"language": "en"}),
        ("sparse", "When?", 6, {"language": "en"}),
        ("hybrid", "When?", [5.0], 6, 0.4, {"language": "en"}),
    ]


def test_copies_of_a_text_are_shown_once():
    """The page and its copy say the same; the third best comes up instead."""
    hits = [hit("same", "a"), hit("same", "b"), hit("other", "c"), hit("last", "d")]
    assert Retriever(Given(hits), Lengths(), 0.5).search(["x"], 2) == [[hits[0], hits[2]]]


def test_sources_are_at_their_first_place():
    """Chunks a, b, a, c of documents: a, b, c."""
    assert sources([hit("1", "a"), hit("2", "b"), hit("3", "a"), hit("4", "c")]) == ["a", "b", "c"]


def test_measures_by_hand():
    """Gold b and d in a, b, c: recall ½; first at place 2: ½; nDCG (1/log₂3) / (1 + 1/log₂3) = .6309/1.6309."""
    ranking, gold = ["a", "b", "c"], ["b", "d"]
    assert (recall(ranking, gold, 3), recall(ranking, gold, 1)) == (0.5, 0.0)
    assert (reciprocal_rank(ranking, gold, 3), reciprocal_rank(ranking, gold, 1)) == (0.5, 0.0)
    assert ndcg(ranking, gold, 3) == pytest.approx(0.6309 / 1.6309, abs=1e-4)
    assert ndcg([], gold, 3) == recall([], gold, 3) == reciprocal_rank([], gold, 3) == 0.0


def test_measures_match_ir_measures():
    """200 random rankings of up to 12 documents, 1 to 3 of them relevant: the same means as the reference tool."""
    ir_measures = pytest.importorskip("ir_measures")
    draw = random.Random(1)
    runs, golds, qrels, scored = [], [], [], []
    for query in range(200):
        documents = [f"d{n}" for n in range(draw.randint(4, 12))]
        gold = draw.sample(documents, draw.randint(1, 3))
        ranking = draw.sample(documents, draw.randint(1, len(documents)))
        runs.append(ranking)
        golds.append(gold)
        qrels += [ir_measures.Qrel(str(query), document, 1) for document in gold]
        scored += [ir_measures.ScoredDoc(str(query), document, -place) for place, document in enumerate(ranking)]
    for k in (1, 3, 10):
        expected = ir_measures.calc_aggregate(
            [ir_measures.R @ k, ir_measures.RR @ k, ir_measures.nDCG @ k], qrels, scored
        )
        for measure, function in (
            (ir_measures.R @ k, recall),
            (ir_measures.RR @ k, reciprocal_rank),
            (ir_measures.nDCG @ k, ndcg),
        ):
            ours = sum(function(r, g, k) for r, g in zip(runs, golds, strict=True)) / len(runs)
            assert ours == pytest.approx(expected[measure], abs=1e-9), (measure, k)
