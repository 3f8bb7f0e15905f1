"""Switching a real Weaviate, and LanceDB, under a client that asks without pause; and a server killed in mid-build."""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter

import numpy as np
import pytest

from deploy import weaviate
from tasks.errors import NightshiftError
from tasks.params import Index
from tasks.rag.chunks import Chunk, chunk_id
from tasks.rag.stores import Builds, prune, revert
from tasks.rag.stores.builds import builds_of
from tests import rag_fixtures as fixtures

REBUILDS, REVERTS, SIZE, DIM = 20, 5, 200, 16
ENGINES = ["lancedb", pytest.param("weaviate", marks=pytest.mark.service)]


def content(build: str, size: int = SIZE) -> tuple[list[Chunk], np.ndarray]:
    """Chunks that all name their build, in text and source; the same vectors in every build."""
    texts = [f"Shelf {n} holds lamps of build {build}." for n in range(size)]
    source = f"documents/{build}.md"
    rows = [Chunk(chunk_id(source, n, t), source, None, "", 0, len(t), t, "en") for n, t in enumerate(texts)]
    vectors = np.random.default_rng(7).normal(size=(size, DIM)).astype(np.float32)
    return rows, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Client(threading.Thread):
    """Asks the live build a hybrid question, over and over, and notes which build each passage came from."""

    def __init__(self, builds: Builds, vector: np.ndarray):
        """Ends when `enough` is set."""
        super().__init__(daemon=True)
        self.builds, self.vector, self.enough = builds, vector, threading.Event()
        self.answered: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self) -> None:
        """Resolve the pointer once a question, as a server does, and put both halves of it to that build."""
        while not self.enough.is_set():
            try:
                live = self.builds.live()
                store = self.builds.find(live, SIZE)
                hits = store.hybrid("lamps on shelf 17", self.vector, 5, 0.5)
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                continue
            found = {hit.chunk.source for hit in hits}
            if found != {f"documents/{live}.md"} or len(hits) != 5:
                self.wrong.append(f"{live}: {found}, {len(hits)} hits")
            self.answered[live] += 1


@pytest.fixture(params=ENGINES)
def cfg(request, tmp_path) -> Index:
    """Section index of an engine that is ready; three builds are kept."""
    if request.param == "lancedb":
        return fixtures.index_params(tmp_path / "stores", keep=3)
    request.getfixturevalue("weaviate_server")
    return fixtures.index_params(tmp_path, store="weaviate", weaviate=fixtures.at_server("Load"), keep=3)


def test_no_query_fails_and_none_is_mixed_while_builds_are_switched(cfg):
    """20 rebuilds, each switched to and the oldest pruned, then 5 reverts, under two clients without pause."""
    builds = builds_of(cfg)
    names = [f"{n:024x}" for n in range(REBUILDS)]
    rows, vectors = content(names[0])
    builds.make(names[0], rows, vectors, None)
    builds.switch(names[0])
    clients = [Client(builds, vectors[17]) for _ in range(2)]
    for client in clients:
        client.start()
    for name in names[1:]:
        builds.make(name, *content(name), None)
        builds.switch(name)
        prune(builds, cfg.keep)
    for _ in range(REVERTS):
        now, before = revert(builds)
        assert {now, before} == set(names[-2:]) and builds.live() == now
        time.sleep(0.2)
    for client in clients:
        client.enough.set()
        client.join(30)
    wrong = [line for client in clients for line in client.wrong]
    answered = sum((client.answered for client in clients), Counter())
    assert wrong == []
    assert len(answered) >= REBUILDS // 2, answered  # the clients met most of the builds
    assert [build.id for build in builds.all()][:2] == [names[-2], names[-1]] and len(builds.all()) == 3
    assert builds.problems() == []


@pytest.mark.service
def test_the_alias_answers_every_query_while_it_is_switched(weaviate_server, tmp_path):
    """What another program sees that knows nothing but the alias: each answer whole, and from one build."""
    from tasks.rag.stores.weaviate import connect

    at = fixtures.at_server("Aliased")
    builds = builds_of(fixtures.index_params(tmp_path, store="weaviate", weaviate=at))
    names = [f"{n:024x}" for n in range(2)]
    for name in names:
        builds.make(name, *content(name), None)
    builds.switch(names[0])
    vector, enough, seen, wrong = content(names[0])[1][17].tolist(), threading.Event(), Counter(), []

    def ask() -> None:
        collection = connect(at).collections.use("Aliased")
        while not enough.is_set():
            try:
                got = collection.query.hybrid("lamps on shelf 17", vector=vector, limit=5, return_properties=["source"])
                found = {one.properties["source"] for one in got.objects}
                wrong.extend([str(found)] if len(found) != 1 or len(got.objects) != 5 else [])
                seen.update(found)
            except Exception as error:
                wrong.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    for turn in range(40):
        builds.switch(names[(turn + 1) % 2])
        time.sleep(0.05)
    enough.set()
    thread.join(30)
    assert wrong == [] and set(seen) == {f"documents/{name}.md" for name in names}, seen


@pytest.mark.service
def test_a_server_killed_in_the_middle_of_a_build(tmp_path, monkeypatch):
    """kill -9 while objects stream in: the build fails with a reason, the live one answers after the restart, what was
    half made is never found, and the next run completes."""
    if reason := weaviate.why_not():
        pytest.skip(f"no Weaviate server here: {reason}")
    weaviate.build()
    from tasks.rag.stores.weaviate import connect

    key = secrets.token_hex(16)
    monkeypatch.setenv("WEAVIATE_API_KEY", key)
    with weaviate.Server(tmp_path / "data", key) as server:
        ports = {"port": server.at.port, "grpc_port": server.at.grpc_port}
        at = fixtures.NOWHERE.model_copy(update={**ports, "alias": "Killed"})
        builds = builds_of(fixtures.index_params(tmp_path, store="weaviate", weaviate=at))
        live, new = "a" * 24, "b" * 24
        builds.make(live, *content(live), None)
        builds.switch(live)
        rows, vectors = content(new, 20_000)

        def soon() -> None:
            """kill -9 as soon as the new collection holds something."""
            client = connect(at)
            while True:
                names = [name for name in client.collections.list_all() if name.startswith(f"Killed_{new}")]
                if names and client.collections.use(names[0]).aggregate.over_all(total_count=True).total_count:
                    server.kill()
                    return
                time.sleep(0.05)

        killer = threading.Thread(target=soon, daemon=True)
        killer.start()
        with pytest.raises(NightshiftError, match=r"weaviate at|were not stored|holds"):
            builds.make(new, rows, vectors, None)
        killer.join(30)
        server.start()
        assert builds.live() == live
        hits = builds.find(live, SIZE).hybrid("lamps on shelf 17", content(live)[1][17], 5, 0.5)
        assert {hit.chunk.source for hit in hits} == {f"documents/{live}.md"} and len(hits) == 5
        assert builds.find(new, len(rows)) is None and [build.id for build in builds.all()] == [live]
        assert len(builds.problems()) == 1 and " is half a build" in builds.problems()[0]
        builds.make(new, rows, vectors, None)  # the next run
        assert builds.switch(new) == live and builds.find(new, len(rows)).count() == 20_000
    connect.cache_clear()
