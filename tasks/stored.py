"""Folders out of DVC's object store, wherever a configuration has put it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Any]:
    """The object store of the repository at `root`."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        yield repo.cache.local


def lay_out(store: Any, md5: str | None, target: Path) -> bool:
    """Lay out a folder by its hash, as hard links, for objects never change, else copies; False where an object is missing or
    unreadable, or the hash is no folder's."""
    from dvc.exceptions import DvcException
    from dvc_data.hashfile import load
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_objects.errors import ObjectFormatError

    if not str(md5).endswith(".dir"):
        return False
    try:
        for key, (_, info) in load(store, HashInfo("md5", md5)).iteritems():
            if not info or ".." in key or any("/" in name for name in key):
                return False
            file = target.joinpath(*key)
            file.parent.mkdir(parents=True, exist_ok=True)
            source = store.oid_to_path(info.value)
            try:
                os.link(source, file)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, file)
    except (FileNotFoundError, ObjectFormatError, DvcException):
        return False
    return True
