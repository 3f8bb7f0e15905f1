"""Search stores: two Protocols, and one conformance test of each that every engine must pass (tests/test_stores.py,
tests/test_builds.py).

A `Store` is built once from chunks and vectors and then only read. `Builds` is where an engine keeps its stores: each
complete or absent, one of them live. Whatever an engine cannot do itself is done here, the same way for all: hybrid
search by `fuse`, and the order of equal scores, which engines leave to chance.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from tasks.errors import StoreError
from tasks.rag.chunks import Chunk

if TYPE_CHECKING:
    import numpy as np

FILTERS = ("source", "language")  # what a search can be narrowed to, by equality
DIGITS = 5  # scores are rounded: lower digits differ between processors, and would decide the order of equals

Filter = Mapping[str, str]


@dataclass(frozen=True)
class Hit:
    """A chunk that was found; higher scores are better. Scores of different searches can't be compared."""

    chunk: Chunk
    score: float


class Store(Protocol):
    """What every search engine must do. All results are in order of falling score, equals in order of chunk id."""

    def build(self, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """Fill an empty store. `vectors` is (chunks, dim) fp32 of length 1. StoreError when anything was not stored."""

    def count(self) -> int:
        """Chunks in the store."""

    def dense(self, vector: np.ndarray, k: int, filter: Filter | None = None) -> list[Hit]:
        """Nearest by cosine; the score is the cosine."""

    def sparse(self, text: str, k: int, filter: Filter | None = None) -> list[Hit]:
        """Best by words in heading path or text (BM25), Chinese included. Fewer than k when fewer hold a word of it."""

    def hybrid(self, text: str, vector: np.ndarray, k: int, alpha: float, filter: Filter | None = None) -> list[Hit]:
        """Both, weighted: alpha 1 is dense alone, 0 sparse alone."""


@dataclass(frozen=True)
class Build:
    """A complete build. Times are ISO 8601, UTC: when it was made, and when it last became live (None: never)."""

    id: str
    chunks: int
    made: str
    switched: str | None = None

    @property
    def age(self) -> tuple[str, str]:
        """Orders builds: the later one was live, or made, later."""
        return (self.switched or self.made, self.made)


class Builds(Protocol):
    """Where an engine keeps its builds, by the hash of what is in them. StoreError where the engine fails."""

    def find(self, build: str, chunks: int) -> Store | None:
        """The complete store of this build with just so many chunks; None where there is none, or a damaged one."""

    def make(self, build: str, chunks: Sequence[Chunk], vectors: np.ndarray, check: Callable[[Store], Any] | None) -> Store:
        """Build aside, count, `check` (which may raise), and only then let it be found. What was damaged goes."""

    def all(self) -> list[Build]:
        """Complete builds, the one that was live or made last first."""

    def live(self) -> str | None:
        """What the pointer names, whether that build is there or not; None before the first switch."""

    def switch(self, build: str) -> str | None:
        """Point at a complete build, in one atomic step; returns what was live before."""

    def delete(self, build: str) -> None:
        """Remove a build. StoreError for the live one."""

    def tidy(self) -> None:
        """Remove what killed processes were building."""

    def problems(self) -> list[str]:
        """What a person should know: a pointer to nothing, a name that is taken, half a build."""


def revert(builds: Builds) -> tuple[str, str]:
    """Switch back to the build that was live before; (now, before). StoreError when there is none."""
    live = builds.live()
    earlier = [build for build in builds.all() if build.switched and build.id != live]
    if live is None or not earlier:
        raise StoreError("index", "there is no earlier live build to go back to", "see them: nightshift builds")
    builds.switch(earlier[0].id)
    return earlier[0].id, live


def prune(builds: Builds, keep: int, spare: Collection[str] = ()) -> list[str]:
    """Delete all but the `keep` latest builds, never the live one nor those to `spare`; returns what went."""
    builds.tidy()
    kept = {builds.live(), *spare, *(build.id for build in builds.all()[:keep])}
    gone = [build.id for build in builds.all() if build.id not in kept]
    for build in gone:
        builds.delete(build)
    return gone


def alive(pid: int) -> bool:
    """Whether a process runs on this machine; one of another user does, too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def moment() -> str:
    """Now, to the microsecond, as builds write it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def check_filter(filter: Filter | None) -> dict[str, str]:
    """The filter as a dict; StoreError for a field that cannot be filtered by."""
    wanted = dict(filter or {})
    if unknown := sorted(set(wanted) - set(FILTERS)):
        raise StoreError("filter", f"cannot search by {', '.join(unknown)}", f"take {' or '.join(FILTERS)}")
    return wanted


def ordered(hits: Sequence[Hit]) -> list[Hit]:
    """Falling score, equals by chunk id."""
    rounded = (Hit(hit.chunk, round(hit.score, DIGITS) + 0.0) for hit in hits)
    return sorted(rounded, key=lambda hit: (-hit.score, hit.chunk.id))


def best(search: Callable[[int], Sequence[Hit]], k: int) -> list[Hit]:
    """The k best of `search(limit)`, whatever order the engine gives to equal scores.

    An engine cuts a run of equals at its limit anywhere. So more are asked for until the run that holds the k-th ends.
    """
    limit = k + 16
    while True:
        hits = ordered(search(limit))
        if len(hits) < limit or hits[k - 1].score > hits[-1].score:
            return hits[:k]
        limit *= 4


def fuse(dense: Sequence[Hit], sparse: Sequence[Hit], alpha: float, k: int) -> list[Hit]:
    """Weighted relative-score fusion: each side's scores are brought to [0, 1], best to 1 and worst to 0, then
    alpha · dense + (1 − alpha) · sparse; a chunk that one side did not find has 0 there.

    Scores rather than ranks, because a name that only one chunk holds should win by more than one rank.
    """
    total: dict[str, float] = {}
    chunks: dict[str, Chunk] = {}
    for hits, weight in ((dense, alpha), (sparse, 1 - alpha)):
        if weight == 0 or not hits:
            continue
        low, high = min(hit.score for hit in hits), max(hit.score for hit in hits)
        for hit in hits:
            relative = (hit.score - low) / (high - low) if high > low else 1.0
            total[hit.chunk.id] = total.get(hit.chunk.id, 0.0) + weight * relative
            chunks[hit.chunk.id] = hit.chunk
    return ordered([Hit(chunks[i], score) for i, score in total.items()])[:k]
