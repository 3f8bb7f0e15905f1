"""The Ray that workers run in: one of our own on this machine for the time of a stage, or a cluster that is there already.

Ours listens on loopback, asks everybody for a token that only this stage and its workers know, has no dashboard, and leaves
nothing: its folder and all its processes go with the stage (keeper.py). To a cluster go the code of `tasks` and the settings
of this process; packages must be there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tasks
from tasks import environment
from tasks.errors import ParamsError, ServiceError
from tasks.spread import keeper

STORE = 128 * 2**20  # bytes of shared memory for batches and their results; the models are read from the disk
LONGEST = 16  # characters of a folder for temporary files: with ours below it, the path of a socket must not exceed 107
OURS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's word for: this machine alone. Everything listens on loopback
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # as the stage is, and not 15 below it
}


def check_installed() -> None:
    """ParamsError where there is no Ray."""
    if importlib.util.find_spec("ray") is None:
        raise ParamsError("scale.engine", "is ray, and the package ray is not installed",
                          "install it (make setup, or the extra ray of pyproject.toml), or take local")


@contextlib.contextmanager
def own(cpus: int, gpus: int) -> Iterator[None]:
    """Ray on this machine, with room for so many; it ends with the block, and with this process in any case."""
    folder = tempfile.mkdtemp(prefix=keeper.PREFIX, dir=temporary())
    kept = subprocess.Popen([sys.executable, "-I", "-S", keeper.__file__, folder], stdin=subprocess.PIPE, start_new_session=True)
    os.environ.update({**OURS, keeper.MARK: folder})
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # Ray reads it once a process
    try:
        import ray  # after its settings

        with _told("scale.engine", "ray cannot start on this machine"):
            ray.init(address="local", num_cpus=cpus, num_gpus=gpus, include_dashboard=False, object_store_memory=STORE,
                     log_to_driver=False, logging_level="ERROR", _temp_dir=folder)
        yield
    finally:
        _leave()
        del os.environ[keeper.MARK]
        kept.stdin.close()
        kept.wait()


def temporary() -> str:
    """Where our Ray has its folder."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= LONGEST else "/tmp"


@contextlib.contextmanager
def joined(address: str, seconds: float) -> Iterator[None]:
    """A cluster that is there; ServiceError where it has not answered after so many seconds."""
    import ray

    code = str(Path(tasks.__file__).parent)
    names = (*environment.SETTINGS, *environment.ANY_X86, "OMP_NUM_THREADS")  # in force before a worker loads a library
    env = {"py_modules": [code], "excludes": ["__pycache__"],
           "env_vars": {name: os.environ[name] for name in names if name in os.environ}}
    ended: list[BaseException | None] = []

    def join() -> None:
        try:
            ray.init(address=address, runtime_env=env, log_to_driver=False, logging_level="ERROR")
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    # Ray asks a silent address for ever. The thread is left to it; it ends with this process.
    thread = threading.Thread(target=join, name="joins-ray", daemon=True)
    thread.start()
    thread.join(seconds)
    place = f"scale.address {address}"
    if not ended:
        raise ServiceError(place, f"no Ray cluster has let us in within {seconds:.0f} s",
                           "start it, correct the address, or set RAY_AUTH_MODE and RAY_AUTH_TOKEN as its machines have them; "
                           "host:port is for its own machines, ray://host:port for others")
    with _told(place, "cannot be joined"):
        if ended[0] is not None:
            raise ended[0]
    try:
        yield
    finally:
        _leave()


def _leave() -> None:
    if "ray" in sys.modules:
        import ray

        ray.shutdown()


@contextlib.contextmanager
def _told(place: str, what: str) -> Iterator[None]:
    """Whatever Ray raises while it begins, of a dozen kinds, as a ServiceError."""
    try:
        yield
    except Exception as error:
        raise ServiceError(place, f"{what} ({said(error)})", "mend that, or take scale.engine: local") from error


def said(error: Any) -> str:
    """What an error of Ray says, in short: its first line and its last, which has the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {' … '.join(dict.fromkeys((lines[0], lines[-1])))}"[:400]
