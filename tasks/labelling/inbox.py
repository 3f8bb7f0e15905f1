"""From outside data/ into it: batches of rows land in .nightshift/inbox, are checked, and are moved in under one lock.

Nothing may write to data/ while stages run (DVC hashes a dependency after the command), so whoever collects only lands
batches, and `admit` moves them in while no night is running. Landing and admitting twice changes nothing: a row replaces
the one with its key.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tasks.files import canonical_json, write_atomic
from tasks.params import Params

INBOX = Path(".nightshift/inbox")
QUARANTINE = Path(".nightshift/quarantine")


@dataclass(frozen=True)
class Batch:
    """Rows for one file of data/."""

    file: str  # below data/, such as preferences/label-studio.jsonl
    key: str  # field that names a row: annotation, or id
    rows: list[dict[str, Any]]
    remove: list[str] = field(default_factory=list)  # keys whose rows go: deleted where they came from


@dataclass(frozen=True)
class Admitted:
    """What became of the inbox: file below data/ → rows."""

    added: dict[str, int]
    replaced: dict[str, int]
    removed: dict[str, int]
    refused: list[str]  # a line a row, quarantined
    tracked: str | None = None  # hash that data.dvc names now; None when nothing changed


def land(root: Path, batch: Batch) -> Path:
    """Write a batch into the inbox, whole or not at all; returns its file."""
    content = canonical_json(asdict(batch))
    path = root / INBOX / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
    write_atomic(path, content)
    return path


def admit(root: Path, params: Params) -> Admitted:
    """Check and move in what lies in the inbox, then `dvc add data`. The caller holds the night's lock."""
    raise NotImplementedError
