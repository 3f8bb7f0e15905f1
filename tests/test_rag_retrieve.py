"""tasks/rag/retrieve.py: rankings from a store, and the measures against ir-measures."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tasks.rag.chunks import Chunk, chunk_id
from tasks.rag.retrieve import Retriever, ndcg, recall, reciprocal_rank, sources
from tasks.rag.stores import Hit, ordered


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


class Shortest:
    """A reranker that likes short passages, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def scores(self, question, passages):
        """See Reranker.scores."""
        self.asked.append((question, list(passages)))
        return [-len(passage) / 10 for passage in passages]


def test_a_reranker_orders_the_first_passages():
    """Of the hybrid order dddd, ccc, bb, a the first three are reranked; a stays behind them; k cuts afterwards."""
    hits = [hit(letter * length, letter) for letter, length in (("d", 4), ("c", 3), ("b", 2), ("a", 1))]
    reranker = Shortest()
    retriever = Retriever(Given(hits), Lengths(), 0.5, reranker, rerank=3)
    assert retriever.modes == ("dense", "sparse", "hybrid", "reranked")
    assert sources(retriever.search(["x"], 4)[0]) == ["b", "c", "d", "a"]
    assert reranker.asked == [("x", ["dddd", "ccc", "bb"])]
    (first,) = retriever.search(["x"], 1)
    assert [(h.chunk.source, h.score) for h in first] == [("b", -0.2)]
    assert sources(retriever.search(["x"], 4, "hybrid")[0]) == ["d", "c", "b", "a"] and len(reranker.asked) == 2
    assert retriever.store.asked[-1][3] == 8  # twice as many as are wanted, for copies


def test_equal_scores_of_a_reranker_are_in_order_of_chunks():
    """As in every search: falling score, then chunk id, whatever order they came in."""
    class Even:
        def scores(self, question, passages):
            """One for all."""
            return [1.0] * len(passages)
    hits = [hit(text, text) for text in "abcd"]
    found = [Retriever(Given(order), Lengths(), 0.5, Even(), 4).search(["x"], 4)[0] for order in (hits, hits[::-1])]
    assert found[0] == found[1] == sorted(hits, key=lambda h: h.chunk.id)


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


OURS = {"R": recall, "RR": reciprocal_rank, "nDCG": ndcg}  # ir-measures' name → ours


def agree(runs, golds, qrels, scored, names=tuple(OURS)):
    """Our means and those of ir-measures, at depths below, at and beyond the length of the rankings."""
    ir_measures = pytest.importorskip("ir_measures")
    for k in (1, 2, 3, 5, 10, 20):
        pairs = [(getattr(ir_measures, name) @ k, OURS[name]) for name in names]
        expected = ir_measures.calc_aggregate([measure for measure, _ in pairs], qrels, scored)
        for measure, function in pairs:
            ours = sum(function(r, g, k) for r, g in zip(runs, golds, strict=True)) / len(runs)
            assert ours == pytest.approx(expected[measure], abs=1e-9), (measure, k)


def test_measures_match_ir_measures():
    """200 random rankings of up to 12 documents, 1 to 3 of them relevant: the same means as the reference tool. In every
    fifth nothing relevant is found, and every tenth is empty."""
    ir_measures = pytest.importorskip("ir_measures")
    draw = random.Random(1)
    runs, golds, qrels, scored = [], [], [], []
    for query in range(200):
        documents = [f"d{n}" for n in range(draw.randint(4, 12))]
        gold = draw.sample(documents, draw.randint(1, 3))
        ranking = draw.sample(documents, draw.randint(1, len(documents)))
        if query % 5 == 0:
            ranking = [] if query % 10 == 0 else [document for document in ranking if document not in gold]
        runs.append(ranking)
        golds.append(gold)
        qrels += [ir_measures.Qrel(str(query), document, 1) for document in gold]
        scored += [ir_measures.ScoredDoc(str(query), document, -place) for place, document in enumerate(ranking)]
    assert sum(not set(ranking) & set(gold) for ranking, gold in zip(runs, golds, strict=True)) >= 40
    agree(runs, golds, qrels, scored)


@pytest.mark.parametrize("names, falling", [(("R", "nDCG"), True), (("RR",), False)])
def test_measures_match_ir_measures_where_scores_are_tied(names, falling):
    """Chunks with one of three scores, several a document. The reference tool is told each document's best score alone and
    puts equals in order of their names (falling for two measures, rising for the third); ours by chunk id, which is
    chosen to be that order."""
    ir_measures = pytest.importorskip("ir_measures")
    draw = random.Random(2)
    runs, golds, qrels, scored, ties = [], [], [], [], 0
    for query in range(200):
        chunks = [(n, part) for n in range(draw.randint(2, 12)) for part in range(draw.randint(1, 3))]
        named = [(f"{99 - n if falling else n:02}-{part}", f"d{n:02}") for n, part in chunks]
        hits = [Hit(Chunk(*name, None, "", 0, 1, "x", "en"), draw.choice((0.1, 0.5, 0.9))) for name in named]
        draw.shuffle(hits)
        documents = sorted({hit.chunk.source for hit in hits})
        gold = draw.sample(documents, min(len(documents), draw.randint(1, 3)))
        best = {name: max(hit.score for hit in hits if hit.chunk.source == name) for name in documents}
        ties += len(documents) - len(set(best.values()))
        runs.append(sources(ordered(hits)))
        golds.append(gold)
        qrels += [ir_measures.Qrel(str(query), name, 1) for name in gold]
        scored += [ir_measures.ScoredDoc(str(query), name, score) for name, score in best.items()]
    assert ties > 200
    agree(runs, golds, qrels, scored, names)
