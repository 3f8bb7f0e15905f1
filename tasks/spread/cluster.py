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
from tasks.spread.starting import check_installed, joined, own, said
from tasks.spread.worker import Files, Worker, pack, stack
from tasks.training.hardware import device_of

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
        crew = _Crew(scale, compute, job, wanted, place)
        yield lambda batches: crew.results(batches, folders)


class _Crew:
    """Workers, some of which have begun. Those for which there is no room are done without."""

    def __init__(self, scale: Scale, compute: Compute, job: Job, wanted: int, place: str):
        import ray

        kind = ray.remote(num_cpus=compute.threads, num_gpus=int(compute.device == "cuda"), max_restarts=AGAIN,
                          max_task_retries=AGAIN, scheduling_strategy="SPREAD")(Worker)
        self._compute, self._patience, self._place, self._wanted = compute, scale.start_seconds, place, wanted
        self._coming = {worker.begin.remote(): worker for worker in [kind.remote(job, compute) for _ in range(wanted)]}
        self._begun, self._asked, self._lost = 0, time.monotonic(), 0.0
        self._like = stack(compute)

    def results(self, batches: Sequence[Any], folders: list[Files] | None) -> Iterator[Any]:
        """In the order of the batches. A worker has two at a time: when it has done one, the next is there."""
        import ray

        todo, free = deque(enumerate(batches)), deque()
        flying: dict[Any, tuple[int, Any]] = {}
        done: dict[int, Any] = {}
        due = 0
        while todo or flying:
            while todo and free:
                number, batch = todo.popleft()
                worker = free.popleft()
                flying[worker.do.remote(batch, folders)] = (number, worker)
            ready, _ = ray.wait([*flying, *self._coming], timeout=LOOK if flying else self._patience)
            if not ready:
                self._look()
            for answer in ready:
                if answer in self._coming:
                    worker = self._coming.pop(answer)
                    self._check(_opened(ray.get(answer)))
                    free.extend([worker, worker])
                else:
                    number, worker = flying.pop(answer)
                    done[number] = _opened(ray.get(answer))
                    free.append(worker)
            while due in done:
                yield done.pop(due)
                due += 1

    def _check(self, told: dict[str, str]) -> None:
        """Refuse a worker that would give other bytes than this process."""
        if self._like.get("GPU") == "none":  # this machine only hands out the work: then the workers must be alike
            self._like["GPU"] = told["GPU"]
        other = [f"{name} {told.get(name)} there, {value} here" for name, value in self._like.items() if told.get(name) != value]
        if other:
            raise ServiceError(self._place, f"a worker would give other bytes: {'; '.join(other)}",
                               "let its machines have the packages of requirements.lock and one kind of processor or GPU "
                               "(compute.reproducible: any-x86 bridges processors), or take scale.engine: local")
        self._begun += 1
        each = "a GPU" if self._compute.device == "cuda" else f"{self._compute.threads} threads"
        log(f"{self._place}: worker {self._begun} of {self._wanted} has begun, with {each}")

    def _look(self) -> None:
        """Raise where nothing has come for long and nothing will: no worker has begun, or its machine is gone for good."""
        now, room = time.monotonic(), _room(self._compute)
        if not self._begun and now - self._asked >= self._patience:
            each = "a GPU" if self._compute.device == "cuda" else f"{self._compute.threads} processors (compute.threads)"
            raise ServiceError(self._place, f"no worker has begun within {self._patience:.0f} s; it needs {each}",
                               f"there is room for {room}: wait longer (scale.start_seconds), or make room")
        self._lost = 0.0 if room >= self._begun else self._lost or now
        if self._lost and now - self._lost >= self._patience:
            raise ServiceError(self._place, f"has lost machines: {self._begun} workers had begun, and there is room for {room}",
                               "run again when it is well; what is saved is kept")


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
        raise ServiceError(place, f"the work has failed there ({said(error)})",
                           "run again; where workers die of memory, take fewer scale.workers or a smaller batch_size") from error
