"""Work in batches, done by this process or spread over workers, with the same bytes.

    __init__.py   the interface: a job, and what makes the results of its batches
    cluster.py    Ray: workers begin, batches go out, results come back in order
    starting.py   the Ray that they run in: of our own on this machine, or a cluster that is there
    worker.py     what runs in a worker's process
    keeper.py     a program that ends our own Ray when the stage has ended, however it did

What goes into a batch is settled before anybody asks who does it (a stage's batch_size), a worker gets whole batches, it is
pinned as the stage is and must have the same code and packages, and results come in the order of the batches. So section scale
decides when a stage is done and not what it writes; dvc.yaml lists it for none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.params import Compute, Scale

HERE = Scale(engine="local", address=None, workers=1, start_seconds=1)

Work = Callable[[Sequence[Any]], Iterable[Any]]  # batches → a result each, in their order


@dataclass(frozen=True)
class Job:
    """What a worker needs to begin. `load` is a function at a module's top level:
    load(*folders, compute, *settings) loads a model and returns a function from a batch to its result."""

    load: Callable[..., Callable[[Any], Any]]
    folders: tuple[Path, ...]  # a worker on another machine gets copies
    settings: tuple[Any, ...] = ()


@contextlib.contextmanager
def over(scale: Scale, compute: Compute, job: Job, here: Callable[[], Callable[[Any], Any]] | None = None) -> Iterator[Work]:
    """What does a job's batches, as section scale says. Nothing begins before there are batches.

    `here` stands for `job.load` in this process, where it has the model already.
    """
    with contextlib.ExitStack() as stack:

        def work(batches: Sequence[Any]) -> Iterable[Any]:
            if not batches:
                return ()
            if scale.engine == "local":
                return map(here() if here else job.load(*job.folders, compute, *job.settings), batches)
            from tasks.spread.cluster import workers

            return stack.enter_context(workers(scale, compute, job))(batches)

        yield work
