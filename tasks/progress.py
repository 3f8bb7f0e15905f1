"""What a stage says while it works: `log` for one line, `bar` around a loop.

On a terminal `bar` is tqdm's; elsewhere (a Prefect log, a CI job) a line every few seconds, so that a long stage is
seen to live without a thousand carriage returns in the file. Nothing that is said here is hashed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tasks import environment

Item = TypeVar("Item")


def log(line: str) -> None:
    """One line on stderr, at once; of the processes of one training the first alone speaks."""
    if not environment.rank():
        print(line, file=sys.stderr, flush=True)


def bar(
    items: Iterable[Item], title: str, *, total: int | None = None, unit: str = "row", every: float = 5.0
) -> Iterator[Item]:
    """Pass `items` on and show how far the loop is. `every`: seconds between two lines where there is no terminal."""
    if total is None and hasattr(items, "__len__"):
        total = len(items)
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=title, total=total, unit=unit, leave=False)
        return
    start = said = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - said >= every:
            said = now
            of = f"/{total}" if total else ""
            log(f"{title}: {done}{of} {unit}s, {done / (now - start):.1f} a second")
        yield item
