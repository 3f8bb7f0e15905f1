"""What every search store must do (tasks/rag/stores/__init__.py::Store). A new store joins by one entry in STORES.

Vectors are three axes and mixtures of them, so that every cosine can be worked out in the head.
"""

from __future__ import annotations

import math
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import StoreError
from tasks.rag.chunks import Chunk, chunk_id
from tasks.rag.stores import Hit, Store, best, fuse, ordered
from tasks.rag.stores.lancedb import LanceStore
from tasks.rag.stores.weaviate import WeaviateStore
from tests.rag_fixtures import at_server


def on_server(folder: Path) -> Store:
    """A collection named after the folder."""
    return WeaviateStore(at_server(), f"T{zlib.crc32(str(folder).encode()):08x}", candidates=8, exact_below=1000)


STORES: dict[str, Callable[[Path], Store]] = {
    "lancedb": lambda folder: LanceStore(folder / "store", candidates=8, exact_below=1000),
    "weaviate": on_server,
}
ENGINES = ["lancedb", pytest.param("weaviate", marks=pytest.mark.service)]
X, Y, Z = np.eye(3, dtype=np.float32)


def chunk(text: str, source: str = "documents/a.md", heading: str = "", language: str = "en", n: int = 0) -> Chunk:
    """A chunk with what matters to a search."""
    return Chunk(chunk_id(source, n, text), source, None, heading, 0, len(text), text, language)


CHUNKS = [
    chunk("The Ashgate store opens at 8:00.", heading="Stores > Ashgate store"),
    chunk("It closes at 18:30; ask for O'Hara.", "documents/b.md", heading="Stores > Oakleigh store"),
    chunk("The Karo lamp costs £40 and has code B-123.", "documents/o'hara's.pdf"),
    chunk("青山店的退货期是30天。", "documents/zh/青山.txt", heading="门店 > 青山店", language="zh"),
    chunk("银卡会员的运费是5元。", "documents/zh/银卡.md", language="zh"),
]
VECTORS = np.stack([X, Y, Z, (X + Y) / math.sqrt(2), (3 * Y + 4 * Z) / 5])


def needed(request) -> None:
    """Start the server that an engine needs."""
    if request.param == "weaviate":
        request.getfixturevalue("weaviate_server")


@pytest.fixture(scope="module", params=ENGINES)
def store(request, tmp_path_factory) -> Store:
    """A store that holds CHUNKS."""
    needed(request)
    made = STORES[request.param](tmp_path_factory.mktemp(request.param))
    made.build(CHUNKS, VECTORS)
    return made


def numbers(hits: list[Hit]) -> list[int]:
    """The places of the found chunks in CHUNKS."""
    return [CHUNKS.index(hit.chunk) for hit in hits]


def test_count_and_whole_chunks(store):
    """Every chunk is there and comes back with all its fields, pages of None included."""
    assert store.count() == 5
    assert sorted(numbers(store.dense(X, 5))) == [0, 1, 2, 3, 4]


def test_dense_is_by_cosine(store):
    """Against x: 1 for x itself, 1/√2 for (x+y)/√2, 0 for the others; against (0, .6, .8): 1, .8, .6, .6/√2."""
    hits = store.dense(X, 2)
    assert numbers(hits) == [0, 3] and [h.score for h in hits] == pytest.approx([1, 1 / math.sqrt(2)], abs=1e-4)
    hits = store.dense(VECTORS[4], 4)
    assert numbers(hits) == [4, 2, 1, 3] and [h.score for h in hits] == pytest.approx([1, 0.8, 0.6, 0.4243], abs=1e-4)


def test_sparse_finds_words_of_text_and_heading(store):
    """Codes, prices and names are words; the heading path is searched too; case does not matter."""
    assert numbers(store.sparse("code B-123", 3))[0] == 2
    assert numbers(store.sparse("OAKLEIGH", 3)) == [1]
    assert numbers(store.sparse("when does the ashgate store open", 1)) == [0]


def test_sparse_finds_chinese_words(store):
    """Words inside unspaced Chinese, of two characters too."""
    assert numbers(store.sparse("退货期是多久", 1)) == [3]
    assert numbers(store.sparse("退货", 3)) == [3]
    assert numbers(store.sparse("银卡的运费", 1)) == [4]


def test_sparse_of_nothing_and_of_syntax(store):
    """No words, no hits; quotes and operators are words and not a query language."""
    assert store.sparse("", 3) == [] and store.sparse("  ", 3) == [] and store.sparse("zzz", 3) == []
    for text in ('"ashgate', "ashgate AND (", "text:ashgate^3 *", "+ashgate -store ~", "ashgate' OR 1=1 --"):
        assert 0 in numbers(store.sparse(text, 3)), text


def test_filters_narrow_before_they_rank(store):
    """The one Chinese memo is found though others are nearer; a quote in a value is part of it."""
    assert numbers(store.dense(X, 1, {"language": "zh"})) == [3]
    assert numbers(store.sparse("store 运费", 3, {"language": "zh"})) == [4]
    assert numbers(store.hybrid("store", X, 2, 0.5, {"source": "documents/b.md"})) == [1]
    assert numbers(store.dense(X, 3, {"source": "documents/o'hara's.pdf"})) == [2]
    assert store.dense(X, 3, {"source": "x' OR '1'='1"}) == []
    assert numbers(store.dense(Z, 3, {"source": "documents/zh/银卡.md", "language": "zh"})) == [4]


