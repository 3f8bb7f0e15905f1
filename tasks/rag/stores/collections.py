"""Builds in Weaviate: a collection an attempt, an alias that points at the live one.

    <Alias>_<build>_<attempt>   a collection; its description is the marker: build, chunks, made, switched, complete
    <Alias>                     the alias; switching it is one command to the server, and atomic

Several processes may build at the same time: each attempt has a collection of its own, which nobody finds before its
marker says that it is complete. The server lets anybody delete the collection under an alias, or point an alias at
nothing; here the first is refused and the second reported.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tasks.errors import NightshiftError, StoreError
from tasks.params import Weaviate
from tasks.rag.chunks import Chunk
from tasks.rag.stores import Build, Store, alive, moment
from tasks.rag.stores.weaviate import WeaviateStore, connect, speaking

if TYPE_CHECKING:
    import numpy as np

UNFINISHED = timedelta(hours=12)  # after which an attempt from another machine is taken for dead


class WeaviateBuilds:
    """Builds on a server, their names beginning with the alias."""

    def __init__(self, at: Weaviate, candidates: int, exact_below: int):
        """Nothing is asked until it is needed."""
        self._at, self._candidates, self._exact_below = at, candidates, exact_below

    def find(self, build: str, chunks: int) -> Store | None:
        """See Builds.find."""
        name = self._collection(build)
        store = self._store(name) if name else None
        return store if store and store.count() == chunks else None

    def make(self, build: str, chunks: Sequence[Chunk], vectors: np.ndarray, check: Callable[[Store], Any] | None) -> Store:
        """See Builds.make. A server that dies on the way leaves an attempt that `tidy` takes away later."""
        self._refuse_clash()
        self.tidy()
        entry = Build(build, len(chunks), moment())
        name = f"{self._at.alias}_{build}_{secrets.token_hex(3)}"
        store = self._store(name, _marker(entry, complete=False))
        try:
            store.build(chunks, vectors)
            if check:
                check(store)
            self._mark(name, replace(entry, made=moment()))
        except BaseException:
            with contextlib.suppress(NightshiftError):  # where the server is gone, the first error says so
                self._drop(name)
            raise
        return store

    def all(self) -> list[Build]:
        """See Builds.all. One entry a build, however many attempts are complete."""
        found: dict[str, Build] = {}
        for build in sorted(self._complete().values(), key=lambda build: build.age, reverse=True):
            found.setdefault(build.id, build)
        return list(found.values())

    def live(self) -> str | None:
        """See Builds.live."""
        target = self._target()
        return _build_of(target) if target else None

    def switch(self, build: str) -> str | None:
        """See Builds.switch."""
        name = self._collection(build)
        if name is None:
            raise StoreError(build, "is no complete build on the server", "dvc repro index")
        self._refuse_clash()
        before = self.live()
        self._mark(name, replace(self._complete()[name], switched=moment()))
        with speaking(self._at):
            alias = connect(self._at).alias
            # `update` does not raise for an alias that is not there: it returns False
            if not alias.update(alias_name=self._at.alias, new_target_collection=name):
                alias.create(alias_name=self._at.alias, target_collection=name)
        return before

    def delete(self, build: str) -> None:
        """See Builds.delete. The server itself would let the live one go."""
        if build == self.live():
            raise StoreError(build, "is the live build", "switch to another one first")
        names = [name for name, one in self._complete().items() if one.id == build]
        if not names:
            raise StoreError(build, "is no build on the server", "see them: nightshift builds")
        for name in names:
            self._drop(name)

    def tidy(self) -> None:
        """See Builds.tidy: attempts of processes that ended on this machine, and old ones of others."""
        live = self._target()
        for name, marker in self._markers().items():
            if name != live and not marker.get("complete") and _dead(marker):
                self._drop(name)

    def problems(self) -> list[str]:
        """See Builds.problems."""
        alias, target, markers = self._at.alias, self._target(), self._markers()
        found = []
        with speaking(self._at):
            if target is None and connect(self._at).collections.exists(alias):
                found.append(f"a collection is called {alias}, so no alias can be: set index.weaviate.alias to another name")
            elif target and not connect(self._at).collections.exists(target):
                found.append(f"alias {alias} points at {target}, which is not there: dvc repro index, then nightshift promote")
            elif target and not markers.get(target, {}).get("complete"):
                found.append(f"alias {alias} points at {target}, which is no complete build: nightshift promote")
        halves = [name for name, marker in markers.items() if not marker.get("complete") and name != target]
        return [
            *found,
            *(f"{name} is half a build{' that is being made' if not _dead(markers[name]) else ''}" for name in halves),
        ]

    def _store(self, collection: str, description: str = "") -> WeaviateStore:
        return WeaviateStore(self._at, collection, self._candidates, self._exact_below, description)

    def _target(self) -> str | None:
        """The collection that the alias names, there or not."""
        with speaking(self._at):
            found = connect(self._at).alias.get(alias_name=self._at.alias)
        return found.collection if found else None

    def _markers(self) -> dict[str, dict[str, Any]]:
        """Collection → its marker, of all that are ours."""
        ours = re.compile(rf"{re.escape(self._at.alias)}_[0-9a-f]+_[0-9a-f]+")
        with speaking(self._at):
            listed = connect(self._at).collections.list_all(simple=True)
        return {name: _read(config.description) for name, config in listed.items() if ours.fullmatch(name)}

    def _complete(self) -> dict[str, Build]:
        """Collection → build, of the complete ones."""
        return {
            name: Build(marker["build"], marker["chunks"], marker["made"], marker["switched"])
            for name, marker in self._markers().items()
            if marker.get("complete") and marker["build"] == _build_of(name)
        }

    def _collection(self, build: str) -> str | None:
        """The collection of a complete build: the live one where there are several, else the latest."""
        target = self._target()
        found = [(name == target, one.age, name) for name, one in self._complete().items() if one.id == build]
        return max(found)[2] if found else None

    def _mark(self, collection: str, build: Build) -> None:
        with speaking(self._at):
            connect(self._at).collections.use(collection).config.update(description=_marker(build, complete=True))

    def _drop(self, collection: str) -> None:
        with speaking(self._at):
            connect(self._at).collections.delete(collection)

    def _refuse_clash(self) -> None:
        """An alias and a collection cannot have one name."""
        if self._target() is None:
            with speaking(self._at):
                if connect(self._at).collections.exists(self._at.alias):
                    raise StoreError(
                        self._at.alias,
                        "is a collection, so no alias can have its name",
                        "set index.weaviate.alias to another name",
                    )


def _marker(build: Build, complete: bool) -> str:
    facts = {"build": build.id, "chunks": build.chunks, "made": build.made, "switched": build.switched, "complete": complete}
    return json.dumps({**facts, "host": socket.gethostname(), "pid": os.getpid()})


def _read(description: str | None) -> dict[str, Any]:
    """A marker; empty where somebody else wrote the description."""
    try:
        marker = json.loads(description or "")
        return marker if isinstance(marker, dict) and {"build", "chunks", "made", "switched"} <= set(marker) else {}
    except ValueError:
        return {}


def _build_of(collection: str) -> str:
    """The build in a collection's name."""
    return collection.rsplit("_", 2)[1] if collection.count("_") >= 2 else collection


def _dead(marker: dict[str, Any]) -> bool:
    """Whether nobody works on an unfinished attempt any more."""
    if marker.get("host") == socket.gethostname():
        return isinstance(marker.get("pid"), int) and not alive(marker["pid"])
    try:
        return datetime.now(UTC) - datetime.fromisoformat(marker["made"]) > UNFINISHED
    except (KeyError, ValueError, TypeError):
        return False
