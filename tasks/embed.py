"""Documents into chunks with vectors. What can't be read is reported by name and reason; the rest goes on.

The output is the same bytes for the same documents, model and settings: documents in the order of their paths, chunks
in reading order. Passages that the former output holds keep their vectors, which changes no byte (tasks/rag/vectors.py), and
nor does who embeds the others: this process, or workers elsewhere (tasks/spread).
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks import spread
from tasks.errors import DataError, ParamsError
from tasks.files import write_json
from tasks.params import Compute, Embed, Scale
from tasks.progress import log
from tasks.rag.chunks import MANIFEST, Chunk, content_hash, write_chunks
from tasks.rag.embedder import Embedder, load_embedder, local_embedder, probe_of
from tasks.rag.embedders.folders import locate
from tasks.rag.loaders import Problem, load_folder
from tasks.rag.split import split
from tasks.rag.vectors import embed_all, forget, known, passages_hash
from tasks.reports import Report

if TYPE_CHECKING:
    import numpy as np


class EmbedReport(Report):
    """metrics/embed.json."""

    documents: int = Field(description="documents that were read")
    problems: int = Field(
        description="documents, or parts of them, that could not be used; artifacts/embedded/manifest.json names them"
    )
    dropped: int = Field(description="documents of which nothing could be used")
    chunks: int = Field(description="chunks over all documents")
    languages: dict[str, int] = Field(description="chunks in each language")
    formats: dict[str, int] = Field(description="documents of each suffix")
    model: str = Field(description="embed.model")
    weights_sha256: str = Field(description="SHA-256 of everything that decides a vector")
    dim: int = Field(description="numbers in a vector")
    longest_chunk: int = Field(description="tokens of the longest chunk with its heading path")
    cut: int = Field(description="chunks longer than the model reads: their ends have no part in the vector")
    unknown: dict[str, float] = Field(description="share of a language's tokens that the model does not know")


def embed(
    cfg: Embed,
    compute: Compute,
    documents: Path,
    starter: Path,
    out: Path,
    before: Path | None = None,
    scale: Scale = spread.HERE,
) -> EmbedReport:
    """Load, split and embed all documents below a folder; write chunks.parquet and manifest.json.

    `before` is the former output: a passage that has a vector of the same model there keeps it. `scale`: who embeds the others.
    """
    from tasks.training.hardware import set_up

    library = load_folder(documents, int(cfg.max_megabytes * 2**20), cfg.max_seconds)
    for problem in library.problems:
        log(f"{problem.source}: {problem.reason}{'' if problem.dropped else '; the rest of it is used'}")
    mine = compute if scale.engine == "local" else compute.model_copy(update={"device": "cpu"})  # then it counts tokens here
    set_up(mine.at(cfg.precision) if cfg.endpoint is None else mine)
    embedder = load_embedder(cfg, starter, mine)
    check_budget(cfg, embedder)
    chunks = [
        c
        for document in library.documents
        for c in split(document, embedder.count, cfg.max_tokens, cfg.overlap_sentences, cfg.together == "paragraph")
    ]
    if not chunks:
        raise DataError(str(documents), "its documents hold headings only", "add documents with text")
    log(f"{len(library.documents)} documents, {len(chunks)} chunks; embedding with {cfg.model}")
    passages = [chunk.passage for chunk in chunks]
    unknown = unknown_shares(embedder, chunks)
    for language, share in unknown.items():
        if share > cfg.unknown_warning:
            log(
                f"warning: {cfg.model} does not know {share:.0%} of the tokens in {language}: dense search will miss "
                "documents in it; take a multilingual model"
            )
    with workers(cfg, compute, starter, embedder, scale) as work:
        vectors = embed_all(embedder, passages, known(before, embedder), cfg.save_every, work)
    write_chunks(out, chunks, vectors)
    lengths = [embedder.count(passage) for passage in passages]
    report = EmbedReport(
        documents=len(library.documents),
        problems=len(library.problems),
        dropped=sum(problem.dropped for problem in library.problems),
        chunks=len(chunks),
        languages=_counts(chunk.language for chunk in chunks),
        formats=_counts(Path(document.source).suffix.lower() for document in library.documents),
        model=cfg.model,
        weights_sha256=embedder.weights_sha256,
        dim=embedder.dim,
        longest_chunk=max(lengths),
        cut=sum(embedder.longest is not None and n + embedder.overhead() > embedder.longest for n in lengths),
        unknown=unknown,
    )
    made = {
        "content_sha256": content_hash(chunks, vectors, embedder.weights_sha256),
        "passages_sha256": passages_hash(passages),
        "identity": embedder.identity,
        "probe": probe_of(embedder, before),
    }
    write_json(out / MANIFEST, manifest(cfg, report, made, library.problems))
    forget()
    return report


def workers(
    cfg: Embed, compute: Compute, starter: Path, embedder: Embedder, scale: Scale
) -> contextlib.AbstractContextManager[spread.Work]:
    """What makes the vectors of batches of passages: this process, or others; with an endpoint, its server."""
    if cfg.endpoint is not None:
        return contextlib.nullcontext(functools.partial(map, embedder.passages))
    job = spread.Job(vectors_of, (locate(cfg.model, cfg.revision, starter),), (cfg,))
    return spread.over(scale, compute, job, here=lambda: embedder.passages)


def vectors_of(folder: Path, compute: Compute, cfg: Embed) -> Callable[[Sequence[str]], np.ndarray]:
    """The model of a folder, loaded, as a function from passages to their vectors."""
    from tasks.training.hardware import set_up

    set_up(compute.at(cfg.precision))
    return local_embedder(folder, cfg, compute).passages


def manifest(cfg: Embed, report: EmbedReport, made: Mapping[str, Any], problems: Sequence[Problem]) -> dict:
    """artifacts/embedded/manifest.json: enough to search the vectors with the same model, to keep them, and to see what
    is missing. `made` says of what and by which model they were made."""
    return {
        **made,
        "weights_sha256": report.weights_sha256,
        "model": report.model,
        "dim": report.dim,
        "documents": report.documents,
        "chunks": report.chunks,
        "languages": report.languages,
        "settings": cfg.model_dump(mode="json"),
        "problems": [asdict(problem) for problem in problems],
    }


def check_budget(cfg: Embed, embedder: Embedder) -> None:
    """Refuse a chunk size that the model would cut."""
    if embedder.longest is not None and cfg.max_tokens + embedder.overhead() > embedder.longest:
        raise ParamsError(
            "embed.max_tokens",
            f"{cfg.max_tokens} is more than {cfg.model} reads ({embedder.longest} tokens, "
            f"{embedder.overhead()} of them its own)",
            f"take {embedder.longest - embedder.overhead()} or less",
        )


def unknown_shares(embedder: Embedder, chunks: Sequence[Chunk]) -> dict[str, float]:
    """Language → share of its tokens that the model does not know."""
    languages = sorted({chunk.language for chunk in chunks})
    return {
        lang: round(embedder.unknown_share([c.passage for c in chunks if c.language == lang]), 6) for lang in languages
    }


def _counts(values) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
