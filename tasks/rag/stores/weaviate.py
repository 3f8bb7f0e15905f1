"""Weaviate, the search server: a store is a collection. How builds are kept there: tasks/rag/stores/collections.py.

Dense search compares all vectors up to `exact_below` (flat index), above that HNSW. Words are searched in two properties:
`han` holds what is Chinese, split by the server's own dictionary (GSE_CH), which cuts English words to pieces; `words`
holds the rest. The address is in params.yaml, the key in the environment variable WEAVIATE_API_KEY.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tasks.errors import ServiceError, StoreError
from tasks.params import Weaviate
from tasks.rag.chunks import Chunk
from tasks.rag.prompt import HAN
from tasks.rag.stores import Filter, Hit, best, check_filter, fuse

if TYPE_CHECKING:
    import numpy as np
    import weaviate

KEY = "WEAVIATE_API_KEY"
SEARCHED = {"words": "word", "han": "gse_ch"}  # property → the server's tokenization
BATCH = 500  # objects a request
HNSW = {"ef": 256, "ef_construction": 128, "max_connections": 32}


def settings(exact_below: int) -> dict[str, Any]:
    """Everything that decides what a build holds; part of its id."""
    return {"store": "weaviate", "layout": 1, "searched": SEARCHED, "exact_below": exact_below, "hnsw": HNSW}


_HAN = re.compile(f"[{HAN}]+")


@functools.cache
def connect(at: Weaviate) -> weaviate.WeaviateClient:
    """A client for a server, one a process; ServiceError when it does not answer or refuses the key."""
    import logging

    import weaviate
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout

    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)  # what it tells there is raised here
    key = os.environ.get(KEY)
    with speaking(at):
        client = weaviate.connect_to_custom(
            http_host=at.host,
            http_port=at.port,
            http_secure=at.secure,
            grpc_host=at.host,
            grpc_port=at.grpc_port,
            grpc_secure=at.secure,
            auth_credentials=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(timeout=Timeout(init=10, query=60, insert=120)),
        )
    atexit.register(client.close)
    return client


@contextmanager
def speaking(at: Weaviate) -> Iterator[None]:
    """What goes wrong between us and the server, in a user's words."""
    import httpx
    from weaviate.exceptions import (
        AuthenticationFailedError,
        UnexpectedStatusCodeError,
        WeaviateBaseError,
        WeaviateInsertManyAllFailedError,
    )

    name = f"weaviate at {at.host}:{at.port}"
    try:
        yield
    except AuthenticationFailedError:
        raise ServiceError(name, "refuses the key", f"set {KEY} to one that the server knows") from None
    except UnexpectedStatusCodeError as error:
        if error.status_code in (401, 403):
            raise ServiceError(name, "refuses the key", f"set {KEY} to one that the server knows") from None
        raise StoreError(name, f"says {error.status_code}: {_said(error)}", "see the server's log") from error
    except WeaviateInsertManyAllFailedError as error:
        raise StoreError(name, f"stored no chunk of a batch ({_said(error)})", "build it again: dvc repro index") from error
    except (WeaviateBaseError, httpx.HTTPError, OSError) as error:
        raise ServiceError(
            name, f"does not answer ({_said(error)})", "start it (make weaviate-server), or mend index.weaviate"
        ) from error


