"""Files in DVC's cache by the hash that dvc.lock and data.dvc name them by.

Read here without DVC, whose import alone takes longer than a whole trace; a cache that has been moved by this repository's
.dvc/config is found, one that a person's or a machine's own configuration has moved is not, and then the answer is None as
it is for what was never fetched.
"""

from __future__ import annotations

import configparser
import json
from pathlib import Path

DIRECTORY = ".dir"  # ends the hash of a folder


def at(root: Path, md5: str) -> Path | None:
    """Where the bytes of a hash lie; None where they are not in the cache."""
    path = _folder(root) / "files" / "md5" / md5[:2] / md5[2:]
    return path if path.is_file() else None


def listing(root: Path, md5: str) -> dict[str, str] | None:
    """File → hash of a folder; None where the cache does not have its list."""
    path = at(root, md5) if md5.endswith(DIRECTORY) else None
    return {item["relpath"]: item["md5"] for item in json.loads(path.read_bytes())} if path else None


def _folder(root: Path) -> Path:
    told = configparser.ConfigParser(interpolation=None)
    told.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    return root / ".dvc" / told.get("cache", "dir", fallback="cache")
