"""Environments of their own for what cannot live in ours: one a lock file, whole or not at all.

A folder of build/ counts when a marker with the lock's hash lies in it; the marker is written last, so whatever a killed
installation left is made again. The same holds for a lock that changed and for a checkout that was moved, since scripts
in an environment name its folder.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ServiceError
from tasks.files import read_json, sha256_file, write_json

ROOT = Path(__file__).resolve().parent.parent
_PLAIN = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Environment:
    """What is installed, where, and the make target that does it."""

    target: str  # make target, and the thing that errors name
    package: str  # the lock's chief package, whose version is shown
    size: str  # of the installation, in words
    lock: Path
    home: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.home / "venv" / "bin" / "python"

    def version(self, package: str | None = None) -> str:
        """A version as the lock has it."""
        found = re.search(rf"^{re.escape(package or self.package)}==(\S+)$", self.lock.read_text(), re.MULTILINE)
        return found[1] if found else "unknown"

    def installed(self) -> bool:
        """Whether exactly this lock was installed in exactly this folder."""
        marker = self.home / "COMPLETE.json"
        return marker.is_file() and read_json(marker) == self._name() and self.python.exists()

    def install(self) -> Path:
        """Install the lock unless it is there; returns the environment. A killed installation is simply begun again."""
        where = self.home / "venv"
        with alone(self.home):
            if not self.installed():
                (self.home / "COMPLETE.json").unlink(missing_ok=True)
                shutil.rmtree(where, ignore_errors=True)
                print(f"{self.package} {self.version()}: installing into {where} ({self.size})", flush=True)
                self._packages(where)
                write_json(self.home / "COMPLETE.json", self._name())
        return where

    def run(self, words: Sequence[str], env: Mapping[str, str], cwd: Path) -> str:
        """A step that must succeed, its output; ServiceError with its last words when it does not."""
        done = subprocess.run(list(words), env=dict(env), cwd=cwd, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-800:]
            what = f"{Path(words[0]).name} {words[1]} failed: {said}"
            raise ServiceError(self.target, what, f"mend it and run make {self.target} again")
        return done.stdout

    def _packages(self, where: Path) -> None:
        """With uv in seconds, else with pip in minutes. A lock needs no resolver, so nothing may come in beside it."""
        uv = shutil.which("uv") or shutil.which(str(ROOT / ".boot" / "bin" / "uv"))
        env = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        python = str(where / "bin" / "python")
        if uv:
            self.run([uv, "venv", "--quiet", "--python", sys.executable, str(where)], env, where.parent)
            words = [uv, "pip", "sync", "--quiet", "--python", python, str(self.lock)]
        else:
            venv.create(where, with_pip=True, symlinks=True)
            words = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(self.lock)]
        try:
            self.run(words, env, where.parent)
        except ServiceError as error:
            remedy = f"it needs a package registry once: go online, or mend it, and run make {self.target} again"
            raise ServiceError(error.thing, error.what, remedy) from None

    def _name(self) -> dict[str, str]:
        """What the marker says."""
        return {"lock": sha256_file(self.lock), "home": str(self.home.resolve()), "python": sys.version.split()[0]}


def plain(env: Mapping[str, str]) -> dict[str, str]:
    """Of an environment what a program needs to run; servers read names as short as HOST, PORT, DEBUG and CI."""
    return {name: env[name] for name in _PLAIN if name in env} | {"PYTHONNOUSERSITE": "1"}


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One at a time: two test runs side by side install once."""
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "install.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
