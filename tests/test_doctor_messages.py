"""`nightshift doctor` on who hears what nights did, with a real Prefect server and what deploy/notifications.py makes there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from deploy import notifications
from deploy.processes import free_ports
from tasks import params
from tasks.doctor import messages
from tasks.doctor.findings import Finding, Place
from tests.up_fixtures import block
from tests.waiting import until

ROOT = Path(__file__).parent.parent
HIDDEN = "geheim-4711"  # in the webhook's address


class Here:
    """A checkout of params.yaml alone, and a server."""

    def __init__(self, folder: Path, api: str):
        """`api`: the server's address."""
        self.folder, self.api = folder, httpx.Client(base_url=api, trust_env=False, timeout=30)

    def look(self, **notify: Any) -> list[tuple[str, str, str]]:
        """What is found with these parameters: level, what, remedy."""
        content = yaml.safe_load((ROOT / "params.yaml").read_text())
        content["notify"] |= notify
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
        found: list[Finding] = list(messages.messages(Place(self.folder, self.folder)))
        assert not any(HIDDEN in one.what + one.remedy for one in found)
        return [(one.level, one.what, one.remedy) for one in found]

    def settle(self, **notify: Any) -> None:
        """What `make deploy` does about messages."""
        cfg = params.load(ROOT / "params.yaml").notify.model_copy(update=notify)
        with SyncPrefectClient(str(self.api.base_url), httpx_settings={"trust_env": False}) as client:
            notifications.settle(client, cfg, ["nightly"], "")


@pytest.fixture
def here(tmp_path, api, monkeypatch):
    """The session's server, with nothing of ours afterwards."""
    monkeypatch.setenv("PREFECT_API_URL", api)
    made = Here(tmp_path, api)
    yield made
    made.settle(block=None)


def test_nobody_is_told(here, monkeypatch):
    """Said where there is a server that could tell, and only there."""
    assert [level for level, *_ in here.look()] == ["note"]
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_ports(1)}/api")
    assert here.look(block="custom-webhook/team") == []  # schedule.py says that it is down
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", str(here.folder))
    assert here.look() == []


def test_block_and_automations(here):
    """Block missing; all well; one missing, one too many, another block, one off."""
    assert here.look(block="custom-webhook/doctor")[0][0] == "broken"
    assert "/blocks/catalog/custom-webhook/create, name doctor" in here.look(block="custom-webhook/doctor")[0][2]
    for name in ("doctor", "other"):
        block(here.api, f"custom-webhook/{name}", name=name, url=f"http://127.0.0.1:1/{HIDDEN}")
    assert [what for _, what, _ in here.look(block="custom-webhook/doctor")] == [
        "no automation sends messages about failed, waiting, held_back, released, missing"]  # fmt: skip
    here.settle(block="custom-webhook/doctor", about=["failed", "released"])
    assert here.look(block="custom-webhook/doctor", about=["failed", "released"]) == [
        ("ok", "messages about failed, released go to custom-webhook/doctor", "")]  # fmt: skip
    assert [what for _, what, _ in here.look(block="custom-webhook/other", about=["failed", "missing"])] == [
        "no automation sends messages about missing",
        "messages about released are sent, and notify.about does not ask for them",
        "messages about failed, released do not go to custom-webhook/other"]  # fmt: skip
    found = {one["name"]: one["id"] for one in here.api.post("/automations/filter", json={}).json()}
    here.api.patch(f"/automations/{found['nightshift.notify.failed']}", json={"enabled": False})
    ((level, what, remedy),) = here.look(block="custom-webhook/doctor", about=["failed", "released"])
    assert (level, what) == ("warning", "messages about failed are switched off in Prefect")
    assert remedy.startswith("prefect automation resume nightshift.notify.failed,")


@pytest.mark.parametrize("kind, data", [
    ("custom-webhook", {"name": "x", "url": f"http://127.0.0.1:1/{HIDDEN}"}),
    ("mattermost-webhook", {"hostname": "127.0.0.1", "port": 1, "token": HIDDEN}),
])  # fmt: skip
def test_a_message_that_did_not_get_out(here, monkeypatch, kind, data):
    """Nobody listens there. One kind of block raises an error of its own, the other says that it failed."""
    if kind == "custom-webhook":
        monkeypatch.setattr(messages, "PATIENCE", timedelta(0))
    block(here.api, f"{kind}/lost", **data)
    here.settle(block=f"{kind}/lost", about=["released"])
    event = {"id": str(uuid4()), "occurred": "2026-11-24T02:00:00Z", "event": "nightshift.released",
             "resource": {"prefect.resource.id": "nightshift.release.x", "prefect.resource.name": "x"}}  # fmt: skip
    assert here.api.post("/events", json=[event]).is_success
    def look() -> list:
        return here.look(block=f"{kind}/lost", about=["released"])

    said = until(lambda: found if "did not get out" in (found := look())[0][1] else None, look)  # events are written in batches
    assert said[0][0] == "warning" and said[0][1].startswith("the last message about released did not get out (20")
