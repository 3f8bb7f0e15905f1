"""What a night needs of the machine: Python, packages, compiler, git, disk, processors, memory, GPU."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import shutil
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from tasks import git as repository
from tasks.doctor.findings import Finding, Place, broken, note, ok, output, size, some, warning
from tasks.errors import NightshiftError

LEAST_DISK, LOW_DISK = 0.5e9, 2e9  # bytes: below the first a night may not end, below the second it soon will not
NIGHTS = 10  # for which there should be room
STAGE, WEIGHT = 1.1e9, 16  # bytes of memory of a stage, and of it for each parameter of the base: measured with the starter
#                            (2.2 GB for two stages) and Gemma 3 270M (9 to 11 GB)
CGROUP = Path("/sys/fs/cgroup")


def python(place: Place) -> Iterator[Finding]:
    """The version that pyproject.toml asks for."""
    from packaging.specifiers import SpecifierSet

    file, version = place.checkout / "pyproject.toml", platform.python_version()
    wanted = tomllib.loads(file.read_text(encoding="utf-8"))["project"].get("requires-python", "") if file.is_file() else ""
    if version in SpecifierSet(wanted):
        yield ok(f"Python {version}")
    else:
        yield broken(f"Python {version} runs this, and {file.name} asks for {wanted}",
                     "rm -r .venv && make setup, then .venv/bin/nightshift doctor")


def packages(place: Place) -> Iterator[Finding]:
    """requirements.lock against what is installed."""
    from tasks.reproduce.stack import installed

    lock = place.root / "requirements.lock"
    if not lock.is_file():
        yield note("there is no requirements.lock: packages are not compared")
        return
    pins = lock.read_text(encoding="utf-8").splitlines()
    wrong = {name.removeprefix("installed."): change for name, change in installed(pins).items()}
    absent = [name for name, change in wrong.items() if change.endswith("not installed")]
    other = [f"{name} ({change})" for name, change in wrong.items() if name not in absent]
    if absent:
        yield broken(f"not installed in {sys.prefix}: {some(absent)}", "rm -f .venv/.ready && make setup")
    if other:
        yield warning(f"packages of other versions than requirements.lock has, so other bytes: {some(other)}",
                      "rm -f .venv/.ready && make setup")
    if not wrong:
        yield ok(f"{sum('==' in line for line in pins)} packages as requirements.lock has them")


def compiler(place: Place) -> Iterator[Finding]:
    """What stage quantize builds its kernel with, on first use."""
    words = shlex.split(os.environ.get("CXX") or "c++")
    done = output([*words, "--version"], place.root) if shutil.which(words[0]) else None
    if done is None or done.returncode:
        yield broken(f"no C++ compiler ({words[0]}): stage quantize cannot build its kernel",
                     "apt-get install g++, or export CXX=… with the path of one")
        return
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        yield broken("Python.h is missing: stage quantize cannot build its kernel",
                     f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev, or a Python that uv installs")
        return
    yield ok(f"C++ compiler: {done.stdout.strip().splitlines()[0]}")


def git(place: Place) -> Iterator[Finding]:
    """The program, and whose name is on commits."""
    done = output(["git", "--version"], place.root)
    if done is None or done.returncode:
        yield broken("git is not installed: nights cannot commit what they made", "apt-get install git")
        return
    told = {key: output(["git", "config", key], place.root) for key in repository.FALLBACK}
    version = done.stdout.split()[2] if len(done.stdout.split()) > 2 else "?"
    if all(one is not None and one.stdout.strip() for one in told.values()):
        yield ok(f"git {version}, with a name for commits")
    else:
        yield note(f"git {version} knows no name here: nights sign as "
                   f"{repository.FALLBACK['user.name']} <{repository.FALLBACK['user.email']}>; git config user.name, user.email")


def disk(place: Place) -> Iterator[Finding]:
    """Room where DVC's cache lies, and where nights run, against what the last one wrote."""
    need = 2 * _written(place.root)  # in the cache, and a copy in the workspace
    folders = {"the nights' folder": place.root}
    with contextlib.suppress(NightshiftError):  # no DVC here: area project says so
        folders = {"DVC's cache": cache_folder(place.root), **folders}
    seen: set[int] = set()
    for name, folder in folders.items():
        at = next(one for one in (folder, *folder.parents) if one.exists())
        if at.stat().st_dev in seen:
            continue
        seen.add(at.stat().st_dev)
        free = shutil.disk_usage(at).free
        told = f"{size(free)} free for {name}" + (f", a night writes up to {size(need)}" if need else "")
        if free < max(need, LEAST_DISK):
            yield broken(f"{told}: the next one may not end", _room(at))
        elif free < max(NIGHTS * need, LOW_DISK):
            yield warning(told, _room(at))
        else:
            yield ok(told)


