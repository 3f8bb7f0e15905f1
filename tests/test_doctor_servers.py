"""`nightshift doctor` and servers: real sockets that are closed, silent, endless or somebody else's; a real Prefect server; a
Label Studio in small (tests/label_studio_fixtures.py)."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import up
from tasks import params
from tasks.doctor import Check, examine, schedule, services, web
from tasks.doctor.findings import Finding, Place
from tests import label_studio_fixtures as label_studio

ROOT = Path(__file__).parent.parent
PASSWORD = "geheim-4711"
Answer = tuple[int, Any]  # status and content; bytes go as they are, all else as JSON


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A folder with params.yaml; no server is configured, no key is set."""
    for name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "WEAVIATE_API_KEY", "EMBEDDING_API_KEY",
                 "LABEL_STUDIO_API_KEY", "NIGHTSHIFT_ANNOTATOR_SALT", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path


def place(root: Path, **sections: dict[str, Any]) -> Place:
    """The project's own parameters with these values, in this folder."""
    cfg = params.load(ROOT / "params.yaml")
    new = {name: getattr(cfg, name).model_copy(update=values) for name, values in sections.items()}
    return Place(root, root, cfg.model_copy(update=new))


@contextlib.contextmanager
def answering(answer: Callable[[str, str, str], Answer]) -> Iterator[int]:
    """A server on a free port that answers (method, path, Authorization) so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            status, content = answer(self.command, self.path, self.headers.get("authorization", ""))
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def silent(says: bytes = b"", again: bool = False) -> Iterator[int]:
    """A socket that takes connections and says nothing, or these bytes, or these again and again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve() -> None:
            kept = []
            with contextlib.suppress(OSError):
                while True:
                    kept.append(server.accept()[0])
                    threading.Thread(target=say, args=(kept[-1],), daemon=True).start()

        def say(connection: socket.socket) -> None:
            with contextlib.suppress(OSError):
                if says:
                    connection.sendall(says)
                while again:
                    connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


def closed() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def whats(found: list[Finding], level: str) -> list[str]:
    """What is said at a level."""
    return [one.what for one in found if one.level == level]


def test_one_question_ends_whatever_the_server_does():
    """Closed, silent, garbage, no end, slow drops, a redirect: seconds, a few words, nothing of what it said."""
    endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    with silent() as mute, silent(b"220 mail ready\r\n\r\n") as mail, silent(endless, again=True) as flood:
        for port, said in ((closed(), "does not answer"), (mute, "said nothing for 3 s"), (mail, "does not speak HTTP"),
                           (flood, "sends without end")):
            began = time.monotonic()
            with pytest.raises(web.NoAnswerError, match=said):
                web.ask(f"http://127.0.0.1:{port}/x")
            assert time.monotonic() - began < 2 * web.SECONDS
    with answering(lambda *_: (302, b"<html>")) as port:
        assert web.ask(f"http://127.0.0.1:{port}/x") == (302, None)
    for url in ("ftp://127.0.0.1/", "http://127.0.0.1:99999/", "127.0.0.1", "http://"):
        with pytest.raises(web.NoAnswerError):
            web.ask(url)


def test_without_prefect_nights_run_by_hand(root):
    """A note; a profile of Prefect's counts as its variable does."""
    assert [one.level for one in schedule.server(place(root))] == ["note"]
    profiles = root / "prefect/profiles.toml"
    profiles.parent.mkdir()
    profiles.write_text(f'active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://127.0.0.1:{closed()}/api"\n')
    found = list(schedule.server(place(root)))
    assert [one.level for one in found] == ["broken"] and "(Prefect's profile team) does not answer" in found[0].what


def test_something_else_where_prefect_should_be(root, monkeypatch):
    """Named with its status; a password in the address is not told; one that wants a key says which."""
    now: list[Answer] = [(0, None)]
    with answering(lambda *_: now[0]) as port:
        monkeypatch.setenv("PREFECT_API_URL", f"http://me:{PASSWORD}@127.0.0.1:{port}/api")
        said = []
        for answer in ((200, b"<html>"), (404, {"detail": "Not Found"}), (401, {}), (200, True)):
            now[0] = answer
            said.append(next(one for one in schedule.server(place(root)) if one.level == "broken"))
    assert "something that is not Prefect's (status 200)" in said[0].what and "(status 404)" in said[1].what
    assert said[2].remedy.startswith("export PREFECT_API_KEY")
    assert "refuses a plain question" in said[3].what  # healthy, and then no list
    assert not any(PASSWORD in one.what + one.remedy for one in said)


