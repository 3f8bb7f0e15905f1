"""Rows of databases as documents: data/documents/sql/<name>.jsonl, written before a night, for DVC cannot hash a database.

A snapshot is replaced whole, and only by other bytes: a database in which nothing has changed changes no hash. Whatever goes
wrong with a source leaves its former snapshot as it was and is said; the other sources go on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import errors
from tasks.bootstrap import DATA, bootstrap, track
from tasks.errors import DataError, NightshiftError, ServiceError
from tasks.files import write_atomic
from tasks.params import Params, SqlSource, load

FOLDER = Path(DATA) / "documents" / "sql"
CODE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Fetched:
    """What came of one source: its rows and whether the snapshot is another one now, or the error."""

    name: str
    rows: int = 0
    changed: bool = False
    error: NightshiftError | None = None

    def __str__(self) -> str:
        if self.error:
            return f"{self.name}: NOT FETCHED, its former snapshot is left as it was: {self.error}"
        return f"{self.name}: {self.rows:,} row{'' if self.rows == 1 else 's'}, {'new' if self.changed else 'unchanged'}"


def fetch(root: Path, params: Params) -> list[Fetched]:
    """Take all sources, one after another."""
    return [one(root, source, params) for source in params.sources.sql]


def one(root: Path, source: SqlSource, params: Params) -> Fetched:
    """Take one source; never raises for what a database, a network or a disk may do."""
    path = root / FOLDER / f"{source.name}.jsonl"
    try:
        lines = rows(root, source, params)
        content = "".join(f"{line}\n" for line in lines).encode(errors="replace")
        fits(source, content, params)
        changed = not path.is_file() or path.read_bytes() != content
        if changed:
            write_atomic(path, content)
    except NightshiftError as error:
        return Fetched(source.name, error=error)
    except OSError as error:
        return Fetched(source.name, error=ServiceError(str(FOLDER), error.strerror or "cannot be written", "mend the disk"))
    return Fetched(source.name, len(lines), changed)


def rows(root: Path, source: SqlSource, params: Params) -> list[str]:
    """The lines that tasks/rag/sql.py gives within the time limit."""
    limits = params.sources
    request = {**source.model_dump(), "max_rows": limits.max_rows, "max_seconds": limits.max_seconds}
    thing = f"sources.sql.{source.name}"
    # a database's path is relative to the repository, wherever the code is
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tasks.rag.sql"], input=json.dumps(request).encode(), cwd=root, env=env,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=limits.max_seconds)  # fmt: skip
        said: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise ServiceError(thing, f"gave no answer within {limits.max_seconds:g} s",
                           "look whether the database can be reached, or raise sources.max_seconds") from None
    except ValueError:
        raise ServiceError(thing, "its driver crashed", "try another driver") from None
    if "error" in said:
        raise getattr(errors, said["kind"])(*said["error"])
    if not said["lines"]:
        raise DataError(thing, "gives no rows", f"mend the query; if there are none, remove it and {FOLDER}/{source.name}.jsonl")
    return said["lines"]


def fits(source: SqlSource, content: bytes, params: Params) -> None:
    """DataError for a snapshot that the validation or the loaders would refuse: the former one is better than none."""
    most = min(params.validate_.max_document_megabytes, params.embed.max_megabytes) * 2**20
    if len(content) > most or len(content.decode()) > params.validate_.max_document_characters:
        raise DataError(f"sources.sql.{source.name}", f"gives {len(content) / 2**20:.1f} MB, more than a document may have",
                        "narrow the query, split it into several sources, or raise validate.max_document_megabytes "
                        "and validate.max_document_characters")


def left_over(root: Path, sources: Sequence[SqlSource]) -> list[str]:
    """Snapshots of sources that params.yaml no longer has: they are still documents until somebody removes them."""
    known = {f"{source.name}.jsonl" for source in sources}
    return sorted(f"{FOLDER}/{path.name}" for path in (root / FOLDER).glob("*.jsonl") if path.name not in known)


def fetch_now(root: Path) -> list[str]:
    """`nightshift fetch`: all sources now, tracked by DVC; a line each. ServiceError when one failed."""
    params = load(root / "params.yaml")
    bootstrap(root)
    found = fetch(root, params)
    lines = [str(each) for each in found]
    lines += [f"{path}: no source of this name in params.yaml; still a document" for path in left_over(root, params.sources.sql)]
    if any(each.changed for each in found):
        lines.append(f"tracked: {DATA}.dvc names {track(root)}")
    if failed := sum(each.error is not None for each in found):
        detail = "".join(f"\n  {line}" for line in lines)
        raise ServiceError("sources.sql", f"{failed} of {len(found)} failed{detail}")
    return lines or ["params.yaml has no sources: sources.sql"]
