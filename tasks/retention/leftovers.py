"""What Nightshift itself has left in its folders and nobody can use, by the rules that each kind has already.

Checkpoints and vectors of runs that nobody took up for a week; releases laid out for serving beyond those the service keeps;
what killed stages had half written; the work tree of a killed reproduction. Builds of the search index are not here: every
night lets the old ones go (tasks/live_index.py). Nor is anything that people wrote or may want to read: the inbox, the
quarantine, feedback, data-before-…, reports, logs (one a stage).
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks import lock, records
from tasks.files import read_json
from tasks.rag.stores import alive
from tasks.rag.vectors import WORK as VECTORS
from tasks.reproduce import HOME as REPRODUCE
from tasks.reproduce.workspace import clean
from tasks.retention.cache import freed
from tasks.serving import parts
from tasks.training.checkpoints import STALE, WORK

GONE = lock.WORK / "gone"  # half a checkpoint must not keep the name of a whole one
HALF = re.compile(r"\.(.+)\.(?:part|old)-(\d+)")


@dataclass(frozen=True)
class Leftover:
    """A folder or file that goes, and how."""

    kind: str
    path: Path
    bytes: int
    remove: Callable[[], object]


def leftovers(root: Path, alone: bool) -> Iterator[Leftover]:
    """Those below one work tree. Nobody else may be at work there when they are removed; `alone`: the caller has the locks."""
    for folder, kind in ((WORK, "checkpoints that nobody took up for a week"),
                         (VECTORS, "vectors that nobody took up for a week")):  # fmt: skip
        yield from (_to_remove(kind, path, root) for path in _below(root / folder) if _stale(path))
    yield from (_to_remove("what killed stages had half written", path, root) for path in _halves(root))
    live = records.live(root)
    served = [*parts.surplus(root, live), *parts.halves(root)]
    yield from (Leftover("copies of releases that are not served", path, _frees(path), lambda: parts.prune(root, live))
                for path in served)  # fmt: skip
    note = root / REPRODUCE / "folder.json"
    if note.is_file() and (alone or not lock.is_held(root / REPRODUCE / "lock")):
        folder = Path(read_json(note)["folder"])
        yield Leftover("the work tree of a killed reproduction", folder, _frees(folder), lambda: clean(root, note))
    yield from (_to_remove("what a killed gc has left", path, root) for path in _below(root / GONE))


def _stale(folder: Path) -> bool:
    return folder.is_dir() and time.time() - folder.stat().st_mtime > STALE


def _below(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _halves(root: Path) -> Iterator[Path]:
    """Beside outputs, of processes that have ended. The former output goes only where there is one in its place."""
    import yaml

    graph = root / "dvc.yaml"
    stages = (yaml.safe_load(graph.read_text(encoding="utf-8")) or {}).get("stages") or {} if graph.is_file() else {}
    outs = [next(iter(out)) if isinstance(out, dict) else out for stage in stages.values() for out in stage.get("outs", [])]
    for folder in sorted({(root / str(out)).parent for out in outs}):
        for path in _below(folder):
            half = HALF.fullmatch(path.name)
            if half and not alive(int(half[2])) and (".part-" in path.name or (folder / half[1]).exists()):
                yield path


def _to_remove(kind: str, path: Path, root: Path) -> Leftover:
    def remove() -> None:
        aside = root / GONE / path.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        if path != aside:
            _remove(aside)
            os.replace(path, aside)
        _remove(aside)

    return Leftover(kind, path, _frees(path), remove)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _frees(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(freed(file.lstat()) for file in files if file.is_file() and not file.is_symlink())
