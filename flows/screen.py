"""What a person sees of a night: one line a stage as it ends, a sign of life in between, and what came out."""

from __future__ import annotations

import sys
import threading
import time

QUIET = 30.0  # seconds between two signs of life where there is no terminal


class Screen:
    """Prints to stdout; several threads may use it. `verbose` shows every line of every stage."""

    def __init__(self, verbose: bool = False):
        """A screen for one night."""
        self._verbose = verbose
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, str]] = {}  # stage → start (monotonic), its last line
        self._last = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._width = 10

    def begin(self, headline: str, names: list[str]) -> None:
        """The first line; stage names are lined up from here on."""
        self._width = max((len(name) for name in names), default=10) + 2
        self.line(headline)

    def line(self, text: str) -> None:
        """One line."""
        with self._lock:
            print(f"\r\x1b[K{text}" if self._terminal else text, flush=True)
            self._last = time.monotonic()

    def running(self, stage: str, text: str = "") -> None:
        """A stage has begun, or said something."""
        with self._lock:
            began, _ = self._running.get(stage, (time.monotonic(), ""))
            self._running[stage] = (began, text)
        if self._verbose and text:
            self.line(f"  {stage:<{self._width}}| {text}")

    def ended(self, stage: str, state: str, seconds: float | None = None, note: str = "") -> None:
        """A stage's one line."""
        with self._lock:
            self._running.pop(stage, None)
        took = f"{seconds:>8.1f} s" if seconds is not None else " " * 10
        self.line(f"  {stage:<{self._width}}{state:<8}{took}  {note}".rstrip())

    def tick(self) -> None:
        """A sign of life: rewritten in place on a terminal, now and then elsewhere."""
        with self._lock:
            now = time.monotonic()
            if not self._running or (not self._terminal and now - self._last < QUIET):
                return
            parts = [
                f"{stage} {now - began:.0f} s" + (f": {text}" if text else "") for stage, (began, text) in self._running.items()
            ]
            self._last = now
            if self._terminal:
                print(f"\r\x1b[K  {' | '.join(part[:50] for part in parts)}", end="", flush=True)
            else:
                print(*(f"  … {part[:140]}" for part in parts), sep="\n", flush=True)
