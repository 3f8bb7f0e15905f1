"""Everything that nights by themselves need, on this machine: `make up`, `make down`.

    Prefect server       http://127.0.0.1:4200, its history where Prefect keeps it (PREFECT_HOME)
    worker               starts the runs of deploy/prefect.yaml, in the nights' home (tasks/home.py)
    Label Studio         http://127.0.0.1:8080, or where on this machine labelling.url says; none where that is elsewhere
    label receiver       flows/webhook.py, where labelling.url names a Label Studio
    Weaviate             where index.store names it and its binary is there (make weaviate)

supervisord keeps them going: a server that dies is started again, after a reboot `make up` does. It is told what to do by a
socket that only its owner can open. All is on loopback. When supervisord itself is killed, its programs end with it
(flows/guard.py). For a machine that others reach: deploy/README.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from deploy import weaviate
from deploy.processes import refuse_taken
from flows import server
from tasks import environment, git, home, lock
from tasks.doctor import schedule
from tasks.errors import NightshiftError, ParamsError, ServiceError
from tasks.files import write_atomic
from tasks.labelling import secrets
from tasks.params import Params, load

FOLDER = lock.WORK / "up"  # supervisord's settings, socket and logs
POOL = "nightshift"
GUARD = Path(__file__).parents[1] / "flows" / "guard.py"
PATIENCE = 120.0  # seconds that Prefect's server may take to answer
KEY = "WEAVIATE_API_KEY"
LABEL_STUDIO = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Program:
    """One thing that is kept going."""

    name: str
    command: list[str]
    folder: Path
    port: int | None = None  # that it takes
    page: str | None = None  # where a person finds it
    grace: int = 10  # seconds between asking it to end and ending it


def programs(there: home.Home, cfg: Params, port: int) -> Iterator[Program]:
    """What is started, in this order."""
    python, checkout = sys.executable, there.checkout
    yield Program("prefect", [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)], checkout,
                  port, f"http://127.0.0.1:{port}")  # fmt: skip
    yield Program("worker", [python, "-m", "deploy.worker", POOL], there.root, grace=60)
    url = urlsplit(cfg.labelling.url or LABEL_STUDIO)
    if url.hostname in ("127.0.0.1", "localhost"):
        words, at = ["serve", "--port", str(url.port or 80)], url.port or 80
        yield Program("label-studio", [python, "-m", "deploy.label_studio", *words], checkout, at, url.geturl(), grace=30)
    if cfg.labelling.url:
        yield Program("receiver", [python, "-m", "flows.webhook"], there.root, cfg.labelling.webhook.port or None)
    if cfg.index.store == "weaviate" and weaviate.BINARY.is_file():
        at = cfg.index.weaviate
        words = ["serve", "--port", str(at.port), "--grpc-port", str(at.grpc_port)]
        yield Program("weaviate", [python, "-m", "deploy.weaviate", *words], checkout, at.port, grace=30)


def settings(folder: Path, all_of: list[Program]) -> str:
    """supervisord's configuration file."""
    lines = [
        "[supervisord]", f"logfile={_value(folder / 'supervisord.log')}", f"pidfile={_value(folder / 'supervisord.pid')}",
        f"childlogdir={_value(folder)}", "logfile_backups=2", "umask=077",
        "[unix_http_server]", f"file={_value(folder / 'socket')}", "chmod=0700",
        "[supervisorctl]", f"serverurl=unix://{_value(folder / 'socket')}",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]  # fmt: skip
    for place, one in enumerate(all_of):
        guarded = [sys.executable, "-I", "-S", str(GUARD), "0", *one.command]
        lines += [
            f"[program:{one.name}]", f"command={_value(shlex.join(guarded))}", f"directory={_value(one.folder)}",
            f"priority={place}", "autorestart=true", "startretries=10", "startsecs=3", f"stopwaitsecs={one.grace}",
            "redirect_stderr=true", f"stdout_logfile={_value(folder / f'{one.name}.log')}", "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=3",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _value(text: object) -> str:
    return str(text).replace("%", "%%")


def up(checkout: Path, port: int, without: Sequence[str] = ()) -> list[str]:
    """Make the home, start all but the programs named in `without`, deploy; lines on where everything is.

    What runs already is left running, and deployed again. ServiceError where a port is taken.
    """
    cfg = load(checkout / "params.yaml")
    there = home.make(checkout)
    folder = checkout / FOLDER
    lines = [f"nights live in {there.root} (git branch {home.BRANCH}); they take in what {there.follows} has committed"]
    lines += taken_in(there)
    if found := git.dirty(checkout, "params.yaml", "data.dvc"):
        lines.append(f"not committed, so not theirs: {', '.join(found)}")
    if running(folder):
        return [*lines, "runs already; make down ends it", *deploy(there, port, cfg)]
    wanted = [one for one in programs(there, cfg, port) if one.name not in without]
    ports = [one.port for one in wanted if one.port]
    if twice := [one.name for one in wanted if ports.count(one.port) > 1]:
        raise ParamsError("params.yaml", f"{' and '.join(twice)} would take the same port", "give one of them another")
    for one in wanted:
        if one.port:
            refuse_taken(one.name, one.port, "make down in the folder that has it")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "supervisord.conf", settings(folder, wanted))
    env = {**os.environ, **_connected(there, port), **_keys(checkout, wanted)}
    _supervisor("supervisord", folder, env=env)
    lines += deploy(there, port, cfg)
    lines += [f"{one.name:<13} {one.page}" for one in wanted if one.page]
    if not cfg.labelling.url and "label-studio" not in without:
        lines.append(f"nights do not ask people yet: set labelling.url: {LABEL_STUDIO} in params.yaml and commit it")
    return [*lines, f"logs          {folder.relative_to(checkout)}/*.log"]


