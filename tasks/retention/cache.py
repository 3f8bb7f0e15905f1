"""DVC's cache and remote: what lies there, what of it is half written, and which entries of the run cache lead nowhere."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import ServiceError
from tasks.lineage.cache import DIRECTORY
from tasks.retention.needed import hashes
from tasks.terminal import without_passwords

OBJECT = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}(?:\.dir)?")
HALF = re.compile(r".*\.[\w-]{22}\.tmp")  # what a killed DVC leaves beside its objects
OUTPUTS = re.compile(rb"^outs:\n((?:[ -].*(?:\n|\Z))*)", re.MULTILINE)
ASKED_AT_ONCE, REMOVED_AT_ONCE = 16, 1000


@dataclass
class Store:
    """Objects by hash, with the bytes that their removal frees; and files that are none, half written."""

    objects: dict[str, int] = field(default_factory=dict)
    halves: dict[Path, int] = field(default_factory=dict)


def stored(folder: Path) -> Store:
    """What lies in a cache or in a remote that is a folder, by XX/…; whatever else is there is not ours to judge."""
    found = Store()
    for prefix in _scan(folder):
        for entry in _scan(Path(prefix.path)) if len(prefix.name) == 2 and prefix.is_dir(follow_symlinks=False) else ():
            try:
                frees = freed(entry.stat(follow_symlinks=False)) if entry.is_file(follow_symlinks=False) else None
            except FileNotFoundError:  # a night is at work, and this is a look
                continue
            if frees is not None and OBJECT.fullmatch(f"{prefix.name}/{entry.name}"):
                found.objects[prefix.name + entry.name] = frees
            elif frees is not None and HALF.fullmatch(entry.name):
                found.halves[Path(entry.path)] = frees
    return found


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def freed(stat: os.stat_result) -> int:
    """Bytes that the removal of a file frees: none while it has another name, as copies for serving have."""
    return stat.st_size if stat.st_nlink == 1 else 0


def path_of(folder: Path, hash_: str) -> Path:
    """Where an object lies."""
    return folder / hash_[:2] / hash_[2:]


def in_order(objects: Iterable[str]) -> list[str]:
    """Lists of folders before files: a list whose files are gone would pass for a whole folder."""
    return sorted(objects, key=lambda hash_: (not hash_.endswith(DIRECTORY), hash_))


def runs(folder: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Entries of the run cache, and the outputs that each names."""
    for path in sorted(folder.glob("??/*/*")):
        try:
            told = OUTPUTS.search(path.read_bytes()) if path.is_file() else None
        except FileNotFoundError:
            continue
        if told:
            yield path, hashes(told[1])


def dead_runs(folder: Path, there: Collection[str]) -> dict[Path, int]:
    """Those that name an output which is not `there`: DVC cannot restore it from them."""
    return {path: path.stat().st_size for path, named in runs(folder) if not named.issubset(there)}


@dataclass(frozen=True)
class Remote:
    """A remote of DVC: its name, and its objects as DVC's libraries give them, whatever they lie in."""

    name: str
    odb: Any

    @classmethod
    def of(cls, repo: Any) -> Remote:
        """The default remote of a project. ServiceError where there is none, or one that keeps versions instead of objects."""
        from dvc.exceptions import DvcException

        name = repo.config["core"].get("remote")
        if not name:
            raise ServiceError("dvc", "has no default remote here", "dvc remote default NAME; dvc remote list shows them")
        try:
            return cls(name, repo.cloud.get_remote_odb(None, "gc"))
        except DvcException as error:
            raise ServiceError(f"DVC's remote {name}", str(error).splitlines()[0], "dvc remote list shows them") from None

    def objects(self) -> dict[str, int]:
        """What lies there, by hash; bytes where the remote tells."""
        from dvc_objects.fs.local import LocalFileSystem

        if isinstance(self.odb.fs, LocalFileSystem):
            return stored(Path(self.odb.path)).objects
        with _said(self.name):
            found: Mapping[str, Any] = self.odb.fs.fs.find(self.odb.path, detail=True)
        at = {"/".join(path.split("/")[-2:]): facts.get("size") or 0 for path, facts in found.items()}
        return {name.replace("/", ""): size for name, size in at.items() if OBJECT.fullmatch(name)}

    def lists(self, wanted: list[str]) -> dict[str, bytes]:
        """Lists of folders that it has."""

        def read(hash_: str) -> bytes | None:
            try:
                with self.odb.fs.open(self.odb.oid_to_path(hash_), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                return None

        with _said(self.name), ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
            found = dict(zip(wanted, pool.map(read, wanted), strict=True))
        return {hash_: content for hash_, content in found.items() if content is not None}

    def forget(self) -> None:
        """DVC's note of what is there, before anything goes: by it, the next push would spare what has gone."""
        from dvc_data.hashfile.db import get_index

        with contextlib.closing(get_index(self.odb)) as index:
            index.clear()

    def remove(self, objects: Iterable[str]) -> None:
        """Remove them, lists of folders first."""
        ordered = in_order(objects)
        lists = sum(hash_.endswith(DIRECTORY) for hash_ in ordered)
        with _said(self.name):
            for part in (ordered[:lists], ordered[lists:]):  # what goes at once goes in any order
                for first in range(0, len(part), REMOVED_AT_ONCE):
                    self.odb.fs.remove([self.odb.oid_to_path(hash_) for hash_ in part[first : first + REMOVED_AT_ONCE]])


@contextlib.contextmanager
def _said(name: str) -> Iterator[None]:
    """Whatever a remote's library raises, in one line."""
    try:
        yield
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise ServiceError(f"DVC's remote {name}", without_passwords(first[:200]), "dvc status --cloud -v says more") from error
