"""What people may want to hear of, as events at Prefect's server: a release goes live, the gate holds one back.

Automations there make messages of them (deploy/notifications.py); Prefect's page lists them in any case. An event is posted
and its answer awaited, not queued as by Prefect's `emit_event`: when the process ends or is killed at the next line, it has
arrived. What goes wrong in telling costs a line in the log, never a night.

.nightshift/told.json says what was told last. So a refusal is told once, however often a flow meets it again, and what went
live without a flow, or by one that was killed before it could say so, is told by the next night or reindex.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.events import Event
from prefect.exceptions import MissingContextError
from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from tasks import approval, lock, records
from tasks.errors import DataError
from tasks.files import canonical_json, read_json, write_json

RELEASED, HELD_BACK = "nightshift.released", "nightshift.held-back"
TOLD = lock.WORK / "told.json"
MOST = 1500  # characters of what is said


def harmless(tell: Callable[..., None]) -> Callable[..., None]:
    """Whatever goes wrong is a warning in the run's log."""

    @functools.wraps(tell)
    def safe(*args: Any) -> None:
        try:
            tell(*args)
        except Exception as error:
            with contextlib.suppress(MissingContextError):
                get_run_logger().warning("not told to Prefect: %s", error)

    return safe


@harmless
def released(root: Path, release: str, how: str) -> None:
    """`release` has gone live; `how`, in words."""
    _tell(root, RELEASED, release, f"{release} is live, {how}", live=release)


@harmless
def held_back(root: Path, kind: Literal["release", "documents"], manifest: Mapping[str, Any]) -> None:
    """The gate refuses tonight's candidate, or the live model with tonight's documents."""
    digest = hashlib.sha256(canonical_json(manifest).encode()).hexdigest()
    if _told(root).get(kind) == digest:
        return
    live = records.live(root)
    what = "New documents are" if kind == "documents" else f"Candidate {digest[:8]} is"
    said = f"{what} held back: {'; '.join(records.refusals(manifest))}. {f'{live} stays' if live else 'Nothing is'} live"
    _tell(root, HELD_BACK, digest[:8], said, **{kind: digest})


@harmless
def catch_up(root: Path) -> None:
    """What has gone live since with nobody to tell it. Where nothing was ever told, all know what is live."""
    live, told = records.live(root), _told(root)
    if "live" not in told:
        write_json(root / TOLD, {**told, "live": live})
    elif live and live != told["live"]:
        released(root, live, "by the shell, or by a run that was ended before it could say so")


def _tell(root: Path, event: str, name: str, said: str, **told: str) -> None:
    """Post it, then note it. With no server configured there is nobody to tell, and nothing is noted."""
    if not get_current_settings().api.url:
        return
    run = flow_run.get_id()
    made = Event(
        event=event,
        resource={"prefect.resource.id": f"nightshift.release.{name}", "prefect.resource.name": name},
        related=[{"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}] if run else [],
        payload={"said": approval.one_line(said, MOST)},
    )
    with get_client(sync_client=True) as client:
        client.request("POST", "/events", json=[made.model_dump(mode="json")])
    write_json(root / TOLD, {**_told(root), **told})


def _told(root: Path) -> dict[str, Any]:
    try:
        return read_json(root / TOLD)
    except DataError:
        return {}