def _connected(there: home.Home, port: int) -> dict[str, str]:
    """The environment of all: one server, the home's code, the interpreter's own programs first."""
    skip = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
    return {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A time that has run out while the server was down is still seen when it is back; by default not after a minute.
        "PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER": "P7D",
        "NIGHTSHIFT_HOME": str(there.root),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "NO_PROXY": skip, "no_proxy": skip,
    }  # fmt: skip


def _keys(checkout: Path, wanted: list[Program]) -> dict[str, str]:
    """Weaviate's key, which server and nights share; drawn once where none is set."""
    return secrets.ensure(checkout, [KEY]) if any(one.name == "weaviate" for one in wanted) else {}


def deploy(there: home.Home, port: int, cfg: Params) -> list[str]:
    """Messages (deploy/notifications.py), the work pools and the deployments of the home's deploy/prefect.yaml, once the server
    answers. ServiceError, with nothing deployed, where notify.block is not there."""
    env = {**os.environ, **_connected(there, port)}
    if not server.healthy(env["PREFECT_API_URL"], time.monotonic() + PATIENCE):
        raise ServiceError("prefect", f"{env['PREFECT_API_URL']} does not answer", f"see {FOLDER}/prefect.log")
    messages = _messages(env["PREFECT_API_URL"], there.root, cfg)
    missing = [name for name in schedule.pools(there.root)  # one that somebody has paused stays so
               if not httpx.get(f"{env['PREFECT_API_URL']}/work_pools/{name}", trust_env=False, timeout=30).is_success]
    for words in (
        *(["work-pool", "create", name, "--type", "process"] for name in missing),
        ["--no-prompt", "deploy", "--all", "--prefect-file", "deploy/prefect.yaml"],
    ):
        done = subprocess.run([sys.executable, "-m", "prefect", *words], cwd=there.root, env=env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True)  # fmt: skip
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-2000:]
            raise ServiceError(f"prefect {words[0].strip('-')}", said, "mend deploy/prefect.yaml, commit, and make up again")
    return [f"deployed: {there.root / 'deploy/prefect.yaml'}; see http://127.0.0.1:{port}/deployments", *messages]


