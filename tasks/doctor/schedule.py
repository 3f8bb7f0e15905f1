"""Prefect, by its REST API: the server, what works for it, what it starts. And what `make up` keeps going.

Nothing of it is needed for a night by hand. The address is where Prefect itself looks first: PREFECT_API_URL, the active
profile; else that of make up. Prefect's own package is not loaded, for that takes longer than all questions.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import tomllib
import xmlrpc.client
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import httpx
import yaml

from tasks import lock
from tasks.doctor.findings import Finding, Place, broken, note, ok, warning
from tasks.doctor.web import Answer, NoAnswerError, ask
from tasks.terminal import without_passwords

VARIABLE, POOL = "PREFECT_API_URL", "nightshift"
DEPLOYMENTS = ("nightly", "collect", "label", "reindex", "promote", "rollback")  # of deploy/prefect.yaml
SCHEDULED = ("nightly", "collect", "reindex")  # those that have a time
UP = lock.WORK / "up"  # of make up: settings, socket, logs
SECONDS = 3.0
PATIENCE = timedelta(minutes=5)  # for the scheduler to plan a run, and for a worker to begin one


def kept_going(place: Place) -> Iterator[Finding]:
    """The programs of make up."""
    folder = place.checkout / UP
    if not (folder / "supervisord.conf").is_file():
        return
    programs = _supervised(folder / "socket")
    if programs is None:
        told = "make up was here and runs no more (make down, or the machine was started again)"
        if configured(place):
            yield note(told)
        else:
            yield warning(f"{told}: nights do not start by themselves", "make up")
        return
    bad = [one for one in programs if one["statename"] not in ("RUNNING", "STARTING")]
    for one in bad:
        log = (UP / f"{one['name']}.log").as_posix()
        yield broken(f"make up: {one['name']} does not run ({one['statename'].lower()})",
                     f"see {log}; then make down && make up")
    if not bad:
        yield ok(f"make up keeps going: {', '.join(one['name'] for one in programs)}")


def _supervised(path: Path) -> list[dict[str, Any]] | None:
    """State of each program; None where no supervisord answers at the socket."""
    body = xmlrpc.client.dumps((), "supervisor.getAllProcessInfo").encode()
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=SECONDS) as client:
            answer = client.post("http://supervisor/RPC2", content=body, headers={"Content-Type": "text/xml"})
        return list(xmlrpc.client.loads(answer.text)[0][0])
    except (httpx.HTTPError, OSError, ExpatError, xmlrpc.client.Error, LookupError, TypeError):  # or it is something else's
        return None


def configured(place: Place) -> tuple[str, str] | None:
    """Address of the API that a night would report to, and where it is written; None: nights run by hand."""
    if url := os.environ.get(VARIABLE):
        return url, VARIABLE
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH")
                    or Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect") / "profiles.toml")  # fmt: skip
    if profiles.is_file():
        told = tomllib.loads(profiles.read_text(encoding="utf-8"))
        name = os.environ.get("PREFECT_PROFILE") or told.get("active")
        if url := told.get("profiles", {}).get(name, {}).get(VARIABLE):
            return str(url), f"Prefect's profile {name}"
    return None


def of_up(place: Place) -> str | None:
    """Address of make up's server, where make up runs."""
    conf = place.checkout / UP / "supervisord.conf"
    if not conf.is_file() or not _listens(conf.with_name("socket")):
        return None
    port = re.search(r"server start .*--port (\d+)", conf.read_text(encoding="utf-8"))
    return f"http://127.0.0.1:{port[1]}/api" if port else None


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def address(place: Place) -> tuple[str, str] | None:
    """Of the server that there is for nights, and where it is written: the configured one's, else make up's."""
    told, ours = configured(place), of_up(place)
    url, where = told or (ours, "make up")
    return (url.rstrip("/"), where) if url else None


def server(place: Place) -> Iterator[Finding]:
    """Whether it answers, fits this client, has somebody who works for it and knows what to start when."""
    found = address(place)
    if found is None:
        yield note(f"{VARIABLE} is not set: nights run by hand (make nightly); make up brings a server with schedules")
        return
    (url, where), shown = found, without_passwords(found[0])
    try:
        health = call(url, "/health")
    except NoAnswerError as error:
        yield broken(f"Prefect's server {shown} ({where}) {error}", _start(where))
        return
    if health.status in (401, 403):
        yield broken(f"Prefect's server {shown} wants a key",
                     "export PREFECT_API_KEY=…, or PREFECT_API_AUTH_STRING=user:password")
        return
    if health.status != 200 or health.content is not True:
        yield broken(f"{shown} ({where}) answers with something that is not Prefect's (status {health.status})",
                     f"{VARIABLE} must end in /api: export {VARIABLE}=http://127.0.0.1:4200/api")
        return
    yield ok(f"Prefect's server {shown} answers ({where})")
    if where == "make up":
        yield note(f"runs by hand are not seen there without: export {VARIABLE}={shown}")
    try:
        yield from _version(call(url, "/admin/version"))
        deployed = call(url, "/deployments/filter", {"deployments": {"name": {"any_": list(DEPLOYMENTS)}}, "limit": 200})
        named = _pools(place)
        known = [one for one in rows(deployed) if one.get("work_pool_name") in named]
        for pool in named:
            yield from _workers(url, pool, any(one.get("work_pool_name") == pool for one in known))
        yield from _deployments(place, known, url)
    except NoAnswerError as error:
        yield broken(f"Prefect's server {shown} {error}", "look at its log and its load")


