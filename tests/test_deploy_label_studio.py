"""The server beside us: installed whole or not at all, on loopback alone, ended with its parent, silent on secrets."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from deploy import label_studio as deploy
from deploy.label_studio_install import SERVER
from deploy.processes import free_ports
from tasks.errors import ServiceError
from tests.labelling_fixtures import client
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parent.parent


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listeners(port: int) -> set[str]:
    """Addresses on which somebody listens at this port, as the kernel writes them."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"}


def test_a_taken_port_is_refused(tmp_path, capsys):
    """The server would take the next one, and nobody would find it: nothing is started, installed or written."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert deploy.main(["serve", "--port", str(port), "--data", str(tmp_path / "data")]) == 1
    assert f"port {port} is taken" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_token_that_the_server_would_not_take_is_refused(tmp_path):
    """A personal access token of another server in the environment; the error does not repeat it."""
    with pytest.raises(ServiceError, match="LABEL_STUDIO_API_KEY") as error:
        deploy.Server(tmp_path / "data", "eyJhbGciOi.secret", "x")
    assert "eyJ" not in str(error.value) and not list(tmp_path.iterdir())


def test_the_version_is_the_locks():
    """The server that is installed, and the one that the log names."""
    assert SERVER.version() == "1.23.2"


@pytest.mark.service
def test_it_listens_on_loopback_alone_and_lets_nobody_in(label_studio):
    """No other address, no other host name, no sign-up, no page without its policy; and the log knows no secret."""
    assert listeners(label_studio.port) == {"0100007F"}  # 127.0.0.1, and nothing on IPv6
    with httpx.Client(base_url=label_studio.url) as stranger:
        login = stranger.get("/user/login/")
        assert "default-src 'self'" in login.headers["content-security-policy"] and "Sign up" not in login.text
        drawn = re.search('csrfmiddlewaretoken" value="([^"]+)"', stranger.get("/user/signup/").text)[1]
        form = {"csrfmiddlewaretoken": drawn, "email": "stranger@localhost", "password": secrets.token_hex(8)}
        assert stranger.post("/user/signup/", data=form).status_code == 403
    assert httpx.get(f"{label_studio.url}/user/login/", headers={"Host": "elsewhere.example"}).status_code == 400
    assert httpx.get(f"{label_studio.url}/api/projects").status_code == 401
    assert client(label_studio).get("/api/current-user/whoami").json()["email"] == deploy.USER
    assert not {s for s in (label_studio.token, label_studio.password) if s in label_studio.log.read_text()}
    assert stat.S_IMODE(label_studio.data.stat().st_mode) == 0o700


@pytest.mark.service
def test_it_ends_with_its_parent_and_keeps_its_token(tmp_path, label_studio):
    """kill -9 of who started it leaves no server behind; its folder then knows the old token and refuses another."""
    token = secrets.token_hex(20)
    code = (
        "import sys; from pathlib import Path; from deploy.label_studio import Server\n"
        "server = Server(Path(sys.argv[1]), sys.argv[2], 'password-of-a-test').start()\n"
        "print(server.pid, flush=True); server.wait()"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "data"), token]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    until(lambda: not alive(pid))
    with pytest.raises(ServiceError, match="another token") as error:
        deploy.Server(tmp_path / "data", secrets.token_hex(20), "password-of-a-test").start()
    assert ".nightshift/secrets.env" in str(error.value) and token not in str(error.value)


@pytest.mark.service
def test_make_label_studio_does_all(tmp_path, label_studio):
    """Secrets drawn, projects made, said where the password is and never what it is; Ctrl-C ends all of it."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    port = free_ports(1)
    code = "import sys; from pathlib import Path; from deploy.label_studio import serve\n" \
           "sys.exit(serve(int(sys.argv[1]), Path(sys.argv[2]) / 'stores' / 'ls', Path(sys.argv[2])))"  # fmt: skip
    env = {name: value for name, value in os.environ.items() if not name.startswith(("LABEL_STUDIO", "NIGHTSHIFT"))}
    output = tmp_path / "said"
    with output.open("w") as file:
        words = [sys.executable, "-c", code, str(port), str(tmp_path)]
        heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  (a shell's background job would ignore it)
        server = subprocess.Popen(words, stdout=file, stderr=file, cwd=ROOT, env=env, preexec_fn=heard)
    try:
        until(lambda: "Ctrl-C ends it" in output.read_text() or server.poll() is not None)
        said, kept = output.read_text(), tmp_path / ".nightshift" / "secrets.env"
        assert server.poll() is None, said
        drawn = dict(line.split("=") for line in kept.read_text().splitlines())
        assert set(drawn) == {deploy.TOKEN, deploy.PASSWORD, deploy.SALT, deploy.WEBHOOK}
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        log = (tmp_path / "stores" / "ls.log").read_text()
        assert not {name for name, secret in drawn.items() if secret in said or secret in log}
        assert deploy.USER in said and deploy.PASSWORD in said and str(kept) in said
        headers = {"Authorization": f"Token {drawn[deploy.TOKEN]}"}
        made = httpx.get(f"http://127.0.0.1:{port}/api/projects", headers=headers).json()["results"]
        assert {one["title"] for one in made} == {f"Nightshift: {kind}" for kind in ("compare", "rank", "corrections")}
        assert all(f"/projects/{one['id']}/" in said for one in made)
        [child] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        server.send_signal(signal.SIGINT)
        assert server.wait(PATIENCE) == 0 and not alive(int(child))
    finally:
        server.kill()
        server.wait()
