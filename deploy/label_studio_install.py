"""The Label Studio server in an environment of its own: its pins and ours cannot live in one.

`build/label-studio` is complete or it does not count: a marker with the hash of deploy/label-studio.lock is written last,
and whatever lies there without it is made again. So does the empty database: the server needs a minute to lay it out,
which is done once here and copied from then on.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tasks.errors import ServiceError
from tasks.files import read_json, sha256_file, write_json

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "deploy" / "label-studio.lock"
HOME = ROOT / "build" / "label-studio"
DATABASE = "label_studio.sqlite3"  # its name in a data folder
QUIET = {"LATEST_VERSION_CHECK": "false", "COLLECT_ANALYTICS": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": ""}
_PLAIN = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


def version(lock: Path = LOCK) -> str:
    """The server's version, as the lock has it."""
    found = re.search(r"^label-studio==(\S+)$", lock.read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def installed(home: Path = HOME, lock: Path = LOCK) -> bool:
    """Whether exactly this lock was installed in exactly this folder."""
    marker = home / "COMPLETE.json"
    return marker.is_file() and read_json(marker) == _name(home, lock) and (home / "venv" / "bin" / "python").exists()


def install(home: Path = HOME, lock: Path = LOCK) -> Path:
    """Install the lock unless it is there; returns the environment. A killed installation is simply begun again."""
    with _alone(home):
        where = home / "venv"
        if not installed(home, lock):
            (home / "COMPLETE.json").unlink(missing_ok=True)
            shutil.rmtree(where, ignore_errors=True)
            print(f"label-studio {version(lock)}: installing into {where} (0.8 GB)", flush=True)
            _packages(where, lock)
            write_json(home / "COMPLETE.json", _name(home, lock))
        return where


def empty_database(home: Path = HOME, lock: Path = LOCK) -> Path:
    """A database with tables and nobody in it, made once for a lock by the server itself."""
    where = install(home, lock)
    kept = home / f"empty-{sha256_file(lock)[:12]}.sqlite3"
    with _alone(home):
        if not kept.is_file():
            part = home / "empty.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            print("label-studio: laying out an empty database (once; about a minute)", flush=True)
            settings = {"LABEL_STUDIO_BASE_DATA_DIR": str(part), **QUIET}
            run([str(where / "bin" / "label-studio"), "init", "--quiet"], {**plain(os.environ), **settings}, part)
            os.replace(part / DATABASE, kept)
            shutil.rmtree(part)
    return kept


def plain(env: Mapping[str, str]) -> dict[str, str]:
    """Of an environment what a program needs to run. The server reads names as short as HOST, PORT, DEBUG and CI."""
    return {name: env[name] for name in _PLAIN if name in env} | {"PYTHONNOUSERSITE": "1"}


def run(words: list[str], env: Mapping[str, str], cwd: Path) -> None:
    """A step that must succeed; ServiceError with its last words when it does not."""
    done = subprocess.run(words, env=dict(env), cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-800:]
        what = f"{Path(words[0]).name} {words[1]} failed: {said}"
        raise ServiceError("label-studio", what, "mend it and run make label-studio again")


def _packages(where: Path, lock: Path) -> None:
    """With uv in seconds, else with pip in minutes. A lock needs no resolver, so nothing may come in beside it."""
    uv = shutil.which("uv") or shutil.which(str(ROOT / ".boot" / "bin" / "uv"))
    env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    if uv:
        run([uv, "venv", "--quiet", "--python", sys.executable, str(where)], env, where.parent)
        run([uv, "pip", "sync", "--quiet", "--python", str(where / "bin" / "python"), str(lock)], env, where.parent)
    else:
        venv.create(where, with_pip=True, symlinks=True)
        run([str(where / "bin" / "pip"), "install", "--quiet", "--no-deps", "--requirement", str(lock)], env, where.parent)


def _name(home: Path, lock: Path) -> dict[str, str]:
    """What the marker says: scripts in an environment name its folder, so a checkout that was moved installs again."""
    return {"lock": sha256_file(lock), "home": str(home.resolve()), "python": sys.version.split()[0]}


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One at a time: two test runs side by side install once."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
