"""What containers run when they start, run here: real git and DVC, real sockets, and a real Prefect server."""

from __future__ import annotations

import asyncio
import http.server
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.containers import answers, forward
from tasks import git
from tests import minigraph
from tests.container_fixtures import DEPLOY, ROOT
from tests.up_fixtures import block
from tests.waiting import until

CONTAINERS = DEPLOY / "containers"


def run(script: str, *words: str, folder: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """A script as a container runs it there, with our interpreter first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ours = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(CONTAINERS / script), *words], cwd=folder, env={**os.environ, **ours, **env}, capture_output=True,
                          text=True, stdin=subprocess.DEVNULL)  # fmt: skip


@pytest.fixture
def origin(tmp_path) -> Path:
    """What is cloned: the small graph, on a branch that a clone takes."""
    return minigraph.make(tmp_path)


def enter(origin: Path, work: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """nightshift-enter in a volume of its own."""
    work.mkdir(exist_ok=True)
    return run("enter.sh", *words, NIGHTSHIFT_WORK=str(work), NIGHTSHIFT_REPOSITORY=str(origin), **env)


def test_entering_clones_makes_the_home_and_becomes_the_command(origin, tmp_path):
    """The command runs in the clone, knows the home, and its exit code is the container's; data is what the remote has."""
    minigraph.dvc(origin, "remote", "modify", "--local", "local", "url", str(tmp_path / "remote"))
    minigraph.dvc(origin, "push", "--quiet")
    done = enter(origin, tmp_path / "work", "sh", "-c", 'pwd; echo "$NIGHTSHIFT_HOME"; exit 7',
                 NIGHTSHIFT_DVC_CACHE=str(tmp_path / "cache"), NIGHTSHIFT_DVC_REMOTE=str(tmp_path / "remote"))  # fmt: skip
    checkout = tmp_path / "work" / "checkout"
    home = checkout / ".nightshift" / "home"
    assert (done.returncode, done.stdout.split()) == (7, [str(checkout), str(home)]), done.stderr
    assert (home / "data" / "a.txt").is_file()
    for folder in (checkout, home):
        said = [subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, capture_output=True, text=True).stdout.split()
                for words in (["cache", "dir"], ["remote", "list"])]  # fmt: skip
        assert (said[0], said[1][1]) == ([str(tmp_path / "cache")], str(tmp_path / "remote"))


def test_entering_again_brings_forward_and_keeps_what_is_there(origin, tmp_path):
    """New commits arrive; nothing is cloned twice; without the repository it goes on with what it has, and says so."""
    work = tmp_path / "work"
    assert enter(origin, work, "--no-home", "true").stderr == "nightshift-enter: cloned\n"
    (origin / "new.txt").write_text("new\n")
    git.commit(origin, ["new.txt"], "New")
    (work / "checkout" / "mine.txt").write_text("mine\n")
    again = enter(origin, work, "--no-home", "cat", "new.txt", "mine.txt")
    assert (again.returncode, again.stdout, again.stderr) == (0, "new\nmine\n", "")
    origin.rename(tmp_path / "gone")
    alone = enter(origin, work, "--no-home", "cat", "new.txt")
    assert (alone.returncode, alone.stdout) == (0, "new\n") and "going on with commit" in alone.stderr


def test_a_clone_that_was_killed_is_begun_again(origin, tmp_path):
    """What a dead container has left of a clone does not count, and does not stay."""
    part = tmp_path / "work" / "checkout.part"
    part.mkdir(parents=True)
    (part / "debris").touch()
    assert enter(origin, tmp_path / "work", "--no-home", "true").returncode == 0
    assert not part.exists() and not (tmp_path / "work" / "checkout" / "debris").exists()


def test_entering_says_what_is_missing(tmp_path):
    """The repository by name; a volume too."""
    (tmp_path / "work").mkdir()
    none = run("enter.sh", "true", NIGHTSHIFT_WORK=str(tmp_path / "work"), NIGHTSHIFT_REPOSITORY="")
    assert none.returncode != 0 and "NIGHTSHIFT_REPOSITORY: is not set: name what git clones" in none.stderr
    nowhere = run("enter.sh", "true", NIGHTSHIFT_WORK="")
    assert nowhere.returncode != 0 and "NIGHTSHIFT_WORK: is not set" in nowhere.stderr