def test_prefect_itself(api, root, monkeypatch):
    """A real server: nothing for it, no worker, all there, another folder, a schedule that is paused."""
    monkeypatch.setenv("PREFECT_API_URL", api)
    here = place(root)
    with httpx.Client(base_url=api, timeout=30) as client:
        def post(path: str, **body: Any) -> Any:
            answer = client.post(path, json=body)
            answer.raise_for_status()
            return answer.json() if answer.content else None

        found = list(schedule.server(here))
        assert [one.level for one in found] == ["ok", "ok", "warning", "warning"]
        assert f"Prefect {metadata.version('prefect')}, server" in found[1].what and "no work pool" in found[2].what
        post("/work_pools/", name=schedule.POOL, type="process")
        try:
            assert whats(list(schedule.server(here)), "broken") == []  # nothing is deployed that would wait
            timed = {"schedules": [{"active": True, "schedule": {"cron": "0 2 * * *", "timezone": "UTC"}}]}
            made = {}
            for name in schedule.DEPLOYMENTS:
                steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(root)}}]
                flow, times = post("/flows/", name=name)["id"], timed if name in schedule.SCHEDULED else {}
                made[name] = post("/deployments/", name=name, flow_id=flow, pull_steps=steps, work_pool_name=schedule.POOL,
                                  **times)["id"]  # fmt: skip
            assert whats(list(schedule.server(here)), "broken") == [
                "no worker is online in work pool nightshift: runs stay late and none begins"]
            post(f"/work_pools/{schedule.POOL}/workers/heartbeat", name="here", heartbeat_interval_seconds=30)
            found = list(schedule.server(here))
            assert [one.level for one in found[:4]] == ["ok"] * 4 and "worker here online" in found[2].what
            plan = f"/deployments/{made['nightly']}/schedule"
            post(plan, min_runs=1, max_runs=1)
            assert list(schedule.server(here))[4].what.startswith("the next night begins 20")
            post(plan, start_time="2026-01-01T00:00:00Z", end_time="2026-01-02T00:00:00Z", min_runs=1, max_runs=1)
            assert whats(list(schedule.server(here)), "warning") == [
                "a night has been due since 2026-01-01 02:00 UTC, and nobody has begun it"]
            unplanned = client.get(f"/deployments/{made['label']}").json()  # as nightly is where the scheduler fails
            assert list(schedule._next(api, unplanned)) == []  # it may still come
            unplanned["created"] = "2026-01-01T00:00:00Z"
            assert "its scheduler does not work" in whats(list(schedule._next(api, unplanned)), "warning")[0]
            assert whats(list(schedule.server(place(root / "other"))), "warning")[0] == (
                f"runs work in {root}, and this is {root / 'other'}")
            post(f"/deployments/{made['nightly']}/pause_deployment")
            client.delete(f"/deployments/{made['rollback']}")
            client.patch(f"/work_pools/{schedule.POOL}", json={"is_paused": True})
            assert [text.partition(":")[0] for text in whats(list(schedule.server(here)), "warning")] == [
                "work pool nightshift is paused", "not deployed", "no schedule of deployment nightly is active"]
        finally:
            client.delete(f"/work_pools/{schedule.POOL}")


def test_an_older_prefect_server_is_told():
    """A client may be older than its server, not newer."""
    assert [one.level for one in schedule._version(web.Answer(200, "3.0.1"))] == ["warning"]
    assert [one.level for one in schedule._version(web.Answer(200, "99.0.1"))] == ["note"]
    assert list(schedule._version(web.Answer(404, {"detail": "Not Found"}))) == []  # a hosted one does not tell


