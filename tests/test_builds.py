"""What every engine must do with its builds (tasks/rag/stores/__init__.py::Builds): complete or absent, one of them live."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import ServiceError, StoreError
from tasks.params import Index
from tasks.rag.chunks import Chunk, chunk_id
from tasks.rag.stores import Builds, prune, revert
from tasks.rag.stores.builds import builds_of
from tests import rag_fixtures as fixtures

X, Y, Z = np.eye(3, dtype=np.float32)
A, B, C, D = ("a" * 24, "b" * 24, "c" * 24, "d" * 24)
ENGINES = ["lancedb", pytest.param("weaviate", marks=pytest.mark.service)]


def chunks(build: str) -> list[Chunk]:
    """Three chunks whose text names the build."""
    texts = [f"The {thing} of build {build} opens at {n}:00." for n, thing in enumerate(("store", "club", "garden"), 8)]
    return [
        Chunk(chunk_id(f"documents/{build}.md", n, t), f"documents/{build}.md", None, "", 0, len(t), t, "en")
        for n, t in enumerate(texts)
    ]


def make(builds: Builds, *names: str, check: Callable | None = None) -> None:
    """Build the named ones, in this order."""
    for name in names:
        builds.make(name, chunks(name), np.stack([X, Y, Z]), check)


@pytest.fixture(params=ENGINES)
def cfg(request, tmp_path) -> Index:
    """Section index for an engine that is ready, with builds of its own."""
    if request.param == "lancedb":
        return fixtures.index_params(tmp_path / "stores")
    request.getfixturevalue("weaviate_server")
    alias = "T" + "".join(c for c in tmp_path.name.title() if c.isalnum())[-40:]
    return fixtures.index_params(tmp_path, store="weaviate", weaviate=fixtures.at_server(alias))


@pytest.fixture
def builds(cfg) -> Builds:
    """The engine's builds, none yet."""
    return builds_of(cfg)


def ids(builds: Builds) -> list[str]:
    """Ids of the complete builds, latest first."""
    return [build.id for build in builds.all()]


def test_a_build_is_found_when_it_is_complete(builds):
    """Under its id, with the right number of chunks, and by a process that did not make it."""
    assert builds.all() == [] and builds.live() is None and builds.find(A, 3) is None
    make(builds, A)
    assert ids(builds) == [A] and builds.all()[0].chunks == 3 and builds.all()[0].switched is None
    assert builds.find(A, 3).sparse("garden", 1)[0].chunk == chunks(A)[2]
    assert builds.find(A, 4) is None and builds.find(B, 3) is None
    assert builds.live() is None  # a build is not live because it was made


def test_a_build_whose_check_fails_is_never_found(builds):
    """The check sees the whole store, and what it refuses leaves nothing behind."""
    seen = []

    def check(store) -> None:
        seen.append(store.count())
        raise StoreError("documents/a.md", "is not found")

    with pytest.raises(StoreError, match="is not found"):
        make(builds, A, check=check)
    assert seen == [3] and builds.all() == [] and builds.problems() == []


def test_switch_revert_and_again(builds):
    """The pointer moves in one step and says what was live; going back twice comes forward again."""
    make(builds, A, B, C)
    assert builds.switch(A) is None and builds.live() == A
    assert builds.switch(B) == A and builds.live() == B
    assert builds.switch(B) == B  # twice is once
    assert revert(builds) == (A, B) and builds.live() == A
    assert revert(builds) == (B, A) and builds.live() == B  # C never was live: nothing to go back to
    with pytest.raises(StoreError, match="is no complete build"):
        builds.switch(D)
    assert builds.live() == B and builds.problems() == []


def test_nothing_to_revert_to(builds):
    """The first build has no one before it."""
    with pytest.raises(StoreError, match="no earlier live build"):
        revert(builds)
    make(builds, A, B)
    builds.switch(A)
    with pytest.raises(StoreError, match="no earlier live build"):
        revert(builds)


def test_the_live_build_cannot_be_deleted(builds):
    """Neither by name nor by pruning; another one can, once."""
    make(builds, A, B)
    builds.switch(A)
    with pytest.raises(StoreError, match="is the live build; switch to another one first"):
        builds.delete(A)
    builds.delete(B)
    assert ids(builds) == [A] and builds.find(A, 3) is not None
    with pytest.raises(StoreError, match="is no build"):
        builds.delete(B)


def test_prune_keeps_the_latest_and_the_live_one(builds):
    """Of four, two stay: the one made last, and the one that is live though it is the oldest; some may be spared."""
    make(builds, A, B, C, D)
    builds.switch(A)
    assert prune(builds, 2, spare=[B]) == [C]
    assert sorted(ids(builds)) == [A, B, D]
    assert prune(builds, 2) == [B] and prune(builds, 2) == []
    # what was live later is kept before what was made later
    make(builds, B, C)
    builds.switch(D)
    assert prune(builds, 2) == [B, A] and ids(builds) == [D, C]


def test_the_same_build_made_again(builds):
    """A second attempt at a build that is there does no harm, live or not."""
    make(builds, A)
    builds.switch(A)
    make(builds, A)
    assert ids(builds) == [A] and builds.live() == A and builds.find(A, 3).count() == 3
    builds.switch(A)
    assert builds.live() == A and builds.problems() == []