def _said(error: Exception) -> str:
    """Kind and first line of an error, cut: a server's words are untrusted and may be long."""
    lines = str(getattr(error, "message", error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


class WeaviateStore:
    """One collection."""

    def __init__(self, at: Weaviate, collection: str, candidates: int, exact_below: int, description: str = ""):
        """`candidates` is what each side brings to a hybrid search, `description` what a build begins with. Nothing is
        asked until it is needed."""
        self._at, self._name, self._candidates, self._exact_below = at, collection, candidates, exact_below
        self._description = description

    @property
    def _collection(self) -> Any:
        return connect(self._at).collections.use(self._name)

    def build(self, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """See Store.build. The server does not raise for an object that it could not store: it lists them."""
        from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances

        if not chunks:
            raise StoreError(self._name, "there is no chunk to store", "check the documents: dvc repro embed")

        def text(name: str, tokenization: str) -> Property:
            searched = name in SEARCHED
            return Property(
                name=name,
                data_type=DataType.TEXT,
                tokenization=Tokenization(tokenization),
                index_searchable=searched,
                index_filterable=not searched,
            )

        exact = len(chunks) <= self._exact_below
        index = (
            Configure.VectorIndex.flat(distance_metric=VectorDistances.DOT)
            if exact
            else Configure.VectorIndex.hnsw(distance_metric=VectorDistances.DOT, **HNSW)
        )
        failed: list[tuple[str, str]] = []
        with speaking(self._at):
            connect(self._at).collections.create(
                self._name,
                description=self._description,
                properties=[
                    *(text(name, tokenization) for name, tokenization in SEARCHED.items()),
                    text("source", "field"),
                    text("language", "field"),
                    Property(name="chunk", data_type=DataType.TEXT, index_searchable=False, index_filterable=False),
                ],
                vector_config=Configure.Vectors.self_provided(vector_index_config=index),
            )
            # in slices of our own: the client's batch retries each slice for a minute when the server is gone
            for start in range(0, len(chunks), BATCH):
                pairs = zip(chunks[start : start + BATCH], vectors[start : start + BATCH], strict=True)
                answer = self._collection.data.insert_many([_object(chunk, vector) for chunk, vector in pairs])
                failed += [(chunks[start + n].source, error.message) for n, error in answer.errors.items()]
        if failed:
            first = "; ".join(f"{source}: {message[:120]}" for source, message in failed[:3])
            raise StoreError(
                self._name, f"{len(failed)} of {len(chunks)} chunks were not stored ({first})", "build it again: dvc repro index"
            )
        if self.count() != len(chunks):
            raise StoreError(self._name, f"holds {self.count()} of {len(chunks)} chunks", "build it again: dvc repro index")

    def count(self) -> int:
        """See Store.count."""
        with speaking(self._at):
            if not connect(self._at).collections.exists(self._name):
                raise StoreError(self._name, "is not on the server", "build it: dvc repro index")
            return self._collection.aggregate.over_all(total_count=True).total_count or 0

    def dense(self, vector: np.ndarray, k: int, filter: Filter | None = None) -> list[Hit]:
        """See Store.dense. The dot distance is −a·b, and a·b is the cosine of vectors of length 1."""
        from weaviate.classes.query import MetadataQuery

        def search(limit: int) -> list[Hit]:
            got = self._collection.query.near_vector(
                vector.tolist(),
                limit=limit,
                filters=_where(filter),
                return_metadata=MetadataQuery(distance=True),
                return_properties=["chunk"],
            )
            return [Hit(_chunk(one), -one.metadata.distance) for one in got.objects]

        return self._asked(search, k)

    def sparse(self, text: str, k: int, filter: Filter | None = None) -> list[Hit]:
        """See Store.sparse."""
        from weaviate.classes.query import MetadataQuery

        def search(limit: int) -> list[Hit]:
            got = self._collection.query.bm25(
                text,
                query_properties=list(SEARCHED),
                limit=limit,
                filters=_where(filter),
                return_metadata=MetadataQuery(score=True),
                return_properties=["chunk"],
            )
            return [Hit(_chunk(one), one.metadata.score) for one in got.objects]

        return self._asked(search, k) if text.strip() else []

    def _asked(self, search: Callable[[int], list[Hit]], k: int) -> list[Hit]:
        """The k best; a collection that is gone is named as such and not as a trouble of the server."""
        with speaking(self._at):
            try:
                return best(search, k)
            except Exception as error:
                if re.search(r"could not find class|class not found", str(error)):
                    raise StoreError(self._name, "is not on the server", "build it: dvc repro index") from None
                raise

    def hybrid(self, text: str, vector: np.ndarray, k: int, alpha: float, filter: Filter | None = None) -> list[Hit]:
        """See Store.hybrid. Fused here and not by the server, so that both engines rank alike and equals keep an order."""
        depth = max(k, self._candidates)
        dense = self.dense(vector, depth, filter) if alpha > 0 else []
        sparse = self.sparse(text, depth, filter) if alpha < 1 else []
        return fuse(dense, sparse, alpha, k)


def _object(chunk: Chunk, vector: np.ndarray) -> Any:
    from weaviate.classes.data import DataObject

    row = {
        "words": _HAN.sub(" ", chunk.passage),
        "han": " ".join(_HAN.findall(chunk.passage)),
        "source": chunk.source,
        "language": chunk.language,
        "chunk": json.dumps(asdict(chunk), ensure_ascii=False, sort_keys=True),
    }
    return DataObject(properties=row, uuid=chunk.id, vector=vector.tolist())


def _where(filter: Filter | None) -> Any:
    from weaviate.classes.query import Filter as Where

    wanted = [Where.by_property(name).equal(value) for name, value in check_filter(filter).items()]
    return Where.all_of(wanted) if wanted else None


def _chunk(found: Any) -> Chunk:
    return Chunk(**json.loads(found.properties["chunk"]))
