"""What runs in a worker: it settles its process as the stage's is settled, loads the job's model once, does batches.

A worker tells what its bytes depend on, and the stage compares that with its own: the code, the packages that compute, the
kind of processor or GPU. On another machine the folders that the job reads come through Ray's object store and are gone from the
disk as soon as the model is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import environment
from tasks.errors import NightshiftError
from tasks.params import Compute
from tasks.spread import Job, keeper

CODE = Path(__file__).parents[1]
PACKAGES = ("torch", "transformers", "tokenizers", "sentence-transformers", "peft", "safetensors", "numpy")
MODEL = "nightshift-model-"  # folders for temporary files begin with it

Files = dict[str, Any]  # relative path → reference to the bytes in Ray's object store, as uint8


class Worker:
    """One process with a model. Our own errors are returned beside the result: raised, Ray would wrap them."""

    def __init__(self, job: Job, compute: Compute):
        """Nothing that takes time or can fail: Ray does this again when it starts a worker again."""
        self._job, self._compute = job, compute
        self._work: Callable[[Any], Any] | None = None

    def begin(self) -> tuple[dict[str, str] | None, NightshiftError | None]:
        """Settle the process, and say what its bytes depend on."""
        try:
            environment.apply()
            environment.pin(self._compute)
            return stack(self._compute), None
        except NightshiftError as error:
            return None, error

    def do(self, batch: Any, folders: list[Files] | None) -> tuple[Any, NightshiftError | None]:
        """The result of one batch. The first one loads the model, also after a restart; `folders`: what the job reads, packed,
        where this is another machine."""
        try:
            if self._work is None:
                environment.apply()
                environment.pin(self._compute)
                self._work = self._load(folders)
            return self._work(batch), None
        except NightshiftError as error:
            return None, error

    def _load(self, packed: list[Files] | None) -> Callable[[Any], Any]:
        if packed is None:
            return self._job.load(*self._job.folders, self._compute, *self._job.settings)
        unpacked = Path(tempfile.mkdtemp(prefix=MODEL))
        with keeper.held(unpacked, MODEL):
            try:
                folders = [unpacked / str(number) / folder.name for number, folder in enumerate(self._job.folders)]
                for folder, files in zip(folders, packed, strict=True):
                    unpack(files, folder)
                return self._job.load(*folders, self._compute, *self._job.settings)
            finally:
                shutil.rmtree(unpacked, ignore_errors=True)


def stack(compute: Compute) -> dict[str, str]:
    """What decides the bytes of a batch beside the batch: name → version or make, of this machine."""
    told = {"tasks/": code(), "Python": ".".join(platform.python_version_tuple()[:2])}
    for name in PACKAGES:
        try:
            told[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            told[name] = "absent"
    if compute.device == "cuda":
        import torch

        told["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    elif compute.reproducible == "this-cpu":
        told["processor"] = environment.processor() or platform.machine()
    return told


def code() -> str:
    """A hash of all source files of `tasks`."""
    digest = hashlib.sha256()
    for path in sorted(CODE.rglob("*.py")):
        digest.update(path.relative_to(CODE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def pack(folder: Path) -> Files:
    """The files of a folder into Ray's object store."""
    import numpy as np
    import ray

    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): ray.put(np.fromfile(path, np.uint8)) for path in paths}


def unpack(files: Files, folder: Path) -> None:
    """The files of `pack` into a folder."""
    import ray

    for name, reference in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ray.get(reference).tofile(path)