def _room(at: Path) -> str:
    return (f"nightshift gc, or make room on the disk of {at}, or move the cache to a larger one: "
            "dvc cache dir --local FOLDER")


def cache_folder(root: Path) -> Path:
    """Where DVC keeps the bytes of this project."""
    from tasks.doctor.project import dvc

    with dvc(root) as repo:
        return Path(repo.cache.local_cache_dir)


def _written(root: Path) -> int:
    import yaml

    lock = root / "dvc.lock"
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages") or {} if lock.is_file() else {}
    return sum(out.get("size", 0) for stage in stages.values() for out in stage.get("outs", []))


def processors(place: Place) -> Iterator[Finding]:
    """Cores against compute.threads × nightly.parallel, and × the workers of a stage that Ray spreads on this machine."""
    if place.params is None:
        return
    scale = place.params.scale
    cores, threads, parallel = usable_cores(), place.params.compute.threads, place.params.nightly.parallel
    told = f"{cores:g} cores, compute.threads {threads} × nightly.parallel {parallel}"
    if threads > cores:
        yield warning(f"{told}: the threads of one training wait for each other",
                      f"compute.threads: {max(1, int(cores))} in params.yaml (another number may change the bits of a model)")
    elif threads * parallel > 2 * cores:
        yield warning(f"{told}: stages side by side are slower than one after the other",
                      f"nightly.parallel: {max(1, int(2 * cores / threads))} in params.yaml")
    else:
        yield ok(told)
    if scale.engine == "ray" and scale.address is None and threads * scale.workers > cores:
        yield warning(f"{cores:g} cores, compute.threads {threads} × scale.workers {scale.workers}: they wait for each other",
                      f"scale.workers: {max(1, int(cores / threads))} in params.yaml, or engine: local")


def usable_cores() -> float:
    """Cores that this process may use: its own limit and its container's."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = _of_cgroup("cpu.max").partition(" ")
    return min(cores, int(quota) / int(period)) if quota.isdigit() and period.isdigit() else cores


def memory(place: Place) -> Iterator[Finding]:
    """Memory against what so many stages side by side have taken, by the size of the base."""
    facts = Path("/proc/meminfo")
    if place.params is None or not facts.is_file():
        return
    told = dict(line.split(":", 1) for line in facts.read_text(encoding="utf-8").splitlines())
    total, free = (int(told[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit = _of_cgroup("memory.max")
    total = min(total, int(limit)) if limit.isdigit() else total
    need = place.params.nightly.parallel * (STAGE + WEIGHT * _parameters(place.root))
    if total < need:
        yield warning(f"{size(total)} of memory, and a night may take {size(need)}",
                      "nightly.parallel: 1 and smaller batch_size in params.yaml, or more memory")
    elif min(free, total) < need:
        yield note(f"{size(min(free, total))} of {size(total)} memory are free now, and a night may take {size(need)}")
    else:
        yield ok(f"{size(min(free, total))} of {size(total)} memory free, a night may take {size(need)}")


def _parameters(root: Path) -> int:
    from tasks.files import read_json

    path = root / "metrics" / "base.json"
    told = read_json(path) if path.is_file() else {}
    return int(told.get("parameters") or 0) if isinstance(told, dict) else 0


def _of_cgroup(name: str) -> str:
    try:
        return (CGROUP / name).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def gpu(place: Place) -> Iterator[Finding]:
    """Whether compute.device can be had. Asked of the driver: importing torch would take longer than all other checks."""
    if place.params is None or (device := place.params.compute.device) == "cpu":
        return
    found = gpus()
    if found and metadata.version("torch").endswith("+cpu"):
        told = f"{some(found)} is here, and torch is a build for processors alone"
        remedy = "install torch as requirements.lock has it: rm -f .venv/.ready && make setup"
        yield broken(told, remedy) if device == "cuda" else warning(told, remedy)
    elif found:
        yield note(f"compute.device {device}: {some(found)}")
    elif device == "cuda":
        yield broken("compute.device is cuda, and no GPU answers here",
                     "compute.device: auto in params.yaml, or look at the driver: nvidia-smi")
    else:
        yield ok("no GPU: stages run on the processor")


def gpus(proc: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Names of the NVIDIA GPUs that this process may use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return []
    asks = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    done = output(asks, Path("/"), 5) if shutil.which(asks[0]) else None
    if done is not None:
        return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []
    told = [path.read_text(encoding="utf-8") for path in sorted(proc.glob("*/information"))]
    return [line.partition(":")[2].strip() for text in told for line in text.splitlines() if line.startswith("Model:")]
