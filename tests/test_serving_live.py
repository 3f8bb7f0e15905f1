"""tasks/serving/live.py: the pointer moves under load, and no request sees more than one release."""

from __future__ import annotations

import functools
import gc
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tasks import records
from tasks.errors import GateError
from tasks.files import read_json, write_json
from tasks.serving import live as live_module
from tasks.serving import parts, releases
from tasks.serving.live import Live
from tests import minigraph
from tests.serving_fixtures import Two, flip, folders, question, sections, serving, two_releases, waiting
from tests.waiting import until

WHEN = "When does Oakleigh open?"
CHAT = "/v1/chat/completions"


@pytest.fixture
def made(tmp_path) -> Two:
    """A repository with two releases, the later one live."""
    return two_releases(tmp_path)


def test_twenty_switches_under_load(made):
    """Two clients ask without pause, one streamed and one not, while the pointer goes to and fro: every answer is
    complete, and model, documents and the id in it are of one release."""
    expected = {}
    for release, name in ((made.one, "one"), (made.two, "two")):
        flip(made.root, release)
        with serving(made.root) as (client, _):
            body = client.post(CHAT, json=question(WHEN)).json()
            expected[release] = body["choices"][0]["message"]["content"]
            assert body["nightshift"]["sources"][0]["source"] == f"documents/{name}/oakleigh.md"
    assert expected[made.one] != expected[made.two]
    ended, seen, failures = threading.Event(), [], []

    def ask_on(client: httpx.Client, stream: bool) -> None:
        while not ended.is_set():
            with client.stream("POST", CHAT, json=question(WHEN, stream=stream)) as response:
                text = response.read().decode()
            release = made.one if made.one in text else made.two
            other, foreign = (made.two, "documents/two/") if release == made.one else (made.one, "documents/one/")
            complete = response.status_code == 200 and (not stream or text.endswith("data: [DONE]\n\n"))
            if not complete or other in text or foreign in text:
                failures.append(text)
            if not stream and response.json()["choices"][0]["message"]["content"] != expected[release]:
                failures.append(text)
            seen.append(release)

    with serving(made.root) as (client, live), ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask_on, client, stream) for stream in (True, False)]
        refs = []
        try:
            for n in range(20):
                wanted = (made.one, made.two)[n % 2]
                refs.append(weakref.ref(live.current()))
                flip(made.root, wanted)
                until(lambda wanted=wanted: live.current().id == wanted)
                at = len(seen)
                until(lambda at=at: len(seen) >= at + 2)
        finally:
            ended.set()
        for one in asking:
            one.result()
        assert not failures, failures[0]
        assert len(seen) >= 40 and set(seen) == {made.one, made.two}
        # what was left is not in memory any more, nor are there folders but the two
        until(lambda: not [ref for ref in refs if ref() is not None])
        assert folders(made.root) == {made.one, made.two}


def test_a_request_ends_with_the_release_it_began_with(made):
    """It waits in its search while the pointer moves and others get the new release; then it ends with the old one, and
    the old one is freed."""
    loaded: list = []

    def load(root, params, release=None):
        new = releases.load(root, params, release)
        if not loaded:
            new, gate = waiting(new)
            loaded.append(gate)
        return new

    with serving(made.root, load) as (client, live), ThreadPoolExecutor(1) as pool:
        old = weakref.ref(live.current())
        begun = pool.submit(client.post, CHAT, json=question(WHEN))
        assert loaded[0].waiting.acquire(timeout=30)
        flip(made.root, made.one)
        until(lambda: live.current().id == made.one)
        assert client.post(CHAT, json=question(WHEN)).json()["nightshift"]["release"] == made.one
        gc.collect()
        assert old() is not None
        loaded[0].gate.set()
        body = begun.result().json()
        assert body["nightshift"]["release"] == made.two
        assert body["nightshift"]["sources"][0]["source"] == "documents/two/oakleigh.md"
        until(lambda: old() is None)


