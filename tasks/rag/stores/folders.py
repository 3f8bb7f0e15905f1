"""Builds in folders, for engines whose store is a folder (LanceDB): one immutable folder a build, a pointer file.

    <folder>/<build>/COMPLETE.json   this build, whole; written last
    <folder>/<build>/SWITCHED        when it last became live
    <folder>/LIVE                    the id of the live build

LanceDB's files have random names and times in them, so they cannot be a DVC output; the id is the hash of the embedded
content and of the settings, so equal inputs find their build and a fresh clone makes it again from artifacts/embedded.
A build is written aside, checked, marked and renamed; the pointer is replaced in one step, after an fsync.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import DataError, StoreError
from tasks.files import read_json, write_atomic, write_json
from tasks.rag.chunks import Chunk
from tasks.rag.stores import Build, Store, alive, moment

if TYPE_CHECKING:
    import numpy as np

MARKER, SWITCHED, POINTER = "COMPLETE.json", "SWITCHED", "LIVE"


class FolderBuilds:
    """Builds below `folder`; `open_store` gives the store of a folder, empty or full."""

    def __init__(self, folder: Path, open_store: Callable[[Path], Store]):
        """Nothing is read or written until it is needed."""
        self._folder, self._open = folder, open_store

    def find(self, build: str, chunks: int) -> Store | None:
        """See Builds.find."""
        made = self._read(build)
        if made is None or made.chunks != chunks:
            return None
        store = self._open(self._folder / build)
        try:
            return store if store.count() == chunks else None
        except StoreError:
            return None  # marked complete and damaged since

    def make(self, build: str, chunks: Sequence[Chunk], vectors: np.ndarray, check: Callable[[Store], Any] | None) -> Store:
        """See Builds.make. Another process that makes the same build at the same time does no harm."""
        final = self._folder / build
        self._folder.mkdir(parents=True, exist_ok=True)
        self.tidy()
        part = self._folder / f".{build}.part-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        try:
            part.mkdir()
            store = self._open(part)
            store.build(chunks, vectors)
            if store.count() != len(chunks):
                raise StoreError(
                    str(final), f"holds {store.count()} chunks and should hold {len(chunks)}", "dvc repro embed index"
                )
            if check:
                check(store)
            write_json(part / MARKER, {"build": build, "chunks": len(chunks), "made": moment()})
            self._put(part, final, build, len(chunks))
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return self._open(final)

    def _put(self, part: Path, final: Path, build: str, chunks: int) -> None:
        """Rename the new build into place; one that another process has finished meanwhile stays, half a one goes."""
        for file in sorted(part.rglob("*")):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        if final.exists() and self.find(build, chunks) is None:
            shutil.rmtree(final)
        try:
            os.rename(part, final)
        except OSError:
            if self.find(build, chunks) is None:
                raise

    def all(self) -> list[Build]:
        """See Builds.all."""
        names = [path.name for path in self._folder.glob("[!.]*") if path.is_dir()] if self._folder.is_dir() else []
        found = [build for name in names if (build := self._read(name))]
        return sorted(found, key=lambda build: build.age, reverse=True)

    def _read(self, build: str) -> Build | None:
        """What a folder's marker says; None where it is missing, damaged or that of another build."""
        try:
            marker = read_json(self._folder / build / MARKER)
            if marker["build"] != build:
                return None
            switched = self._folder / build / SWITCHED
            when = switched.read_text(encoding="utf-8").strip() if switched.is_file() else None
            return Build(build, marker["chunks"], marker["made"], when or None)
        except (DataError, KeyError, TypeError):
            return None

    def live(self) -> str | None:
        """See Builds.live."""
        pointer = self._folder / POINTER
        return (pointer.read_text(encoding="utf-8").strip() or None) if pointer.is_file() else None

    def switch(self, build: str) -> str | None:
        """See Builds.switch."""
        if self._read(build) is None:
            raise StoreError(str(self._folder / build), "is no complete build", "dvc repro index")
        before = self.live()
        write_atomic(self._folder / build / SWITCHED, moment() + "\n")
        write_atomic(self._folder / POINTER, build + "\n")
        return before

    def delete(self, build: str) -> None:
        """See Builds.delete. It is renamed first: half a build is never found."""
        if build == self.live():
            raise StoreError(str(self._folder / build), "is the live build", "switch to another one first")
        gone = self._folder / f".{build}.part-{os.getpid()}"
        shutil.rmtree(gone, ignore_errors=True)
        try:
            os.rename(self._folder / build, gone)
        except FileNotFoundError:
            raise StoreError(str(self._folder / build), "is no build", "see them: nightshift builds") from None
        shutil.rmtree(gone, ignore_errors=True)

    def tidy(self) -> None:
        """See Builds.tidy. The part of a living process is left alone."""
        for leftover in self._folder.glob(".*.part-*"):
            if not _alive(leftover):
                shutil.rmtree(leftover, ignore_errors=True)

    def problems(self) -> list[str]:
        """See Builds.problems."""
        found = []
        live = self.live()
        if live is not None and self._read(live) is None:
            found.append(
                f"{self._folder / POINTER} names {live}, which is no complete build: dvc repro index, then nightshift promote"
            )
        known = {build.id for build in self.all()}
        for path in sorted(self._folder.glob("[!.]*")) if self._folder.is_dir() else []:
            if path.is_dir() and path.name not in known:
                found.append(f"{path} is no complete build; no search uses it, and it can be removed")
        return found


def _alive(leftover: Path) -> bool:
    """Whether the process that a leftover's name ends with still runs; a name that ends otherwise is not ours to remove."""
    pid = leftover.name.rpartition("-")[2]
    return not pid.isdecimal() or alive(int(pid))
