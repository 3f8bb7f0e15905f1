"""Ray: workers begin, batches go out to whoever is free, results come back in the order of the batches.

A worker that dies is started again by Ray and its batches are done again, which gives the same bytes. One that Ray cannot
keep alive, a cluster that has lost machines, and one that has no room are ServiceErrors after a bounded time.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tasks.errors import ParamsError, ServiceError
from tasks.params import Compute, Scale
from tasks.progress import log
from tasks.spread import Job
from tasks.spread.starting import check_installed, first_line, joined, own
from tasks.spread.worker import Files, Worker, pack, stack
from tasks.training.models import device_of

AGAIN = 3  # times that a dead worker is started again, and that a batch is done again
LOOK = 20.0  # seconds without a result after which we look whether the workers' machines are still there


@contextlib.contextmanager
def workers(scale: Scale, compute: Compute, job: Job) -> Iterator[Callable[[Sequence[Any]], Iterable[Any]]]:
    """Workers that are ready for batches, until the block ends."""
    check_installed()
    if compute.device == "auto":  # what one process would take, not what each machine has
        compute = compute.model_copy(update={"device": device_of(compute).type})
    place = f"scale.address {scale.address}" if scale.address else "Ray on this machine"
    wanted = scale.workers
    if scale.address is None:
        gpus = _gpus(compute)
        wanted = min(wanted, gpus) if gpus else wanted
        ray_ = own(wanted * compute.threads, gpus)
    else:
        ray_ = joined(scale.address, scale.start_seconds)
    with ray_, _in_our_words(place):
        folders = None if scale.address is None else [pack(folder) for folder in job.folders]
        if folders is None:
            job = Job(job.load, tuple(folder.resolve() for folder in job.folders), job.settings)
        crew = _begin(scale, compute, job, wanted, place)
        log(f"{len(crew)} workers, {'a GPU' if compute.device == 'cuda' else f'{compute.threads} threads'} each: {place}")
        yield lambda batches: _results(crew, batches, folders, compute, scale.start_seconds, place)


def _begin(scale: Scale, compute: Compute, job: Job, wanted: int, place: str) -> list[Any]:
    """Workers that have begun and are as this process is; those for which there is no room are done without."""
    import ray

    kind = ray.remote(num_cpus=compute.threads, num_gpus=int(compute.device == "cuda"), max_restarts=AGAIN,
                      max_task_retries=AGAIN, scheduling_strategy="SPREAD")(Worker)
    asked = {worker.begin.remote(): worker for worker in [kind.remote(job, compute) for _ in range(wanted)]}
    ready, late = ray.wait(list(asked), num_returns=wanted, timeout=scale.start_seconds)
    if not ready:
        each = "a GPU" if compute.device == "cuda" else f"{compute.threads} processors (compute.threads)"
        raise ServiceError(place, f"no worker has begun within {scale.start_seconds:.0f} s; it needs {each}",
                           "make room there, or wait longer: scale.start_seconds")
    for answer in late:
        ray.kill(asked[answer])
    if late:
        log(f"warning: {place} had room for {len(ready)} of {wanted} workers within {scale.start_seconds:.0f} s")
    mine = stack(compute)
    for answer in ready:
        told = _opened(ray.get(answer))
        if mine.get("GPU") == "none":  # this machine only hands out the work: then the workers must be alike
            mine["GPU"] = told["GPU"]
        if other := [f"{name} {told.get(name)} there, {value} here" for name, value in mine.items() if told.get(name) != value]:
            raise ServiceError(place, f"a worker would give other bytes: {'; '.join(other)}",
                               "let its machines have the packages of requirements.lock and one kind of processor or GPU "
                               "(compute.reproducible: any-x86 bridges processors), or take scale.engine: local")
    return [asked[answer] for answer in ready]


def _results(crew: Sequence[Any], batches: Sequence[Any], folders: list[Files] | None, compute: Compute, patience: float,
             place: str) -> Iterator[Any]:
    """Results in the order of the batches. A worker has two at a time: when it has done one, the next is there."""
    import ray

    todo, free = deque(enumerate(batches)), deque([*crew, *crew])
    flying: dict[Any, tuple[int, Any]] = {}
    done: dict[int, Any] = {}
    due, lost_since = 0, None
    while todo or flying:
        while todo and free:
            number, batch = todo.popleft()
            worker = free.popleft()
            flying[worker.do.remote(batch, folders)] = (number, worker)
        ready, _ = ray.wait(list(flying), timeout=LOOK)
        if not ready:
            lost_since = None if _room(compute) >= len(crew) else lost_since or time.monotonic()
            if lost_since and time.monotonic() - lost_since > patience:
                raise ServiceError(place, f"has lost machines: no room for {len(crew)} workers since {patience:.0f} s",
                                   "run again when it is well, or with fewer scale.workers; what is saved is kept")
        for answer in ready:
            number, worker = flying.pop(answer)
            done[number] = _opened(ray.get(answer))
            free.append(worker)
        while due in done:
            yield done.pop(due)
            due += 1


def _opened(answer: tuple[Any, Exception | None]) -> Any:
    """A worker's result; its error is raised here as it was there."""
    result, error = answer
    if error is not None:
        raise error
    return result


def _room(compute: Compute) -> int:
    """Workers for which the machines that are there have room, were they empty."""
    import ray

    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if compute.device == "cuda":
        return sum(int(each.get("GPU", 0)) for each in there)
    return sum(int(each.get("CPU", 0) // compute.threads) for each in there)


def _gpus(compute: Compute) -> int:
    """GPUs of this machine, where they are to be used."""
    if compute.device != "cuda":
        return 0
    import torch

    if not torch.cuda.is_available():
        raise ParamsError("compute.device", "is cuda and this machine has no usable GPU", "take auto or cpu")
    return torch.cuda.device_count()


@contextlib.contextmanager
def _in_our_words(place: str) -> Iterator[None]:
    """Ray's own failures as ServiceErrors; an error in a worker's code keeps its traceback."""
    import ray.exceptions

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ServiceError(place, f"the work has failed there ({first_line(error)})",
                           "run again; where workers die of memory, take fewer scale.workers or a smaller batch_size") from error
