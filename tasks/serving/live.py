"""The release that answers now, and the thread that follows the pointer.

A new release is loaded completely beside the old one; then one reference changes. A request takes the reference once
and finishes with it, so the old one goes when its last request ends. A release that cannot be loaded changes nothing
but what `state` says.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks import records
from tasks.errors import NightshiftError
from tasks.params import Params
from tasks.serving import parts, releases
from tasks.serving.releases import LoadedRelease

RETRY_SECONDS = 60.0  # bytes may have been fetched meanwhile
log = logging.getLogger("nightshift.serve")


@dataclass(frozen=True)
class State:
    """What is served since when, and why it is not what LIVE names."""

    release: LoadedRelease
    since: datetime
    error: str | None = None


class Live:
    """Follows releases/LIVE. Made with the live release loaded, or not at all."""

    def __init__(self, root: Path, params: Params, load: Callable[..., LoadedRelease] = releases.load):
        """Loads the live release; what that raises is raised."""
        self._root, self._params, self._load = root, params, load
        self._state = State(load(root, params), datetime.now(UTC))
        self._failed: tuple[str | None, float] | None = None  # what could not be loaded, and when
        self._before: list[weakref.ref[LoadedRelease]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="follows-live", daemon=True)
        parts.prune(root, records.live(root))

    @property
    def state(self) -> State:
        """One consistent view of it."""
        return self._state

    def current(self) -> LoadedRelease:
        """The release to answer with. Take it once a request."""
        return self._state.release

    def start(self) -> None:
        """Begin to follow the pointer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following; a load that is under way is finished."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look at the pointer once, and follow it."""
        wanted, state = records.live(self._root), self._state
        if wanted == state.release.id:
            if state.error:
                self._state, self._failed = State(state.release, state.since), None
        elif self._failed is None or self._failed[0] != wanted or time.monotonic() - self._failed[1] >= RETRY_SECONDS:
            self._switch(wanted)
        self._before = [ref for ref in self._before if ref() is not None]
        if self._before:
            gc.collect()  # models hold cycles; without this their memory goes some time later

    def _switch(self, wanted: str | None) -> None:
        state = self._state
        try:
            new = self._load(self._root, self._params, wanted)
        except Exception as error:  # whatever is wrong with it, the old one goes on
            reason = str(error) if isinstance(error, NightshiftError) else f"{type(error).__name__}: {error}"
            message = f"{wanted or 'releases/LIVE'} cannot be served: {reason}"
            if state.error != message:
                log.error("%s; %s goes on", message, state.release.id)
            self._state, self._failed = State(state.release, state.since, message), (wanted, time.monotonic())
            return
        self._state, self._failed = State(new, datetime.now(UTC)), None
        self._before.append(weakref.ref(state.release))
        log.info("%s serves, after %s", new.id, state.release.id)
        parts.prune(self._root, new.id)

    def _watch(self) -> None:
        while not self._stop.wait(self._params.serve.poll_seconds):
            try:
                self.look()
            except Exception as error:  # a folder that cannot be removed, a pointer that cannot be read: try again
                log.error("cannot follow releases/LIVE: %s: %s", type(error).__name__, error)
