"""What is told to Prefect's server: once, at last, and never at the cost of a night. A real server, a small release."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from deploy.processes import free_ports
from tasks import promote, records
from tasks.files import read_json, write_json
from tests import minigraph
from tests.test_promote import night as leave
from tests.waiting import until

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path, api) -> Path:
    """A night's candidate, released."""
    leave(tmp_path, "1")
    (tmp_path / "params.yaml").write_text((minigraph.ROOT / "params.yaml").read_text())
    promote.promote(tmp_path, NOON)
    return tmp_path


class Told:
    """What the server has been told, in the order in which it was."""

    def __init__(self, api: str):
        """`api`: its address. What it knows already does not count."""
        self.api, self.seen = api, set()
        self.seen = {one["id"] for one in self._all()}

    def _all(self) -> list[dict]:
        asked = {"filter": {"event": {"prefix": ["nightshift."]}, "order": "ASC"}, "limit": 50}
        return httpx.post(f"{self.api}/events/filter", json=asked, trust_env=False).raise_for_status().json()["events"]

    def __call__(self, least: int) -> list[str]:
        """The first words of each, once there are so many; the server writes them in batches."""
        def fresh() -> list[dict]:
            return [one for one in self._all() if one["id"] not in self.seen]

        new = until(lambda: found if len(found := fresh()) >= least else None, fresh)
        self.seen |= {one["id"] for one in new}
        return [one["payload"]["said"] for one in new]


def test_what_is_live_is_told_once_and_what_went_live_unseen_by_the_next_flow(root, api):
    """What was live before anything was ever told is no news; an empty or torn note is as none."""
    from flows import events

    told, first = Told(api), records.live(root)
    events.catch_up(root)
    leave(root, "2")
    second = promote.promote(root, NOON).release
    for _ in range(2):
        events.catch_up(root)
    promote.rollback(root, NOON)
    events.released(root, first, f"rolled back from {second}")
    events.catch_up(root)
    (root / events.TOLD).write_text('{"live": "20')
    events.catch_up(root)
    assert read_json(root / events.TOLD) == {"live": first}
    events.released(root, first, "last")
    assert told(3) == [f"{second} is live, by the shell, or by a run that was ended before it could say so",
                       f"{first} is live, rolled back from {second}", f"{first} is live, last"]  # fmt: skip


def test_a_refusal_is_told_once_and_another_one_too(root, api):
    """The same candidate in a second night: nothing. Documents that are refused beside it are another matter."""
    from flows import events

    told, live = Told(api), records.live(root)
    leave(root, "3", good=False)
    digest, manifest = records.candidate(root)
    for _ in range(2):
        events.held_back(root, "release", manifest)
        events.held_back(root, "documents", {**manifest, "model_of": live})
    events.released(root, live, "last")
    assert told(3) == [f"Candidate {digest[:8]} is held back: correct: 3. {live} stays live",
                       f"New documents are held back: correct: 3. {live} stays live", f"{live} is live, last"]  # fmt: skip


def test_what_was_told_has_arrived_when_the_process_is_killed(root, api):
    """kill -9 at the line after."""
    told, live = Told(api), records.live(root)
    script = ("import os, sys; from pathlib import Path; from flows import events; "
              "events.released(Path(sys.argv[1]), sys.argv[2], 'and then gone'); os.kill(os.getpid(), 9)")  # fmt: skip
    words = [sys.executable, "-c", script, str(root), live]
    done = subprocess.run(words, env=minigraph.environment(PREFECT_API_URL=api), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert told(1) == [f"{live} is live, and then gone"]


def test_a_server_that_is_away_costs_no_night_and_hears_it_later(root, api):
    """No server, none that answers, a disk that takes nothing: no error, nothing noted. The next flow tells."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows import events

    told = Told(api)
    write_json(root / events.TOLD, {"live": None})
    live = records.live(root)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        events.released(root, live, "to nobody")
    began = time.monotonic()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_ports(1)}/api"}):
        events.released(root, live, "to nobody")
    assert time.monotonic() - began < 10
    assert read_json(root / events.TOLD) == {"live": None}
    shutil.rmtree(root / ".nightshift")
    (root / ".nightshift").write_text("no folder\n")
    events.catch_up(root)  # cannot note that it knows what is live
    os.remove(root / ".nightshift")
    write_json(root / events.TOLD, {"live": None})
    events.catch_up(root)
    assert told(1) == [f"{live} is live, by the shell, or by a run that was ended before it could say so"]