def _messages(api: str, root: Path, cfg: Params) -> list[str]:
    from prefect.client.orchestration import SyncPrefectClient

    from deploy import notifications  # Prefect takes two seconds, which status and down need not wait

    try:
        with SyncPrefectClient(api, httpx_settings={"trust_env": False}) as client:
            return notifications.settle(client, cfg.notify, notifications.deployed(root), api.removesuffix("/api"))
    except httpx.HTTPError as error:
        raise ServiceError("prefect", str(error), f"see {FOLDER}/prefect.log") from None


def again(checkout: Path, port: int) -> list[str]:
    """Deploy after a change. ServiceError where nothing runs."""
    if not running(checkout / FOLDER):
        raise ServiceError("prefect", "nothing runs here", "make up")
    there = home.make(checkout)
    return [*taken_in(there), *deploy(there, port, load(checkout / "params.yaml"))]


def taken_in(there: home.Home) -> list[str]:
    """Let the home take in what the checkout has committed, deploy/prefect.yaml among it, unless a night is at work there."""
    try:
        with lock.alone(there.root, "make deploy", lock.MOMENT):
            return list(filter(None, [home.take_in(there.root, "Deployed, broken off")]))
    except lock.BusyError as busy:
        return [f"{busy.what}: what was committed since it began is deployed by make deploy after it"]


def down(checkout: Path) -> list[str]:
    """End what `up` has started here, and nothing else; returns when it is gone."""
    folder = checkout / FOLDER
    if not running(folder):
        return ["nothing runs here"]
    _supervisor("supervisorctl", folder, "shutdown")
    end = time.monotonic() + 120
    while running(folder):  # the pages go first, the process when all it runs has ended
        if time.monotonic() > end:
            raise ServiceError("supervisord", "is still ending what it runs", f"see {FOLDER}/supervisord.log; make down again")
        time.sleep(0.2)
    return ["all of it has ended; data, releases and history stay"]


def status(checkout: Path) -> list[str]:
    """What runs, since when."""
    folder = checkout / FOLDER
    return _supervisor("supervisorctl", folder, "status").splitlines() if running(folder) else ["nothing runs here"]


def running(folder: Path) -> bool:
    """Whether the supervisord of this folder is there: the process that its file names, and no other that has its number now."""
    try:
        number = int((folder / "supervisord.pid").read_text())
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    return os.fsencode(folder / "supervisord.conf") in command


def _words(program: str, folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", f"supervisor.{program}", "-c", str(folder / "supervisord.conf"), *words]


def _supervisor(program: str, folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(_words(program, folder, *words), env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode not in (0, 3):  # 3: status, and something does not run
        raise ServiceError(program, (done.stderr or done.stdout).strip(), f"see {FOLDER}/supervisord.log")
    return done.stdout


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0, or 1 with one line on stderr."""
    environment.apply()
    parser = argparse.ArgumentParser(prog="python -m deploy.up", description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["up", "down", "status", "deploy", "leave"], default="up")
    parser.add_argument("--port", type=int, default=4200, help="of Prefect's server (default: %(default)s)")
    parser.add_argument("--without", nargs="+", default=[], choices=["label-studio", "receiver", "weaviate"],
                        help="up: leave these to somebody else")  # fmt: skip
    given, checkout = parser.parse_args(words), home.shared(Path.cwd())
    try:
        if not (checkout / "dvc.yaml").is_file():
            raise ParamsError(str(checkout), "has no dvc.yaml", "run from the repository's root")
        act = {
            "up": lambda: up(checkout, given.port, given.without),
            "down": lambda: down(checkout),
            "status": lambda: status(checkout),
            "deploy": lambda: again(checkout, given.port),
            "leave": lambda: [*down(checkout), home.remove(checkout)],
        }
        print(*act[given.what](), sep="\n")
    except NightshiftError as error:
        print(f"make {given.what}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
