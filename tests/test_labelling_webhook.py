"""The receiver as a real server on loopback: who may ring, what counts, and that nobody waits for what it wakes."""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from tasks import params
from tasks.errors import ServiceError
from tasks.labelling import secrets, webhook
from tasks.labelling.label_studio import HEADER
from tasks.labelling.webhook import PATH, Bell, create_app
from tasks.serving import server
from tests.label_studio_fixtures import TOKEN

REPOSITORY = Path(__file__).parent.parent
SECRET = "0123456789abcdef0123"
NOTE = "anna.muster@example.org said this"  # in a body; nowhere else
ONE, MANY, EDIT = ({"action": f"ANNOTATION{end}"} for end in ("_CREATED", "S_CREATED", "_UPDATED"))


class Rung:
    """What a collection would hear; slow, or failing, where a test wants it."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.rings = threading.Semaphore(0)
        self.hold: threading.Event | None = None
        self.error: Exception | None = None

    def __call__(self, judgements: int) -> None:
        """Ring."""
        if self.hold:
            assert self.hold.wait(30)
        self.heard.append(judgements)
        self.rings.release()
        if self.error:
            raise self.error

    def wait(self) -> None:
        """Until it has rung once more."""
        assert self.rings.acquire(timeout=30)


@contextlib.contextmanager
def listening(wake_after: int = 1) -> Iterator[tuple[httpx.Client, Rung]]:
    """A receiver on a free port of loopback, and a client that knows the secret."""
    rung, taken = Rung(), server.bind("127.0.0.1", 0)
    running = uvicorn.Server(server.settings(create_app(SECRET, Bell(wake_after, rung)), 2))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, headers={HEADER: SECRET}, timeout=30, trust_env=False) as client:
            for _ in range(500):
                with contextlib.suppress(httpx.ConnectError):
                    client.get("/")
                    break
                time.sleep(0.01)
            yield client, rung
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def running():
    """One receiver for the tests that ask it nothing but refusals; each judgement would ring."""
    with listening() as (client, rung):
        yield client, rung


def nothing_rang(client: httpx.Client, rung: Rung) -> bool:
    """The next judgement is the first that rings."""
    before = len(rung.heard)
    assert client.post(PATH, json=ONE).status_code == 204
    rung.wait()
    return rung.heard[before:] == [1]


@pytest.mark.parametrize("given", [
    [], [(HEADER, "")], [(HEADER, SECRET[:-1])], [(HEADER, f"{SECRET}0")], [(HEADER, SECRET.upper())],
    [(HEADER, f"{SECRET}\xe4")], [(HEADER, SECRET), (HEADER, SECRET)], [("Authorization", f"Token {SECRET}")],
], ids=["none", "empty", "shorter", "longer", "upper case", "no ASCII", "twice", "elsewhere"])  # fmt: skip
def test_without_the_secret_nobody_rings(running, given, monkeypatch):
    """401, the connection ends, and the secret is compared in constant time, whatever is given; the right one rings."""
    client, rung = running
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest
    monkeypatch.setattr(webhook.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    headers = [(name.encode(), value.encode("latin-1")) for name, value in [("content-type", "application/json"), *given]]
    answer = httpx.post(client.base_url.join(PATH), headers=headers, content=json.dumps(ONE), trust_env=False)
    assert (answer.status_code, answer.headers["connection"]) == (401, "close") and SECRET not in answer.text
    assert len(compared) == 1 and compared[0][1] == SECRET.encode()
    assert nothing_rang(client, rung)


@pytest.mark.parametrize("body, kind, status", [
    (json.dumps(ONE), "text/plain", 415),
    (json.dumps(ONE), "application/x-www-form-urlencoded", 415),
    (json.dumps(ONE), "", 415),
    ("", "application/json", 400),
    ("ANNOTATION_CREATED", "application/json", 400),
    ("[]", "application/json", 400),
    ('"action"', "application/json", 400),
    ("{}", "application/json", 400),
    (b'{"action": "\xff"}', "application/json", 400),
    ("[" * 200_000, "application/json", 400),
    (json.dumps({**ONE, "task": "x" * (webhook.KILOBYTES * 1024)}), "application/json", 413),
], ids=range(11))  # fmt: skip
def test_what_is_no_event_is_refused(running, body, kind, status):
    """By type, by form, by size; it is not counted."""
    client, rung = running
    assert client.post(PATH, content=body, headers={"content-type": kind}).status_code == status
    assert nothing_rang(client, rung)


def test_a_body_without_end_is_cut_off(running):
    """One whose length is not announced: refused while it comes, long before its sender is done."""
    client, rung = running
    sent = []

    def pieces() -> Iterator[bytes]:
        for _ in range(10_000):
            sent.append(None)
            yield b"x" * 65536

    with contextlib.suppress(httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        answer = client.post(PATH, content=pieces(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
    assert len(sent) < 2000
    assert nothing_rang(client, rung)


def test_a_body_that_does_not_come_is_given_up(running, monkeypatch):
    """408 after some seconds (here a fraction of one)."""
    client, rung = running
    monkeypatch.setattr(webhook, "SECONDS", 0.2)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{HEADER}: {SECRET}\r\n"
    head += "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    with socket.create_connection((client.base_url.host, client.base_url.port), 10) as slow:
        slow.sendall(head.encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert nothing_rang(client, rung)


@pytest.mark.parametrize("method, path, status", [("PUT", PATH, 405), ("POST", "/", 404), ("POST", f"{PATH}/", 404)])
def test_there_is_one_thing_to_ask(running, method, path, status):
    """No other path or method, and no redirect to a host that the request names."""
    client, rung = running
    assert client.request(method, path, json=ONE).status_code == status
    assert nothing_rang(client, rung)


def test_it_wakes_after_so_many():
    """Three single ones ring once, the fourth begins anew; an edit counts; an event of another kind does not."""
    with listening(wake_after=3) as (client, rung):
        for event in (ONE, EDIT, {"action": "TASKS_CREATED"}, {"action": ["ANNOTATION_CREATED"]}, {"action": None}):
            assert client.post(PATH, json=event).status_code == 204
        assert rung.heard == []
        client.post(PATH, json=ONE)
        rung.wait()
        for _ in range(3):
            client.post(PATH, json=ONE)
        rung.wait()
        assert rung.heard == [3, 3]


def test_a_bulk_event_counts_its_annotations():
    """As many as it brings; one where it brings none, as with our own webhook, which asks for no payload."""
    with listening(wake_after=5) as (client, rung):
        client.post(PATH, json={**MANY, "annotation": [{"id": n} for n in range(4)]})
        assert rung.heard == []
        client.post(PATH, json=MANY)
        rung.wait()
        client.post(PATH, json={**MANY, "annotation": [{"id": n} for n in range(12)]})
        rung.wait()
        assert rung.heard == [5, 12]


def test_many_callers_at_once_lose_no_judgement():
    """Eight threads, each with a connection of its own: as many rings as there have to be."""
    with listening(wake_after=10) as (client, rung):
        def call() -> None:
            with httpx.Client(base_url=client.base_url, headers={HEADER: SECRET}, timeout=30, trust_env=False) as mine:
                assert all(mine.post(PATH, json=ONE).status_code == 204 for _ in range(20))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(16):
            rung.wait()
        assert rung.heard == [10] * 16


def test_nobody_waits_for_a_slow_wake_up():
    """The answer is there within a fraction of a second while the wake-up still works, on the same connection too."""
    with listening() as (client, rung):
        client.post(PATH, json={"action": "TASKS_CREATED"})  # the first request of a process pays for imports
        rung.hold = threading.Event()
        took = []
        for _ in range(5):
            start = time.perf_counter()
            assert client.post(PATH, json=ONE).status_code == 204
            took.append(time.perf_counter() - start)
        assert rung.heard == [] and sorted(took)[2] < 0.3 and max(took) < 2, took
        rung.hold.set()
        for _ in range(5):
            rung.wait()
        assert rung.heard == [1] * 5


def test_a_wake_up_that_fails_is_logged_and_the_next_one_comes(caplog, monkeypatch):
    """By the kind of its error alone; the counting goes on."""
    monkeypatch.setattr(logging.getLogger("nightshift.webhook"), "propagate", True)
    with listening() as (client, rung), caplog.at_level(logging.DEBUG):
        rung.error = RuntimeError(NOTE)
        client.post(PATH, json=ONE)
        rung.wait()
        rung.error = None
        client.post(PATH, json=ONE)
        rung.wait()
    assert "no collection could be woken (RuntimeError)" in caplog.text and NOTE not in caplog.text
    assert rung.heard == [1, 1]


def test_neither_body_nor_secret_is_logged(caplog, monkeypatch):
    """At the finest level, of good and bad requests alike."""
    monkeypatch.setattr(logging.getLogger("nightshift.webhook"), "propagate", True)
    with listening() as (client, rung), caplog.at_level(logging.DEBUG):
        for event in ({**ONE, "task": {"data": NOTE}}, {**MANY, "annotation": NOTE}, {"action": NOTE}, {NOTE: 1}):
            client.post(PATH, json=event)
        client.post(PATH, content=NOTE, headers={"content-type": "application/json"})
        client.post(PATH, content=NOTE)
        client.post(PATH, json={"task": NOTE}, headers={HEADER: f"{SECRET}x"})
        rung.wait()
        rung.wait()
    ours = "".join(record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore")))
    assert "a collection is woken" in ours and NOTE not in ours and SECRET not in caplog.text


@pytest.mark.parametrize("secret", ["", "short", f"{SECRET}\n", f"{SECRET} x", f"{SECRET}\xe4"])
def test_a_secret_that_is_none_is_refused_by_name(secret):
    """An empty one would let in everybody without a header; what it is, is not said."""
    with pytest.raises(ServiceError, match="NIGHTSHIFT_WEBHOOK_SECRET") as caught:
        create_app(secret, Bell(1, lambda _: None))
    assert not secret or secret not in str(caught.value)


def test_an_empty_secret_in_the_file_is_drawn_anew(tmp_path, monkeypatch):
    """A line without a value is as good as none, and the others stay."""
    for name in (secrets.WEBHOOK, secrets.TOKEN):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / secrets.FILE
    path.parent.mkdir()
    path.write_text(f"{secrets.WEBHOOK}=\n{secrets.TOKEN}={TOKEN}\n")
    path.chmod(0o600)
    drawn = secrets.ensure(tmp_path, [secrets.WEBHOOK, secrets.TOKEN])
    assert webhook.checked(drawn[secrets.WEBHOOK]) and drawn[secrets.TOKEN] == TOKEN
    assert secrets.ensure(tmp_path, [secrets.WEBHOOK])[secrets.WEBHOOK] == drawn[secrets.WEBHOOK]


def test_where_it_is_found():
    """As Label Studio writes it; by default on loopback."""
    assert webhook.address("127.0.0.1", 8322) == "http://127.0.0.1:8322/label-studio"
    assert webhook.address("::1", 8322) == "http://[::1]:8322/label-studio"
    assert params.load(REPOSITORY / "params.yaml").labelling.webhook.host == "127.0.0.1"