def test_search_of_a_deleted_build_is_an_error_and_not_an_empty_answer(builds):
    """A store that somebody still holds says that it is gone."""
    make(builds, A, B)
    builds.switch(B)
    store = builds.find(A, 3)
    builds.delete(A)
    with pytest.raises(StoreError, match="dvc repro index"):
        store.sparse("store", 1)


# --- Weaviate alone: what only a server can get wrong


@pytest.fixture
def server(weaviate_server, tmp_path) -> tuple[Builds, object, str]:
    """Builds on the server, the client behind them, and the alias."""
    from tasks.rag.stores.weaviate import connect

    alias = "T" + "".join(c for c in tmp_path.name.title() if c.isalnum())[-40:]
    at = fixtures.at_server(alias)
    return builds_of(fixtures.index_params(tmp_path, store="weaviate", weaviate=at)), connect(at), alias


@pytest.mark.service
def test_a_dangling_alias_is_reported_and_mended(server):
    """The server lets anybody delete the collection under an alias; we say so, and the next switch repairs it."""
    builds, client, alias = server
    make(builds, A, B)
    builds.switch(A)
    client.collections.delete(client.alias.get(alias_name=alias).collection)
    assert builds.live() == A and builds.find(A, 3) is None
    assert (
        len(builds.problems()) == 1
        and f"alias {alias} points at" in builds.problems()[0]
        and "is not there" in builds.problems()[0]
    )
    builds.switch(B)
    assert builds.live() == B and builds.problems() == []


@pytest.mark.service
def test_a_collection_with_the_alias_name_is_a_clash(server):
    """Neither a build nor a switch goes on; nothing of somebody else's is touched."""
    builds, client, alias = server
    make(builds, A)
    client.collections.create(alias)
    for act in (lambda: make(builds, B), lambda: builds.switch(A)):
        with pytest.raises(StoreError, match=r"is a collection, so no alias can have its name; set index\.weaviate\.alias"):
            act()
    assert any("set index.weaviate.alias to another name" in problem for problem in builds.problems())
    assert client.collections.exists(alias) and ids(builds) == [A]


@pytest.mark.service
def test_foreign_collections_are_left_alone(server):
    """A server may serve others: names and descriptions that are not ours are neither found nor removed."""
    builds, client, alias = server
    for name in (f"{alias}_{A}_zzz", f"{alias}Other_{A}_abc", f"{alias}_{C}_abc"):
        client.collections.create(name, description="mine")
    make(builds, A)
    builds.switch(A)
    prune(builds, 2)
    assert ids(builds) == [A]
    assert all(client.collections.exists(name) for name in (f"{alias}_{A}_zzz", f"{alias}Other_{A}_abc", f"{alias}_{C}_abc"))


@pytest.mark.service
def test_objects_that_fail_in_a_batch_are_an_error(server):
    """The client does not raise: vectors of another length are refused one by one, and named."""
    from tasks.rag.stores.weaviate import WeaviateStore

    _, _client, alias = server
    store = WeaviateStore(fixtures.at_server(alias), f"{alias}X", 8, 1000)
    with pytest.raises(StoreError, match=r"2 of 3 chunks were not stored \(documents/.*vector of the wr"):
        store.build(chunks(A), [X, np.ones(4, np.float32), np.ones(5, np.float32)])


@pytest.mark.service
def test_a_wrong_key_and_a_server_that_is_not_there(weaviate_server, tmp_path, monkeypatch):
    """Named as what they are, with the variable to set or the command to start it; the key itself is not shown."""
    from tasks.rag.stores.weaviate import connect

    connect.cache_clear()
    monkeypatch.setenv("WEAVIATE_API_KEY", "not-the-key-at-all")
    cfg = fixtures.index_params(tmp_path, store="weaviate", weaviate=fixtures.at_server("Wrong"))
    with pytest.raises(ServiceError, match="refuses the key; set WEAVIATE_API_KEY") as caught:
        builds_of(cfg).all()
    assert "not-the-key-at-all" not in str(caught.value)
    connect.cache_clear()
    nowhere = fixtures.index_params(tmp_path, store="weaviate")
    with pytest.raises(ServiceError, match=r"weaviate at 127\.0\.0\.1:1: does not answer .*make weaviate-server"):
        builds_of(nowhere).all()


# --- folders alone


def test_a_pointer_to_nothing_is_reported(tmp_path):
    """Somebody removed the folder of the live build."""
    import shutil

    builds = builds_of(fixtures.index_params(tmp_path))
    make(builds, A)
    builds.switch(A)
    shutil.rmtree(tmp_path / A)
    (tmp_path / "rest").mkdir()
    assert builds.live() == A
    assert [problem.split(" ", 1)[1] for problem in builds.problems()] == [
        f"names {A}, which is no complete build: dvc repro index, then nightshift promote",
        "is no complete build; no search uses it, and it can be removed",
    ]


def test_leftovers_of_killed_builds_go(tmp_path):
    """A part of a process that no longer lives is removed, one of a living process is not touched."""
    dead, alive = tmp_path / ".x.part-999999999", tmp_path / f".y.part-{os.getppid()}"
    dead.mkdir()
    alive.mkdir()
    make(builds_of(fixtures.index_params(Path(tmp_path))), A)
    assert not dead.exists() and alive.exists()
