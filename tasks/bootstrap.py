"""data/ on a fresh clone: from DVC's cache or remote when they have what data.dvc names, else from examples/.

An existing data/ is never touched. A copy appears whole or not at all, and only when DVC finds that it is the data that
data.dvc names: starting a night on other data than the repository says would be a silent change.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasks.errors import DataError, ServiceError
from tasks.files import replace_dir

DATA, EXAMPLES = "data", "examples"


def bootstrap(root: Path) -> str:
    """Fill data/ when it is missing; returns a line about it. DataError when nothing has the right bytes."""
    data, examples, pointer = root / DATA, root / EXAMPLES, root / f"{DATA}.dvc"
    if data.exists():
        return f"{DATA}/ is there"
    wanted = tracked_hash(pointer) if pointer.is_file() else None
    if wanted and examples.is_dir() and dvc_hash(examples) == wanted:
        _copy(examples, data)
        return f"{DATA}/ filled from {EXAMPLES}/ ({wanted})"
    if wanted:
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "pull", "--quiet", pointer.name], cwd=root, capture_output=True, text=True
        )
        if done.returncode == 0 and data.exists():
            return f"{DATA}/ restored by dvc ({wanted})"
        raise DataError(
            f"{DATA}/",
            f"is missing; {pointer.name} names {wanted}, which is neither {EXAMPLES}/ nor in DVC's cache or remote",
            f"dvc pull from where it was pushed, or start from the examples: cp -r {EXAMPLES} {DATA} && dvc add {DATA}",
        )
    if not examples.is_dir():
        raise DataError(
            f"{DATA}/", f"is missing, and so is {EXAMPLES}/", f"put your data into {DATA}/, then: dvc add {DATA}"
        )
    _copy(examples, data)
    subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", DATA], cwd=root, check=True)
    return f"{DATA}/ filled from {EXAMPLES}/ and tracked in {pointer.name}"


def track(root: Path) -> str:
    """`dvc add data`; returns the hash that data.dvc names now."""
    done = subprocess.run([sys.executable, "-m", "dvc", "add", "--quiet", DATA], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(f"dvc add {DATA}", (done.stderr or done.stdout).strip(), f"the files lie in {DATA}/; run it again")
    return tracked_hash(root / f"{DATA}.dvc")


def tracked_hash(pointer: Path) -> str:
    """The hash a .dvc file names; DataError when it names none."""
    import yaml

    try:
        return yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"]
    except (KeyError, IndexError, TypeError, yaml.YAMLError):
        raise DataError(str(pointer), "names no data", "restore it: git checkout data.dvc") from None


def dvc_hash(folder: Path) -> str:
    """DVC's own hash of a folder: md5 of the list of its files' md5, with ".dir"."""
    return _tree(folder).hash_info.value


def dvc_list(folder: Path) -> bytes:
    """That list, as DVC keeps it."""
    return _tree(folder).as_bytes()


def _tree(folder: Path) -> Any:
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    fs = LocalFileSystem()
    store = HashFileDB(fs, os.fspath(folder.parent), read_only=True)
    return build(store, os.fspath(folder.absolute()), fs, "md5", dry_run=True)[2]


def _copy(source: Path, final: Path) -> None:
    part = final.with_name(f".{final.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source, part)
    replace_dir(part, final)
