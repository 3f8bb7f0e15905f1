"""From an index manifest to a store that can be searched, whichever engine it names.

A build's id is a hash of the embedded content and of the store's settings. A build that is missing, half there or
damaged is made again from artifacts/embedded, checked before it can be found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.errors import StoreError
from tasks.files import canonical_json, read_json
from tasks.params import Index
from tasks.rag.chunks import MANIFEST, read_chunks, sha256_lines
from tasks.rag.stores import Builds, Store
from tasks.rag.stores import lancedb as lance
from tasks.rag.stores import weaviate as weav
from tasks.rag.stores.collections import WeaviateBuilds
from tasks.rag.stores.folders import FolderBuilds

WHERE = {"folder", "weaviate", "keep"}  # where builds are kept and for how long: no part of what an index is


def settings(cfg: Index) -> dict[str, Any]:
    """Everything that decides what a build holds; how it is searched, and where it is kept, is not part of it."""
    return lance.settings(cfg.exact_below) if cfg.store == "lancedb" else weav.settings(cfg.exact_below)


def build_id(content_sha256: str, cfg: Index) -> str:
    """24 hex digits of the SHA-256 over embedded content and store settings."""
    return sha256_lines([content_sha256, canonical_json(settings(cfg))])[:24]


def builds_of(cfg: Index) -> Builds:
    """The builds of the engine that `index.store` names."""
    if cfg.store == "lancedb":
        return FolderBuilds(Path(cfg.folder), lambda folder: lance.LanceStore(folder, cfg.candidates, cfg.exact_below))
    return WeaviateBuilds(cfg.weaviate, cfg.candidates, cfg.exact_below)


def open_build(build: str, embedded: Path, cfg: Index, check: Callable[[Store], Any] | None = None) -> Store:
    """Open a build, making it from `embedded` where it is missing, half there or unreadable.

    `check` may raise StoreError about a new build, which then is never found.
    """
    builds = builds_of(cfg)
    found = builds.find(build, read_json(embedded / MANIFEST)["chunks"])
    if found is not None:
        return found
    chunks, vectors, _ = read_chunks(embedded)
    return builds.make(build, chunks, vectors, check)


def open_index(index: Path, embedded: Path, where: Index) -> Store:
    """The store of an index manifest, ready to search; made again where it is missing (a fresh clone after `dvc pull`).

    `where` says where builds are kept: the present params' section, while the manifest says what the index is.
    """
    cfg = as_made(read_json(index / MANIFEST)["settings"], where)
    wanted = read_json(index / MANIFEST)["build"]
    if build_id(read_json(embedded / MANIFEST)["content_sha256"], cfg) != wanted:
        raise StoreError(
            str(index),
            f"was built from other chunks than {embedded} holds",
            "check out both from one commit: dvc checkout, or dvc repro index",
        )
    return open_build(wanted, embedded, cfg)


def as_made(settings_: dict[str, Any], where: Index) -> Index:
    """The section as it was when an index was made, with the places of `where`."""
    places = where.model_dump(mode="json", include=WHERE)
    return Index.model_validate({**{k: v for k, v in settings_.items() if k not in WHERE}, **places})
