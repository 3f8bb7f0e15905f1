"""Builds of a store: one immutable folder each, named by what is in it, complete or absent.

LanceDB's files have random names and times in them, so they cannot be a DVC output. The build is kept beside the
graph in `index.folder/<build id>`; the id is the hash of the embedded content and of the settings, so equal inputs
find their build and a fresh clone makes it again from artifacts/embedded. A build is written aside, checked, marked
and renamed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.errors import DataError, StoreError
from tasks.files import canonical_json, read_json, write_json
from tasks.params import Index
from tasks.rag.chunks import MANIFEST, read_chunks, sha256_lines
from tasks.rag.stores import Store
from tasks.rag.stores.lancedb import LanceStore, settings

MARKER = "COMPLETE.json"


def build_id(content_sha256: str, cfg: Index) -> str:
    """24 hex digits of the SHA-256 over embedded content and store settings; how it is searched is not part of it."""
    return sha256_lines([content_sha256, canonical_json(settings(cfg.exact_below))])[:24]


def make(folder: Path, cfg: Index) -> Store:
    """The store class that `index.store` names, on a folder."""
    return LanceStore(folder, cfg.candidates, cfg.exact_below)


def complete(folder: Path, build: str, chunks: int) -> bool:
    """Whether a build folder carries the marker of exactly this build."""
    try:
        return read_json(folder / MARKER) == {"build": build, "chunks": chunks}
    except DataError:  # missing, or damaged
        return False


def open_build(
    build: str, chunks: int, embedded: Path, folder: Path, cfg: Index, check: Callable[[Store], Any] | None = None
) -> Store:
    """Open a build, making it from `embedded` where it is missing, half there or unreadable.

    `check` may raise StoreError about a new build, which then never gets its name.
    """
    final = folder / build
    if complete(final, build, chunks):
        store = make(final, cfg)
        try:
            if store.count() == chunks:
                return store
        except StoreError:
            pass
        shutil.rmtree(final)  # marked complete and damaged since
    _build(build, chunks, embedded, final, cfg, check)
    return make(final, cfg)


def open_index(index: Path, embedded: Path, folder: Path | None = None) -> Store:
    """The store of an index manifest, ready to search; made again where it is missing (a fresh clone after `dvc pull`).

    `folder` holds the builds; the manifest's own when it is None.
    """
    manifest = read_json(index / MANIFEST)
    cfg = Index.model_validate(manifest["settings"])
    content = read_json(embedded / MANIFEST)["content_sha256"]
    if build_id(content, cfg) != manifest["build"]:
        raise StoreError(
            str(index),
            f"was built from other chunks than {embedded} holds",
            "check out both from one commit: dvc checkout, or dvc repro index",
        )
    return open_build(manifest["build"], manifest["chunks"], embedded, folder or Path(cfg.folder), cfg)


def _build(
    build: str, chunks: int, embedded: Path, final: Path, cfg: Index, check: Callable[[Store], Any] | None
) -> None:
    """Write aside, check, mark, rename. Another process that makes the same build at the same time does no harm."""
    rows, vectors, _ = read_chunks(embedded)
    final.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(final.parent)
    part = final.with_name(f".{final.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        store = make(part, cfg)
        store.build(rows, vectors)
        if len(rows) != chunks or store.count() != chunks:
            raise StoreError(
                str(final), f"holds {store.count()} chunks and should hold {chunks}", "dvc repro embed index"
            )
        if check:
            check(store)
        write_json(part / MARKER, {"build": build, "chunks": chunks})
        _put(part, final, build, chunks)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, final: Path, build: str, chunks: int) -> None:
    """Rename the new build into place; one that another process has finished meanwhile stays, half a one goes."""
    for file in sorted(part.rglob("*")):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    if final.exists() and not complete(final, build, chunks):
        shutil.rmtree(final)
    try:
        os.rename(part, final)
    except OSError:
        if not complete(final, build, chunks):
            raise


def _clear_leftovers(parent: Path) -> None:
    """Remove what killed processes were building."""
    for leftover in parent.glob(".*.part-*"):
        pid = leftover.name.rpartition("-")[2]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(leftover, ignore_errors=True)
        except (ValueError, PermissionError):
            pass
