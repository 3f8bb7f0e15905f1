"""Secrets of labelling: from the environment, else from .nightshift/secrets.env, which only its owner may read.

`make label-studio` writes that file on a machine that has set none of them, so that the server and the flows beside it
know the same token with nothing done by hand. Git and DVC ignore the folder. In production set the variables.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from tasks import home
from tasks.errors import ServiceError
from tasks.files import write_atomic

FILE = Path(".nightshift/secrets.env")
TOKEN = "LABEL_STUDIO_API_KEY"  # 40 hex digits, or a personal access token
PASSWORD = "LABEL_STUDIO_PASSWORD"  # of the first user, for `make label-studio` alone
SALT = "NIGHTSHIFT_ANNOTATOR_SALT"
WEBHOOK = "NIGHTSHIFT_WEBHOOK_SECRET"


def value(root: Path, name: str) -> str:
    """A secret; ServiceError where there is none, or where others can read the file."""
    found = os.environ.get(name) or _kept(root).get(name)
    if not found:
        raise ServiceError(name, "is not set", f"export it, or let `make label-studio` write it to {FILE}")
    return found


def ensure(root: Path, names: Sequence[str]) -> dict[str, str]:
    """All of `names`; those that are set nowhere are drawn and kept in the file."""
    kept = _kept(root)
    drawn = {name: secrets.token_hex(20) for name in names if not (os.environ.get(name) or kept.get(name))}
    if drawn:
        content = "".join(f"{name}={text}\n" for name, text in {**kept, **drawn}.items())
        mask = os.umask(0o177)
        try:
            write_atomic(home.shared(root) / FILE, content)
        finally:
            os.umask(mask)
    return {name: os.environ.get(name) or {**kept, **drawn}[name] for name in names}


def _kept(root: Path) -> dict[str, str]:
    path = home.shared(root) / FILE
    if not path.is_file():
        return {}
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ServiceError(str(path), "can be read by others", f"chmod 600 {path}")
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    return {name.strip(): text.strip() for name, _, text in pairs}
