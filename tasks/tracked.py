"""Changes to data/ that DVC knows of: files written whole, then `dvc add`, and only where bytes have changed.

A marker stands from before the first write until DVC has been told, so after a kill in between DVC is told the next time.
The caller holds the night's lock (tasks/lock.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tasks.bootstrap import DATA, track
from tasks.files import fsync_folder, write_atomic

MARKER, ASIDE = Path(".nightshift/untracked"), Path(".nightshift/moving")


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
            # written outside data/ first: what a kill leaves of a half-written file must not become data
            write_atomic(root / ASIDE, content)
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(root / ASIDE, path)
            fsync_folder(path.parent)
        else:
            path.unlink()
    if not pending(root):
        return None
    hash_ = track(root)
    (root / MARKER).unlink()
    return hash_
