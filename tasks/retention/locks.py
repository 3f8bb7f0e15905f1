"""Nobody else at work while objects go: no night, collection, promotion or reproduction, and no dvc command, in any work tree
that shares the cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from tasks import lock
from tasks.doctor.project import dvc
from tasks.rag.stores import alive
from tasks.reproduce import HOME as REPRODUCE

NAME = "nightshift gc"


@contextlib.contextmanager
def alone(
    trees: Sequence[Path], held: Collection[Path] = (), told: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold every lock of these work trees. BusyError where somebody is at work; who needs seconds is waited for, as `told` hears.

    `held`: those whose night's lock is the caller's.
    """
    with contextlib.ExitStack() as stack:
        for tree in sorted(trees):  # in one order, so that two of us do not wait for each other
            if tree not in held:
                stack.enter_context(lock.alone(tree, NAME, lock.MOMENT, told))
            promotion = tree / lock.PROMOTION
            stack.enter_context(lock.held(promotion, "releases", "a promotion or rollback", lock.MOMENT, NAME, told=told))
            stack.enter_context(lock.held(tree / REPRODUCE / "lock", "reproduce", "a reproduction", 0, NAME))
        for tree in sorted(trees):
            stack.enter_context(_dvc(tree))
        yield


@contextlib.contextmanager
def _dvc(tree: Path) -> Iterator[None]:
    """DVC's own lock; and nobody in a stage, during which DVC lets go of it."""
    from dvc.lock import LockError

    with dvc(tree) as repo:
        try:
            repo.lock.lock()
        except LockError:
            raise lock.BusyError("dvc", f"is at work in {tree}", "wait for it, or end it") from None
        try:
            named = lock.of_dvc(Path(repo.tmp_dir, "rwlock")) - {os.getpid()}
            if pids := sorted(filter(alive, named)):
                raise lock.BusyError("dvc", f"is at work in {tree} (process {pids[0]})", "wait for it, or end it")
            yield
        finally:
            repo.lock.unlock()