def test_unknown_filters_are_refused(store):
    """A misspelt field must not search everything."""
    with pytest.raises(StoreError, match="cannot search by lang; take source or language"):
        store.dense(X, 1, {"lang": "zh"})


def test_hybrid_at_its_ends(store):
    """alpha 1 is dense alone and 0 sparse alone, in their order."""
    assert numbers(store.hybrid("退货期", X, 2, 1.0)) == numbers(store.dense(X, 2)) == [0, 3]
    assert numbers(store.hybrid("退货期", X, 2, 0.0)) == numbers(store.sparse("退货期", 2)) == [3]


def test_hybrid_brings_both_together(store):
    """Words name chunk 3 only, the vector prefers 0 and then 3: ½ · .707 + ½ · 1 = .854 against ½ · 1."""
    hits = store.hybrid("退货期", X, 2, 0.5)
    assert numbers(hits) == [3, 0]
    assert [hit.score for hit in hits] == pytest.approx([0.5 / math.sqrt(2) + 0.5, 0.5], abs=1e-4)


@pytest.fixture(params=ENGINES)
def name(request) -> str:
    """Each engine in turn, its server running."""
    needed(request)
    return request.param


def test_equal_scores_come_in_order_of_id(name, tmp_path):
    """40 chunks of the same words and vector: the same five of them always, however the engine keeps them."""
    copies = [chunk("the same words", f"documents/{n}.md", n=n) for n in range(40)]
    random.Random(5).shuffle(copies)
    made = STORES[name](tmp_path)
    made.build(copies, np.stack([X] * 40))
    first = sorted(c.id for c in copies)[:5]
    assert [hit.chunk.id for hit in made.dense(X, 5)] == first
    assert [hit.chunk.id for hit in made.sparse("words", 5)] == first
    assert [hit.chunk.id for hit in made.hybrid("words", X, 5, 0.5)] == first


def test_a_reopened_store_answers_the_same(name, tmp_path):
    """What was built by one process is served by another."""
    STORES[name](tmp_path).build(CHUNKS, VECTORS)
    again = STORES[name](tmp_path)
    assert again.count() == 5 and numbers(again.sparse("退货", 1)) == [3] and numbers(again.dense(Z, 1)) == [2]


def test_an_empty_build_and_a_missing_store_are_errors(name, tmp_path):
    """Neither may look like a search without hits."""
    with pytest.raises(StoreError, match="no chunk to store"):
        STORES[name](tmp_path).build([], np.zeros((0, 3), np.float32))
    with pytest.raises(StoreError, match="build it: dvc repro index"):
        STORES[name](tmp_path / "nowhere").dense(X, 1)


def test_an_approximate_index_finds_what_comparing_all_finds(tmp_path):
    """LanceDB above `exact_below`: 600 vectors in 24 partitions, all probed: the same ten of ten questions."""
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(600, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    many = [chunk(f"number {n}", f"documents/{n}.md") for n in range(600)]
    exact, coarse = LanceStore(tmp_path / "a", 8, 1000), LanceStore(tmp_path / "b", 8, 100)
    for made in (exact, coarse):
        made.build(many, vectors)
    for vector in vectors[:10]:
        assert exact.dense(vector, 10) == coarse.dense(vector, 10)


def test_fuse_by_hand():
    """dense a 1, b .5, c 0 (of 0.9, 0.7, 0.5); sparse c 1, d 0 (of 8, 2); alpha .4: c .6, a .4, b .2, d 0."""
    a, b, c, d = (chunk(name) for name in "abcd")
    dense = [Hit(a, 0.9), Hit(b, 0.7), Hit(c, 0.5)]
    sparse = [Hit(c, 8.0), Hit(d, 2.0)]
    got = fuse(dense, sparse, 0.4, 10)
    assert [(hit.chunk.text, hit.score) for hit in got] == [("c", 0.6), ("a", 0.4), ("b", 0.2), ("d", 0.0)]
    assert fuse(dense, sparse, 0.4, 1) == got[:1]
    # one hit is the best of its side; a side without hits or weight has no say
    assert [(h.chunk.text, h.score) for h in fuse([Hit(a, 0.1)], [], 0.4, 5)] == [("a", 0.4)]
    assert [h.chunk.text for h in fuse(dense, sparse, 1.0, 5)] == ["a", "b", "c"]


def test_best_asks_on_while_equals_are_cut():
    """An engine that returns any `limit` of 100 equals: the smallest id comes first only when all were seen."""
    copies = [chunk("x", f"documents/{n}.md", n=n) for n in range(100)]
    asked = []

    def search(limit: int) -> list[Hit]:
        asked.append(limit)
        return [Hit(c, 1.0) for c in sorted(copies, key=lambda c: c.id, reverse=True)[:limit]]

    assert best(search, 2) == ordered([Hit(c, 1.0) for c in copies])[:2]
    assert asked == [18, 72, 288]


def test_importing_the_stores_loads_no_engine():
    """lancedb costs seconds to import: only a store that is used may."""
    import subprocess

    code = (
        "import sys, tasks.rag.stores.builds, tasks.index, tasks.embed, tasks.answers; print('lancedb' in sys.modules, "
        "'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False", "False"]
