"""The search index: built beside the graph, named by its content, verified before it has a name.

The stage's output is a manifest. The store itself (a folder, or a collection on a server) is not byte-stable and is made
again from artifacts/embedded wherever it is missing; see tasks/rag/stores/builds.py. It is not live yet: promotion
switches to it (tasks/promote.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.errors import StoreError
from tasks.files import write_json
from tasks.params import Index
from tasks.progress import log
from tasks.rag.chunks import MANIFEST, Chunk, read_chunks
from tasks.rag.stores import Store
from tasks.rag.stores.builds import WHERE, build_id, open_build
from tasks.reports import Report

if TYPE_CHECKING:
    import numpy as np

TOP = 3  # a chunk should be among the first three for its own text
ONE_IN = 10  # probes of a language may be missed: a text of repetitions has better matches than itself


class Probes(Report):
    """What was asked of a build."""

    asked: int = Field(description="chunks that were looked for by their own text")
    chinese: int = Field(description="Chinese ones among them")
    dense_found: int = Field(description=f"those that dense search had among its first {TOP}")
    sparse_found: int = Field(description=f"those that sparse search had among its first {TOP}")


class IndexReport(Report):
    """metrics/index.json."""

    build: str = Field(description="id of the build: a hash of its content and settings")
    store: str = Field(description="index.store")
    chunks: int = Field(description="chunks in the store, each counted after the build")
    dim: int = Field(description="numbers in a vector")
    probes: Probes = Field(description="what was asked of the build, and found")


def index(cfg: Index, embedded: Path, out: Path) -> IndexReport:
    """Make the build for `embedded` unless it is there, verify it, and write its manifest."""
    chunks, vectors, made = read_chunks(embedded)
    build = build_id(made["content_sha256"], cfg)

    def check(store: Store) -> Probes:
        return probe(store, chunks, vectors, cfg.probes)

    # a new build is checked before it gets its name, and one that was there is checked again
    store = open_build(build, embedded, cfg, check)
    asked = check(store)
    log(
        f"{build}: {len(chunks)} chunks; of {asked.asked} probes ({asked.chinese} Chinese) dense search found "
        f"{asked.dense_found}, sparse {asked.sparse_found}"
    )
    report = IndexReport(build=build, store=cfg.store, chunks=store.count(), dim=made["dim"], probes=asked)
    write_json(
        out / MANIFEST,
        {
            "build": build,
            "store": cfg.store,
            "chunks": len(chunks),
            "dim": made["dim"],
            "content_sha256": made["content_sha256"],
            "weights_sha256": made["weights_sha256"],
            "settings": cfg.model_dump(mode="json", exclude=WHERE),
            "probes": asked.model_dump(),
        },
    )
    return report


def sample(chunks: Sequence[Chunk], count: int) -> list[int]:
    """Numbers of evenly spaced chunks, half of them Chinese where there are Chinese ones."""
    chinese = [n for n, chunk in enumerate(chunks) if chunk.language == "zh"]
    rest = [n for n, chunk in enumerate(chunks) if chunk.language != "zh"]
    share = min(len(chinese), max(count // 2, count - len(rest)))
    return sorted(_spread(chinese, share) + _spread(rest, count - share))


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    count = min(count, len(numbers))
    return [numbers[i * len(numbers) // count] for i in range(count)]


def probe(store: Store, chunks: Sequence[Chunk], vectors: np.ndarray, count: int) -> Probes:
    """Look for chunks by their own words and their own vector; StoreError when a language is not found.

    A copy of the text elsewhere counts as found, and so does a vector of zeros (no token known to the model).
    """
    asked = [(chunks[number], vectors[number]) for number in sample(chunks, count)]
    found: dict[str, int] = {}
    for kind in ("dense", "sparse"):
        missed = []
        for chunk, vector in asked:
            hits = store.sparse(chunk.passage, TOP) if kind == "sparse" else store.dense(vector, TOP)
            if chunk.passage not in [hit.chunk.passage for hit in hits] and (kind == "sparse" or vector.any()):
                missed.append(chunk)
        for language in sorted({chunk.language for chunk in missed}):
            lost, all_ = (sum(c.language == language for c in group) for group in (missed, [c for c, _ in asked]))
            if lost * ONE_IN > all_:
                one = next(chunk for chunk in missed if chunk.language == language)
                raise StoreError(
                    f"{kind} search",
                    f"does not find {lost} of {all_} chunks in {language} by their own text (one: {one.source})",
                    "look at embed.model and at the documents; the build was not kept",
                )
        found[kind] = len(asked) - len(missed)
    return Probes(
        asked=len(asked),
        chinese=sum(chunk.language == "zh" for chunk, _ in asked),
        dense_found=found["dense"],
        sparse_found=found["sparse"],
    )