@pytest.mark.parametrize("broken", ["bytes", "record", "model", "nothing"])
def test_a_broken_release_leaves_the_old_one_serving(made, caplog, monkeypatch, broken):
    """Missing bytes, no record, a model that cannot be loaded, no pointer: said in /health and logged once; when it is
    mended it takes over, after a minute or when the pointer changes."""
    monkeypatch.setattr(live_module, "RETRY_SECONDS", 0.3)
    pointer, cache = made.root / records.RELEASES / "LIVE", made.root / ".dvc/cache"
    shutil.rmtree(made.root / "artifacts")
    with serving(made.root) as (client, _):
        if broken == "bytes":
            cache.rename(made.root / "elsewhere")
            mend = functools.partial((made.root / "elsewhere").rename, cache)
            what = "in neither DVC's cache nor the workspace"
        elif broken == "record":
            path = made.root / records.RELEASES / f"{made.one}.json"
            text = path.read_text()
            path.write_text(text[:100])
            mend = functools.partial(path.write_text, text)
            what = "is not JSON"
        elif broken == "model":
            path = made.root / records.RELEASES / f"{made.one}.json"
            record = read_json(path)
            other = {**record["manifest"]["parts"], "model": record["manifest"]["parts"]["index"]}
            write_json(path, {**record, "manifest": {**record["manifest"], "parts": other}})
            mend = functools.partial(write_json, path, record)
            what = "config.json"
        else:
            mend = functools.partial(pointer.write_text, made.one)
            what = "nothing is live"
        pointer.write_text("" if broken == "nothing" else made.one)
        until(lambda: client.get("/health").json()["error"])
        health = client.get("/health").json()
        assert health["release"] == made.two and what in health["error"] and str(health["error"]).count("\n") == 0
        for _ in range(3):
            assert client.post(CHAT, json=question(WHEN)).json()["nightshift"]["release"] == made.two
        time.sleep(0.5)  # it is tried again, and not logged again
        assert sum("cannot be served" in record.message for record in caplog.records) == 1
        mend()
        until(lambda: client.get("/health").json()["release"] == made.one)
        assert client.get("/health").json()["error"] is None


def test_the_pointer_going_back_clears_the_error(made):
    """What could not be loaded is no concern any more."""
    live = Live(made.root, sections())
    pointer = made.root / records.RELEASES / "LIVE"
    pointer.write_text("2031-01-01-00000000")
    live.look()
    assert "is no release" in live.state.error and live.current().id == made.two
    pointer.write_text(made.two)
    live.look()
    assert live.state.error is None and live.current().id == made.two


def test_nothing_live_is_no_service(made):
    """A service without a release does not start."""
    (made.root / records.RELEASES / "LIVE").unlink()
    with pytest.raises(GateError, match="nothing is live"):
        Live(made.root, sections())


def test_kill_9_of_a_server_that_materialises(made):
    """The real command, killed while it brings the parts: nothing half is left under a release's name, and the next
    start serves."""
    (made.root / "artifacts").rename(made.root / "away")
    serving_folder = made.root / parts.SERVING
    command = [sys.executable, "-m", "tasks.cli", "serve", "--port", "0"]
    # links are slow here, so that the kill meets them
    slow = "import os, time, sys, runpy\nreal = os.link\ndef link(*a, **k):\n time.sleep(0.5); real(*a, **k)\nos.link = link\n" \
           "sys.argv = ['nightshift', 'serve', '--port', '0']\nrunpy.run_module('tasks.cli', run_name='__main__')\n"
    killed = subprocess.Popen([sys.executable, "-c", slow], cwd=made.root, env=minigraph.environment(),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: any(path.is_file() for path in serving_folder.glob(".part-*/*/*")))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert folders(made.root) == {f".part-{made.two}"}
    log = made.root / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=made.root, env=minigraph.environment(), stderr=file)
    try:
        until(lambda: "answers on http://" in log.read_text())
        url = log.read_text().split("answers on ")[1].split()[0]
        assert httpx.get(f"{url}/health", trust_env=False).json()["release"] == made.two
        assert folders(made.root) == {made.two}
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)
