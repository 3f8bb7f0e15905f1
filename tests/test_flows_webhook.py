"""`python -m flows.webhook` as it is run: it registers, rings by a Prefect event, and says what it lacks."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tasks.errors import NightshiftError, ParamsError, ServiceError
from tasks.labelling import secrets
from tests import label_studio_fixtures as fake
from tests.label_studio_fixtures import TOKEN
from tests.waiting import until

REPOSITORY = Path(__file__).parent.parent
SECRET = "0123456789abcdef0123"
NOTE = "anna.muster@example.org said this"  # in a body; nowhere else
EVENT = "nightshift.judgements"


def repository(folder: Path, url: str | None, **changes: Any) -> Path:
    """params.yaml alone, with this server and a free port."""
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    hook = {"host": "127.0.0.1", "port": 0, "wake_after": 2, **changes}
    raw["labelling"] |= {"url": url, "project": "Testing", "webhook": hook}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    return folder


def events(api: str, name: str) -> list[dict[str, Any]]:
    """Events of this name that a Prefect server has."""
    asked = {"filter": {"event": {"name": [name]}}, "limit": 50}
    return httpx.post(f"{api}/events/filter", json=asked, trust_env=False).raise_for_status().json()["events"]


def listeners(port: int) -> set[str]:
    """Addresses on which somebody listens at this port, as the kernel writes them."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


def test_the_program(tmp_path, api):
    """It listens on loopback alone, registers in all three projects, rings by a Prefect event, and ends well when told to.
    What is judged before it ends is rung for, and nothing secret is printed."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), secrets.TOKEN: TOKEN, secrets.WEBHOOK: SECRET}
    with fake.studio() as studio, open(tmp_path / "said", "w+") as said:
        words = [sys.executable, "-m", "flows.webhook"]
        program = subprocess.Popen(words, cwd=repository(tmp_path, studio.url), env=env, stdout=said, stderr=said)
        try:
            until(lambda: program.poll() is not None or "listening on" in (tmp_path / "said").read_text(), tmp_path / "said")
            assert program.poll() is None, (tmp_path / "said").read_text()
            hooks = list(studio.webhooks.values())
            assert {hook["project"] for hook in hooks} == set(studio.projects) == {1, 2, 3}
            (url,) = {hook["url"] for hook in hooks}
            port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/label-studio", url)[1])
            assert listeners(port) == {"0100007F"}  # 127.0.0.1, and nothing on IPv6
            before = len(events(api, EVENT))
            for _ in range(4):
                event = {"action": "ANNOTATION_CREATED", "note": NOTE}
                answer = httpx.post(url, json=event, headers=hooks[0]["headers"], trust_env=False, timeout=30)
                assert answer.status_code == 204
            program.send_signal(signal.SIGTERM)
            assert program.wait(60) == 0, (tmp_path / "said").read_text()
        finally:
            program.kill()
            program.wait()
    found = until(lambda: new if len(new := events(api, EVENT)) >= before + 2 else None)  # the server writes them in batches
    assert [event["payload"] for event in found[: len(found) - before]] == [{"judgements": 2}] * 2
    assert found[0]["resource"]["prefect.resource.id"] == "nightshift.labelling"
    told = (tmp_path / "said").read_text()
    assert f"{url}: every 2 judgements in Testing wake a collection" in told and "2 new judgements" in told
    assert not {text for text in (TOKEN, SECRET, NOTE) if text in told} and "Traceback" not in told


def test_the_program_says_what_it_lacks(tmp_path, api, monkeypatch):
    """No server to listen to, an address nobody can call, no lasting Prefect server or a dead one, a taken port, a bad secret."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.webhook import run

    monkeypatch.setenv(secrets.TOKEN, TOKEN)
    monkeypatch.setenv(secrets.WEBHOOK, SECRET)

    def refused(kind: type[NightshiftError], public_url: str | None = None, **changes: Any) -> str:
        with pytest.raises(kind) as caught:
            run(repository(tmp_path, **{"url": "http://127.0.0.1:9", **changes}), public_url)
        return str(caught.value)

    assert "labelling.url" in refused(ParamsError, url=None)
    assert "--public-url" in refused(ParamsError, host="0.0.0.0")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert "prefect server start" in refused(ServiceError)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        monkeypatch.setattr("flows.server.EXPECTED", 0.2)
        assert "127.0.0.1:9/api does not answer" in refused(ServiceError)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "labelling.webhook.port" in refused(ServiceError, port=taken.getsockname()[1])
    monkeypatch.setenv(secrets.WEBHOOK, "short")
    assert secrets.WEBHOOK in refused(ServiceError)