def test_secrets_are_drawn_once_and_for_their_owner_alone(tmp_path):
    """Each variable that is required has a value, no two the same; nothing is printed; a file that is there stays."""
    script = tmp_path / "containers" / "draw.sh"
    script.parent.mkdir()
    script.write_text((CONTAINERS / "draw.sh").read_text())
    (tmp_path / "compose.env.example").write_text((DEPLOY / "compose.env.example").read_text())
    words = ["sh", str(script), "https://git.example.org/n.git"]
    first = subprocess.run(words, capture_output=True, text=True)
    written = tmp_path / ".env"
    drawn = dict(re.findall(r"^(\w+)=(.*)$", written.read_text(), re.MULTILINE))
    secrets = {value.removeprefix("nightshift:") for name, value in drawn.items() if name != "NIGHTSHIFT_REPOSITORY"}
    assert (first.returncode, drawn["NIGHTSHIFT_REPOSITORY"]) == (0, "https://git.example.org/n.git")
    assert len(secrets) == len(drawn) - 1 == 7 and all(re.fullmatch(r"[0-9a-f]{40}", value) for value in secrets)
    assert stat.S_IMODE(written.stat().st_mode) == 0o600 and not any(value in first.stdout + first.stderr for value in secrets)
    before = written.read_bytes()
    second = subprocess.run(words, capture_output=True, text=True)
    assert (second.returncode, written.read_bytes()) == (1, before) and "move it away" in second.stderr


class _Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers.get("Authorization") in (None, "Token right")
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


class _Many(http.server.ThreadingHTTPServer):
    request_queue_size = 64  # those that wait for it; the usual five would refuse some


@pytest.fixture
def door():
    """The port of a server that knows one token."""
    server = _Many(("127.0.0.1", 0), _Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_health_is_an_answer_of_200_with_the_token(door):
    """A refused token and a closed door are both ill, and say which; the token is in no words."""
    url = f"http://127.0.0.1:{door}/"
    assert answers.why_not(url) is None and answers.why_not(url, "right") is None
    assert answers.why_not(url, "wrong") == f"{url} answers 401"
    assert answers.why_not(closed := f"http://127.0.0.1:{free_port()}/").startswith(f"{closed} does not answer")
    ill = run("answers.py", url, "TOKEN", TOKEN="wrong")
    assert (ill.returncode, run("answers.py", url, "TOKEN", TOKEN="right").returncode) == (1, 0) and "wrong" not in ill.stderr


def test_a_forwarded_port_is_the_other_one(door):
    """What is asked here is answered there, many at once; with nobody there the connection ends."""

    async def asked(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        writer.write_eof()
        said = await reader.read()
        writer.close()
        return said

    async def through(target: int, times: int) -> list[bytes]:
        async with await forward.forward(0, "127.0.0.1", target) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.wait_for(asyncio.gather(*(asked(port) for _ in range(times))), 30)

    said = asyncio.run(through(door, 20))
    assert [one[-5:] for one in said] == [b"hello"] * 20
    assert asyncio.run(through(free_port(), 2)) == [b"", b""]


@pytest.fixture
def lasting(tmp_path) -> Iterator[str]:
    """A server as it stays for good: one that is started for a night plans nothing."""
    port = free_port()
    env = {**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    words = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen(words, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until(lambda: not answers.why_not(f"http://127.0.0.1:{port}/api/health"), tmp_path / "log")
        yield f"http://127.0.0.1:{port}/api"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.service
def test_deployed_schedules_become_runs_and_a_pause_outlasts_a_deployment(lasting, tmp_path):
    """All of deploy/prefect.yaml is there after one call, and the server plans nights; a pool that was paused stays paused.
    Messages are set up once their block is there; that it is not is said, and stops nothing."""
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import WorkPoolUpdate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    home = f"/srv/{uuid.uuid4()}"
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/prefect.yaml").write_text((ROOT / "deploy/prefect.yaml").read_text())
    settings = (ROOT / "params.yaml").read_text().replace("  block: null", "  block: custom-webhook/team")
    (tmp_path / "params.yaml").write_text(settings)
    with SyncPrefectClient(api=lasting) as client:
        first = run("deploy.sh", folder=tmp_path, PREFECT_API_URL=lasting, NIGHTSHIFT_HOME=home)
        assert first.returncode == 0 and "notify.block: there is no block custom-webhook/team" in first.stderr, first.stderr
        assert "nobody will hear what nights did" in first.stderr
        there = {one.name: one for one in client.read_deployments() if (one.job_variables or {}).get("working_dir") == home}
        assert there.keys() == {"nightly", "collect", "label", "reindex", "promote", "rollback"}
        nights = DeploymentFilter(id=DeploymentFilterId(any_=[there["nightly"].id]))
        planned = until(lambda: client.read_flow_runs(deployment_filter=nights))
        assert all(one.auto_scheduled for one in planned)
        client.update_work_pool("nightshift", WorkPoolUpdate(is_paused=True))
        block(httpx.Client(base_url=lasting, trust_env=False), "custom-webhook/team", name="team", url="http://127.0.0.1:1/")
        again = run("deploy.sh", folder=tmp_path, PREFECT_API_URL=lasting, NIGHTSHIFT_HOME=home)
        assert again.returncode == 0 and client.read_work_pool("nightshift").is_paused
        assert "go to custom-webhook/team" in again.stdout and "nobody" not in again.stderr
        assert len([one for one in client.read_automations() if one.name.startswith("nightshift.notify.")]) == 5
