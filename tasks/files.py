"""Files that appear complete or not at all: write aside, fsync, rename. And the hashes that name them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.errors import DataError


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`; after a crash at any line the old or the new content is there, whole."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    fsync_folder(path.parent)


def canonical_json(obj: Any) -> str:
    """One text for one value: sorted keys, one space of indent, no escapes for Chinese, a newline at the end."""
    return json.dumps(obj, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False) + "\n"


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as canonical JSON, atomically."""
    write_atomic(path, canonical_json(obj))


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is a DataError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(str(path), "is missing", "run the stage that writes it: dvc repro") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(str(path), f"is not JSON ({error})", "restore it: dvc checkout, or git checkout") from None


def read_jsonl(path: Path) -> list[dict]:
    """Read one JSON object a line; a broken line is a DataError with its number."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[dict]:
    if not path.is_file():
        raise DataError(str(path), "is missing", "run the stage that writes it: dvc repro")
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}:{number}", f"is not JSON ({error.msg})", "mend or drop the line") from None


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line (sorted keys), atomically."""
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True, allow_nan=False) for row in rows)
    write_atomic(path, "".join(line + "\n" for line in lines))


def replace_dir(part: Path, final: Path) -> None:
    """Put the finished folder `part` in the place of `final`.

    Every file is fsynced first. A folder cannot be swapped in one call, so the old one is moved aside before: between
    the two renames `final` is missing, never half there.
    """
    for file in sorted(part.rglob("*")):
        if file.is_file():
            with open(file, "rb") as handle:
                os.fsync(handle.fileno())
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    if final.exists():
        os.replace(final, old)
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, final)
    fsync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(folder: Path) -> str:
    """Hex SHA-256 over the sorted (relative path, file hash) pairs of a folder; a single file gives its own hash."""
    if folder.is_file():
        return sha256_file(folder)
    if not folder.is_dir():
        raise DataError(str(folder), "is missing", "run the stage that writes it: dvc repro")
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def fsync_folder(folder: Path) -> None:
    """Let what was renamed or linked in `folder` outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
