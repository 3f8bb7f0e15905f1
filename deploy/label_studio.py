"""Label Studio without a container: a real server on loopback, in an environment of its own, its projects ready-made.

    python -m deploy.label_studio install       # into build/label-studio, once
    python -m deploy.label_studio serve         # make label-studio: in the foreground; secrets in .nightshift/secrets.env

The server says "healthy" before it can answer, takes the next port when its own is taken, and listens everywhere unless
told otherwise: here it counts as ready when it knows the token, refuses a taken port and is bound to loopback. For a
team take the settings of deploy/labelling/README.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.environments import ROOT, plain
from deploy.label_studio_install import DATABASE, QUIET, SERVER, empty_database
from deploy.processes import end_with_parent, free_ports, refuse_taken
from tasks.errors import NightshiftError, ServiceError
from tasks.labelling.secrets import FILE, PASSWORD, SALT, TOKEN, WEBHOOK, ensure
from tasks.params import load

USER = "nightshift@localhost"
READY_SECONDS = 180


def environment(data: Path, token: str, password: str) -> dict[str, str]:
    """The server's settings: nobody signs up by himself, nothing is reported or fetched from elsewhere.

    The server refuses webhooks to private addresses, so that its users cannot reach into its network. The one who wakes
    a collection listens on loopback, so this is off; the only ones who can set a webhook here are users of this machine,
    who reach loopback anyhow. Where others log in, leave it on.
    """
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",  # one that is known beforehand; the other kind is drawn by the server
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_ALLOWED_HOSTS": "127.0.0.1,localhost",  # else a page elsewhere could call itself this server (rebinding)
        "LABEL_STUDIO_CORS_ALLOW_ALL_ORIGINS": "false",
        "LABEL_STUDIO_ENABLE_LOCAL_FILES_STORAGE": "false",
        "LS_CSP_REPORT_ONLY": "false",  # else a browser fetches images from anywhere
        "USE_DEFAULT_BANNED_SUBNETS": "false",
        **QUIET,
    }


class Server:
    """A server for as long as a `with` lasts. It is ended with all it started, also when this process is killed."""

    def __init__(self, data: Path, token: str, password: str, port: int | None = None):
        """`data` is its folder, kept afterwards; token and password are set when that folder is new."""
        if not re.fullmatch(r"[0-9a-f]{40}", token):
            raise ServiceError(TOKEN, "is not 40 hex digits, as a server here needs", f"unset it: one is drawn into {FILE}")
        self.data, self.token, self.password, self.port = data.resolve(), token, password, port or free_ports(1)
        self.log = self.data.with_name(f"{self.data.name}.log")
        self._process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process, which leads a group of its own."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> Server:
        """Start it and wait until it knows the token; ServiceError with its last words when it does not."""
        refuse_taken("label-studio", self.port, "--port")  # the server itself would take the next one and say so in its log
        program = SERVER.install() / "bin" / "label-studio"
        _fill(self.data)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [str(program), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(self.port)],
                env={**plain(os.environ), **environment(self.data, self.token, self.password)},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=end_with_parent,
                start_new_session=True,
                cwd=self.data,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end and self._process and self._process.poll() is None:
            status = _whoami(self.url, self.token)
            if status == 200:
                return
            if status == 401:
                raise ServiceError(
                    str(self.data), "was made with another token", f"bring back its {FILE}, or move the folder away for a new one"
                )
            time.sleep(0.2)
        words = self.log.read_text(errors="replace")[-600:]
        raise ServiceError("label-studio", f"did not start: {words}", f"free its port, or see {self.log}")

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait()

    def stop(self) -> None:
        """End it as an administrator would, by force after a while."""
        if self._process and self._process.poll() is None:
            os.killpg(self.pid, signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _fill(data: Path) -> None:
    """A new folder, for its owner alone, begins with an empty database. Whole or not there at all."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not (data / DATABASE).exists():
        part = data / f".{DATABASE}.part"
        shutil.copyfile(empty_database(), part)
        part.chmod(0o600)
        os.replace(part, data / DATABASE)


def _whoami(url: str, token: str) -> int | None:
    """What an authenticated request is answered with; None while nobody answers."""
    asked = urllib.request.Request(f"{url}/api/current-user/whoami", headers={"Authorization": f"Token {token}"})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError):
        return None


def serve(port: int, data: Path, root: Path = ROOT) -> int:
    """Run the server until Ctrl-C, its projects made; returns the exit code. No secret is printed."""
    refuse_taken("label-studio", port, "--port")
    params = load(root / "params.yaml")
    before = PASSWORD in os.environ
    secrets = ensure(root, [TOKEN, PASSWORD, SALT, WEBHOOK])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(f"label-studio {SERVER.version()}: starting, log in {data}.log", flush=True)
        with Server(data, secrets[TOKEN], secrets[PASSWORD], port) as server:
            from tasks.labelling.label_studio import connect

            with connect(server.url, secrets[TOKEN], params.labelling) as studio:
                made = studio.ensure_projects()
            for kind, project in sorted(made.items()):
                print(f"  {kind:<10} {server.url}/projects/{project}/")
            where = "the environment" if before else root / FILE
            print(f"log in at {server.url} as {USER}; the password is {PASSWORD} in {where}")
            if params.labelling.url != server.url:
                print(f"to send to it and collect from it, set in params.yaml: labelling.url: {server.url}")
            print(f"data in {data}; Ctrl-C ends it", flush=True)
            code = server.wait()
        print(f"label-studio ended by itself with code {code}, see {server.log}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("label-studio: ended")
        return 0


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m deploy.label_studio", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("install", help="install the server unless it is there")
    one = commands.add_parser("serve", help="run it in the foreground, on loopback")
    one.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    folder = ROOT / "stores" / "label-studio"
    one.add_argument("--data", type=Path, default=folder, help="its folder (default: stores/label-studio)")
    given = parser.parse_args(words)
    try:
        if given.command == "serve":
            return serve(given.port, given.data)
        print(SERVER.install())
    except NightshiftError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