def test_the_names_are_those_of_the_deployments():
    """deploy/prefect.yaml, its pool and what has a time."""
    import yaml

    told = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())
    assert tuple(one["name"] for one in told["deployments"]) == schedule.DEPLOYMENTS
    assert tuple(one["name"] for one in told["deployments"] if one.get("schedules")) == schedule.SCHEDULED
    assert {one["work_pool"]["name"] for one in told["deployments"]} == {schedule.POOL} == {up.POOL}


def test_what_make_up_keeps_going(root, monkeypatch):
    """A real supervisord: all run; one does not; it is gone. Its Prefect port is where the server is looked for."""
    folder = root / schedule.UP
    folder.mkdir(parents=True)
    port = closed()
    here = place(root)
    assert up.FOLDER == schedule.UP and list(schedule.kept_going(here)) == []
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    all_of = [up.Program("prefect", [*sleeps, "server", "start", "--port", str(port)], root), up.Program("worker", sleeps, root)]
    (folder / "supervisord.conf").write_text(up.settings(folder, all_of))
    monkeypatch.chdir(root)
    assert [one.remedy for one in schedule.kept_going(here)] == ["make up"]
    up._supervisor("supervisord", folder, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert whats(list(schedule.kept_going(here)), "ok") == ["make up keeps going: prefect, worker"]
        found = list(schedule.server(here))
        assert whats(found, "broken") == [f"Prefect's server http://127.0.0.1:{port}/api (make up) does not answer"]
        assert found[0].remedy == "see .nightshift/up/prefect.log; make down && make up"
        up._supervisor("supervisorctl", folder, "stop", "worker")
        assert whats(list(schedule.kept_going(here)), "broken") == ["make up: worker does not run (stopped)"]
    finally:
        up.down(root)
    assert [one.level for one in schedule.kept_going(here)] == ["warning"]


def test_label_studio(root, monkeypatch):
    """Not asked for; no token; a wrong one; projects missing, then there. What it says itself is not told."""
    assert [one.level for one in services.label_studio(place(root))] == ["note"]
    with label_studio.studio() as studio:
        here = place(root, labelling={"url": studio.url, "project": "Testing"})

        def look() -> list[Finding]:
            return examine(here, [Check("labelling", services.label_studio, waits=True)])

        assert [(one.level, one.what) for one in look()] == [("broken", "LABEL_STUDIO_API_KEY: is not set")]
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
        monkeypatch.setenv("NIGHTSHIFT_ANNOTATOR_SALT", "pepper-and-salt")
        assert [one.level for one in look()] == ["broken"] and "does not know the token" in look()[0].what
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", label_studio.TOKEN)
        assert whats(look(), "warning") == [
            f"Label Studio at {studio.url} knows the token and lacks Testing: compare, Testing: rank, Testing: corrections"]
        studio.faults.append(label_studio.status(500))
        assert "failed (status 500)" in look()[0].what
        assert not any(word in look()[0].what + look()[0].remedy for word in (label_studio.TOKEN, label_studio.EMAIL))
        studio.faults.clear()
        for kind in ("compare", "rank", "corrections"):
            studio.projects[len(studio.projects) + 1] = {"id": len(studio.projects) + 1, "title": f"Testing: {kind}"}
        assert whats(look(), "ok") == [f"Label Studio at {studio.url}: token accepted, 3 projects"]
        monkeypatch.delenv("NIGHTSHIFT_ANNOTATOR_SALT")
        assert "NIGHTSHIFT_ANNOTATOR_SALT is not set" in whats(look(), "broken")[0]


def test_the_file_of_secrets(root):
    """For its owner alone."""
    assert list(services.secret_file(place(root))) == []
    file = root / ".nightshift/secrets.env"
    file.parent.mkdir()
    file.write_text("LABEL_STUDIO_API_KEY=x\n")
    file.chmod(0o644)
    assert [one.remedy for one in services.secret_file(place(root))] == [f"chmod 600 {file}"]
    file.chmod(0o600)
    assert [one.level for one in services.secret_file(place(root))] == ["ok"]


def weaviate_at(root: Path, port: int, grpc: int) -> Place:
    """index.store: weaviate at these ports."""
    at = params.load(ROOT / "params.yaml").index.weaviate.model_copy(update={"port": port, "grpc_port": grpc})
    return place(root, index={"store": "weaviate", "weaviate": at})


def test_weaviate(root, monkeypatch):
    """Nobody there; somebody else; a key that is wanted, refused, accepted; the other port closed."""
    assert list(services.weaviate(place(root))) == []
    found = list(services.weaviate(weaviate_at(root, closed(), closed())))
    assert [one.level for one in found] == ["broken"] and "does not answer" in found[0].what

    def server(method: str, path: str, key: str) -> Answer:
        if path.endswith("ready"):
            return 200, b""
        return (200, {"version": "1.33.0"}) if key == "Bearer right-key" else (401, {"error": "no"})

    with answering(server) as port, silent() as grpc:
        here = weaviate_at(root, port, grpc)
        assert "wants a key" in whats(list(services.weaviate(here)), "broken")[0]
        monkeypatch.setenv("WEAVIATE_API_KEY", "wrong-key")
        assert "refuses the key" in whats(list(services.weaviate(here)), "broken")[0]
        monkeypatch.setenv("WEAVIATE_API_KEY", "right-key")
        assert whats(list(services.weaviate(here)), "ok") == [f"Weaviate 1.33.0 at 127.0.0.1:{port}, key accepted"]
        assert "gRPC port" in whats(list(services.weaviate(weaviate_at(root, port, closed()))), "broken")[0]
    with answering(lambda *_: (200, {"hello": "world"})) as port:
        assert "not Weaviate's" in whats(list(services.weaviate(weaviate_at(root, port, port))), "broken")[0]


@pytest.mark.service
def test_weaviate_itself(weaviate_server, root, monkeypatch):
    """A real server, with its key and without."""
    at = weaviate_server.at
    monkeypatch.setenv("WEAVIATE_API_KEY", "wrong-key")
    assert "refuses the key" in whats(list(services.weaviate(weaviate_at(root, at.port, at.grpc_port))), "broken")[0]
    monkeypatch.setenv("WEAVIATE_API_KEY", weaviate_server.key)
    assert [one.level for one in services.weaviate(weaviate_at(root, at.port, at.grpc_port))] == ["ok"]


def test_an_embedding_server(root, monkeypatch):
    """Its list of models is asked for: model there, not there, no list, a key, something else, a password in the address."""
    now: list[Answer] = [(0, None)]
    answers = [(200, {"data": [{"id": "starter"}]}), (200, {"data": [{"id": "other"}]}), (404, {}), (401, {}),
               (200, b"<html>"), (200, {"data": "x"})]  # fmt: skip
    assert list(services.embedding(place(root))) == []
    with answering(lambda *_: now[0]) as port:
        here = place(root, embed={"endpoint": f"http://127.0.0.1:{port}/v1"})
        levels = []
        for answer in answers:
            now[0] = answer
            levels += [one.level for one in services.embedding(here)]
    assert levels == ["ok", "warning", "note", "broken", "broken", "broken"]
    found = list(services.embedding(place(root, embed={"endpoint": f"https://me:{PASSWORD}@host/v1"})))
    assert [one.level for one in found] == ["broken"] and PASSWORD not in found[0].what
    monkeypatch.setenv("EMBEDDING_API_KEY", "some-key")
    found = list(services.embedding(place(root, embed={"endpoint": f"http://localhost.invalid:{closed()}/v1"})))
    assert [one.level for one in found] == ["warning", "broken"] and "unencrypted" in found[0].what


def test_silent_servers_are_waited_for_side_by_side(root, monkeypatch):
    """Three of them cost little more than one."""
    with silent() as port:
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
        here = weaviate_at(root, port, port)
        here = Place(root, root, here.params.model_copy(update={"embed": here.params.embed.model_copy(
            update={"endpoint": f"http://127.0.0.1:{port}/v1"})}))  # fmt: skip
        checks = [Check("x", look, waits=True) for look in (schedule.server, services.weaviate, services.embedding)]
        began = time.monotonic()
        found = examine(here, checks)
        assert [one.what.rpartition(" and ")[2] for one in found] == ["said nothing for 3 s"] * 3
        assert time.monotonic() - began < 2.5 * web.SECONDS
