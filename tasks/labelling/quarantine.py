"""What could not be taken in, kept with its reason until it can: .nightshift/quarantine, one file a judgement.

The same judgement always has the same file: read again and still wrong it is written over, read again and well its file
goes. So the folder is the list of what somebody has to look at now.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.files import write_json

FOLDER = Path(".nightshift/quarantine")


def keep(root: Path, name: str, content: dict[str, Any]) -> Path:
    """Write one, in the place of what was there under its name."""
    path = root / FOLDER / f"{name}.json"
    # NaN and half characters are no JSON, and just such things end up here
    content = json.loads(json.dumps(content, ensure_ascii=False).encode(errors="replace"), parse_constant=str)
    if not path.is_file() or _read(path) != content:
        write_json(path, content)
        path.chmod(0o600)
    return path


def settle(root: Path, names: Iterable[str]) -> int:
    """Forget those of these names; returns how many there were."""
    return sum(_gone(root / FOLDER / f"{name}.json") for name in names)


def under(root: Path, beginning: str) -> list[str]:
    """Names that begin so."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.json") if path.stem.startswith(beginning))


def everything(root: Path) -> dict[str, dict[str, Any]]:
    """Name → content; a file that is no JSON is none of ours and passed over."""
    read = {path.stem: _read(path) for path in sorted((root / FOLDER).glob("*.json"))}
    return {name: content for name, content in read.items() if isinstance(content, dict)}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _gone(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
