"""Waiting for what another process does. A machine may be busy: only what never comes takes all of the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

PATIENCE = 600.0  # seconds
T = TypeVar("T")


def until(found: Callable[[], T], told: Path | str | Callable[[], object] = "", seconds: float = PATIENCE) -> T:
    """The first true answer of `found`. What stands in the error: a text, the end of a log, or what `told` says by then."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        if time.monotonic() > end:
            said = told.read_text(errors="replace")[-3000:] if isinstance(told, Path) else told() if callable(told) else told
            raise AssertionError(f"waited {seconds:.0f} s in vain: {said}")
        time.sleep(0.1)
    return answer