def _start(where: str) -> str:
    if where == "make up":
        return f"see {UP}/prefect.log; make down && make up"
    return f"prefect server start, or make up; without a server: unset {VARIABLE}" if where == VARIABLE else (
        "prefect server start, or make up; without a server: prefect config unset PREFECT_API_URL")


def call(url: str, path: str, body: Any = None) -> Answer:
    """One question to the API, with the key or the password that Prefect itself would take."""
    key, basic = os.environ.get("PREFECT_API_KEY"), os.environ.get("PREFECT_API_AUTH_STRING")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if basic:
        headers = {"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"}
    return ask(url + path, headers=headers, body=body)


def rows(answer: Answer) -> list[dict[str, Any]]:
    """What is listed. NoAnswerError where it is not."""
    if answer.status != 200 or not isinstance(answer.content, list):
        raise NoAnswerError(f"refuses a plain question (status {answer.status})")
    return [one for one in answer.content if isinstance(one, dict)]


def _version(answer: Answer) -> Iterator[Finding]:
    """A client may be older than its server, not newer; a hosted server does not tell."""
    there, here = str(answer.content), metadata.version("prefect")
    if answer.status != 200 or not re.match(r"\d+\.\d+\.\d+", there):
        return
    theirs, mine = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (there, here))
    if theirs < mine:
        yield warning(f"Prefect's server is {there}, the client here {here}: a server must not be older",
                      "start the server again from this environment (make down && make up)")
    elif theirs[:2] != mine[:2]:
        yield note(f"Prefect's server is {there}, the client here {here}")
    else:
        yield ok(f"Prefect {here}, server {there}")


def pools(root: Path) -> list[str]:
    """Work pools that deploy/prefect.yaml names."""
    plan = yaml.safe_load((root / "deploy/prefect.yaml").read_text(encoding="utf-8"))
    return sorted({str(one["work_pool"]["name"]) for one in plan["deployments"]})


def _pools(place: Place) -> list[str]:
    try:
        return pools(place.root)
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return [POOL]


def _workers(url: str, name: str, deployed: bool) -> Iterator[Finding]:
    pool = call(url, f"/work_pools/{name}")
    if pool.status == 404 or not isinstance(pool.content, dict):
        yield warning(f"there is no work pool {name}: the server starts no nights",
                      f"make up, or prefect work-pool create --type process {name}")
        return
    workers = [str(one.get("name")) for one in rows(call(url, f"/work_pools/{name}/workers/filter", {}))
               if one.get("status") == "ONLINE"]  # fmt: skip
    if pool.content.get("is_paused"):
        yield warning(f"work pool {name} is paused: nothing is started", f"prefect work-pool resume {name}")
    if workers:
        yield ok(f"work pool {name}, worker {', '.join(sorted(workers))} online")
    else:
        say = broken if deployed else warning
        yield say(f"no worker is online in work pool {name}: runs stay late and none begins",
                  f"make up, or on another machine make worker POOL={name}")


def _deployments(place: Place, known: Sequence[dict[str, Any]], url: str) -> Iterator[Finding]:
    names = {str(one.get("name")): one for one in known}
    if missing := [name for name in DEPLOYMENTS if name not in names]:
        yield warning(f"not deployed: {', '.join(missing)}",
                      "make deploy where make up runs; else prefect deploy --all --prefect-file deploy/prefect.yaml")
    still = [name for name in SCHEDULED if name in names and not _scheduled(names[name])]
    if "nightly" in still:
        yield warning("no schedule of deployment nightly is active: no night starts by itself",
                      "prefect deployment schedule ls nightly/nightly, then … resume; or switch it on in the UI")
    if others := [name for name in still if name != "nightly"]:
        yield note(f"no schedule is active: {', '.join(others)}")
    elsewhere = {folder for one in known for folder in _folders(one) if Path(folder) != place.root}
    if elsewhere:
        yield warning(f"runs work in {', '.join(sorted(elsewhere))}, and this is {place.root}",
                      "make deploy here, if runs should work here")
    found = list(_next(url, names["nightly"])) if "nightly" in names and "nightly" not in still else []
    if not missing and not still and not elsewhere:
        yield ok(f"deployed: {', '.join(DEPLOYMENTS)}")
    yield from found


def _next(url: str, nightly: dict[str, Any]) -> Iterator[Finding]:
    """When the next night begins, by the runs that the server's own scheduler has planned."""
    runs = rows(call(url, "/flow_runs/filter", {
        "deployments": {"id": {"any_": [nightly.get("id")]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "sort": "EXPECTED_START_TIME_ASC", "limit": 1}))  # fmt: skip
    now = datetime.now(UTC)
    if runs:
        when = datetime.fromisoformat(runs[0]["expected_start_time"])
        if now - when > PATIENCE:
            yield warning(f"a night has been due since {when:%Y-%m-%d %H:%M} UTC, and nobody has begun it",
                          f"look at the worker: {UP}/worker.log, or prefect flow-run ls --state Late")
        else:
            yield ok(f"the next night begins {when:%Y-%m-%d %H:%M} UTC")
    elif now - datetime.fromisoformat(nightly["created"]) > PATIENCE:
        yield warning("nightly has a schedule, and the server has planned no run of it: its scheduler does not work",
                      f"see {UP}/prefect.log or the server's; packages as requirements.lock has them, then make down && make up")


def _scheduled(deployment: dict[str, Any]) -> bool:
    return not deployment.get("paused") and any(one.get("active") for one in deployment.get("schedules") or [])


def _folders(deployment: dict[str, Any]) -> Iterator[str]:
    """Where its runs work, by its pull steps."""
    for step in deployment.get("pull_steps") or []:
        for name, settings in step.items():
            if name.endswith("set_working_directory") and isinstance(settings, dict):
                yield str(settings.get("directory"))
