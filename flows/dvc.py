"""What DVC knows, asked of DVC: the stages in its order, what has changed, one stage's run, the order of dvc.lock."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import processes
from tasks.errors import ServiceError
from tasks.files import write_atomic

DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]
BUSY = re.compile(r"is busy, it is being blocked by|Unable to acquire lock")
CACHED = re.compile(r"didn't change, skipping|is cached - skipping run")


@dataclass(frozen=True)
class Node:
    """One stage as the graph sees it."""

    name: str
    needs: tuple[str, ...]  # stages whose outputs it reads
    changed: tuple[str, ...]  # why it has to run; empty: nothing of its own has changed


@dataclass(frozen=True)
class Graph:
    """The stages, each after those it needs, in the order in which a plain `dvc repro` runs them."""

    nodes: tuple[Node, ...]

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @property
    def names(self) -> list[str]:
        """All stages, in order."""
        return [node.name for node in self.nodes]

    def with_ancestors(self, names: Iterable[str]) -> list[str]:
        """The named stages and all they need, in order; `dvc repro -s` would not look at stale ancestors."""
        wanted, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name not in self.names:
                raise ServiceError("--stages", f"dvc.yaml has no stage {name!r}", f"take from: {', '.join(self.names)}")
            if name not in wanted:
                wanted.add(name)
                todo += self[name].needs
        return [name for name in self.names if name in wanted]

    def unchanged(self, ignoring: frozenset[str] = frozenset(), among: Collection[str] | None = None) -> set[str]:
        """Stages that need not run: neither they nor anything they need has changed.

        When nothing but paths in `ignoring` has changed in any stage (`among` these, where they are given), none need
        run; as soon as anything else has, those count like the others.
        """
        looked_at = [node for node in self.nodes if among is None or node.name in among]
        if not all(ignoring.issuperset(node.changed) for node in looked_at):
            ignoring = frozenset()
        clean: set[str] = set()
        for node in self.nodes:
            if ignoring.issuperset(node.changed) and clean.issuperset(node.needs):
                clean.add(node.name)
        return clean


def read(root: Path, patience: float) -> Graph:
    """Graph and status in one go, in this process: asking dvc once a stage would take 20 s for nothing.

    `patience` is how long to wait for DVC's lock, in seconds.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    deadline = time.monotonic() + patience
    while True:
        try:
            with contextlib.chdir(root), Repo() as repo, repo.lock:  # DVC's names are relative to the folder
                graph = get_active_graph(repo.index.graph)
                order = plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))
                status = {stage.addressing: stage.status(check_updates=True) for stage in order}
                return Graph(
                    tuple(
                        Node(
                            stage.addressing,
                            tuple(sorted(above.addressing for above in graph.successors(stage))),
                            _reasons(status[stage.addressing].get(stage.addressing, [])),
                        )
                        for stage in order
                    )
                )
        except LockError as error:
            if time.monotonic() > deadline:
                raise ServiceError("dvc", str(error).splitlines()[0], "end the other dvc command, then run again") from None
            time.sleep(1)
        except DvcException as error:
            raise ServiceError("dvc", str(error), "mend it; `dvc repro --dry` shows the same") from error


def _reasons(entries: list) -> tuple[str, ...]:
    """DVC's status of one stage as a flat list: changed paths, parameters, or its words for the command."""
    reasons: list[str] = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
            continue
        for changes in entry.values():
            for path, change in changes.items():
                reasons += change if isinstance(change, dict) else [path]
    return tuple(reasons)


@dataclass(frozen=True)
class Outcome:
    """What came of one stage: state ran, cached or failed."""

    state: str
    ended: processes.Ended
    tries: int


def repro(
    root: Path, stage: str, patience: float, on_line: Callable[[str], None], env: Mapping[str, str] | None = None
) -> Outcome:
    """Run one stage as `dvc repro` would; where DVC is locked, wait and try again, for `patience` seconds."""
    deadline = time.monotonic() + patience
    pause = 1.0
    tries = 0
    while True:
        tries += 1
        ended = processes.run([*DVC, "repro", "--single-item", stage], root, on_line, env)
        text = "\n".join(ended.lines)
        if ended.code == 0:
            return Outcome("cached" if CACHED.search(text) else "ran", ended, tries)
        if not BUSY.search(text) or time.monotonic() > deadline:
            return Outcome("failed", ended, tries)
        on_line(f"another dvc command is at work; next try in {pause:.0f} s")
        time.sleep(pause)
        pause = min(pause * 2, 30.0)


def order_lock(root: Path, order: list[str]) -> bool:
    """Put the stages in dvc.lock in the order a plain `dvc repro` would have left; returns whether that changed it.

    DVC updates known stages in place and appends new ones as they end, so side by side the order would be that of luck.
    Here: first those of the committed dvc.lock, as they stand there, then the others in `order`.
    """
    from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update

    path = root / "dvc.lock"
    if not path.is_file():
        return False
    committed = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=root, capture_output=True, text=True)
    before = list(_stages(committed.stdout)) if committed.returncode == 0 else []
    data: Any = parse_yaml_for_update(path.read_text(encoding="utf-8"), str(path))
    stages = data.get("stages") or {}
    wanted = [name for name in dict.fromkeys([*before, *order, *stages]) if name in stages]
    if wanted == list(stages):
        return False
    for name in wanted:
        stages[name] = stages.pop(name)
    write_atomic(path, dumps_yaml(data))
    return True


def _stages(text: str) -> dict:
    from dvc.utils.serialize import loads_yaml

    return (loads_yaml(text) or {}).get("stages") or {}

