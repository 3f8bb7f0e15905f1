"""Changes to data/ that DVC knows of: files written whole, then `dvc add`, and only where bytes have changed.

A marker stands from before the first write until DVC has been told, so after a kill in between DVC is told the next time.
The caller holds the night's lock (tasks/lock.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.bootstrap import DATA, track
from tasks.files import write_atomic

MARKER = Path(".nightshift/untracked")


def pending(root: Path) -> bool:
    """Whether data/ was written to and DVC has not been told."""
    return (root / MARKER).exists()


def write(root: Path, files: Mapping[str, bytes]) -> str | None:
    """Write files below data/ (no bytes: no file); the hash that data.dvc names now, None where there was nothing to do."""
    for name, content in files.items():
        path = root / DATA / name
        if content == (path.read_bytes() if path.is_file() else b""):
            continue
        write_atomic(root / MARKER, "")
        if content:
            write_atomic(path, content)
        else:
            path.unlink()
    if not pending(root):
        return None
    hash_ = track(root)
    (root / MARKER).unlink()
    return hash_
