"""LanceDB, the embedded store: a folder, no server, dense and BM25, Chinese without a download.

ICU splits Chinese into words; the default tokenizer finds nothing in it. English is neither stemmed nor stripped of
stop words: names, codes and times are what is looked for. Dense search compares all vectors up to `exact_below`;
above that an IVF index of whole vectors (no quantization: building one on a CPU costs more than it saves).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import StoreError
from tasks.rag.chunks import Chunk
from tasks.rag.stores import Filter, Hit, best, check_filter, fuse

if TYPE_CHECKING:
    import numpy as np

TABLE, COLUMN = "chunks", "searched"
FTS: dict[str, Any] = {
    "base_tokenizer": "icu",
    "stem": False,
    "remove_stop_words": False,
    "ascii_folding": True,
    "lower_case": True,
    "with_position": False,
    "max_token_length": 64,
    "num_workers": 1,
}
NPROBES = 32  # of √n partitions: recall 0.97 and more at 100,000 chunks


def settings(exact_below: int) -> dict[str, Any]:
    """Everything that decides what a build holds; part of its id."""
    return {"store": "lancedb", "layout": 1, "fts": FTS, "exact_below": exact_below}


class LanceStore:
    """One table in `folder`. Open it with the constructor; `build` fills an empty one."""

    def __init__(self, folder: Path, candidates: int, exact_below: int):
        """`candidates` is what each side brings to a hybrid search. Nothing is read until it is needed."""
        self._folder, self._candidates, self._exact_below = folder, candidates, exact_below
        self._opened: Any = None

    @property
    def _table(self) -> Any:
        if self._opened is None:
            import lancedb

            try:
                self._opened = lancedb.connect(str(self._folder)).open_table(TABLE)
            except Exception as error:  # the library raises plain ValueError and RuntimeError
                raise StoreError(
                    str(self._folder), "holds no readable LanceDB table", "build it: dvc repro index"
                ) from error
        return self._opened

    def build(self, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """See Store.build."""
        import lancedb
        import pyarrow as pa
        from lancedb.index import FTS as FtsIndex
        from lancedb.index import IvfFlat

        if not chunks:
            raise StoreError(str(self._folder), "there is no chunk to store", "check the documents: dvc repro embed")
        table = pa.table(
            {
                "id": [chunk.id for chunk in chunks],
                "source": [chunk.source for chunk in chunks],
                "language": [chunk.language for chunk in chunks],
                COLUMN: [chunk.passage for chunk in chunks],
                "chunk": [json.dumps(asdict(chunk), ensure_ascii=False, sort_keys=True) for chunk in chunks],
                "vector": pa.FixedSizeListArray.from_arrays(
                    pa.array(vectors.astype("float32").ravel()), vectors.shape[1]
                ),
            }
        )
        self._opened = lancedb.connect(str(self._folder)).create_table(TABLE, table)
        self._opened.create_index(COLUMN, config=FtsIndex(**FTS))
        if len(chunks) > self._exact_below:
            partitions = max(1, round(math.sqrt(len(chunks))))
            self._opened.create_index("vector", config=IvfFlat(distance_type="dot", num_partitions=partitions))
        if self.count() != len(chunks):
            raise StoreError(str(self._folder), f"holds {self.count()} of {len(chunks)} chunks", "build it again")

    def count(self) -> int:
        """See Store.count."""
        return self._table.count_rows()

    def dense(self, vector: np.ndarray, k: int, filter: Filter | None = None) -> list[Hit]:
        """See Store.dense. LanceDB's dot distance is 1 − a·b, and a·b is the cosine of vectors of length 1."""

        def search(limit: int) -> list[Hit]:
            query = self._table.search(vector, query_type="vector").distance_type("dot").nprobes(NPROBES)
            return [Hit(_chunk(row), 1 - row["_distance"]) for row in self._rows(query, limit, filter, "_distance")]

        return best(search, k)

    def sparse(self, text: str, k: int, filter: Filter | None = None) -> list[Hit]:
        """See Store.sparse. A MatchQuery has no syntax: quotes and operators in a question are just words."""
        from lancedb.query import MatchQuery

        def search(limit: int) -> list[Hit]:
            query = self._table.search(MatchQuery(text, COLUMN), query_type="fts")
            return [Hit(_chunk(row), row["_score"]) for row in self._rows(query, limit, filter, "_score")]

        return best(search, k) if text.strip() else []

    def hybrid(self, text: str, vector: np.ndarray, k: int, alpha: float, filter: Filter | None = None) -> list[Hit]:
        """See Store.hybrid."""
        depth = max(k, self._candidates)
        dense = self.dense(vector, depth, filter) if alpha > 0 else []
        sparse = self.sparse(text, depth, filter) if alpha < 1 else []
        return fuse(dense, sparse, alpha, k)

    def _rows(self, query: Any, limit: int, filter: Filter | None, score: str) -> list[dict[str, Any]]:
        """Run a query, narrowed before it ranks."""
        if wanted := check_filter(filter):
            # SQL: a quote within a value is written twice
            query = query.where(
                " AND ".join(f"{k} = '{v.replace(chr(39), chr(39) * 2)}'" for k, v in wanted.items()), prefilter=True
            )
        try:
            return query.select(["chunk", score]).limit(limit).to_list()
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(
                str(self._folder),
                f"cannot be searched ({str(error).splitlines()[0]})",
                "build it again: dvc repro index",
            ) from error


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**json.loads(row["chunk"]))
