"""The worker that `make up` keeps going: it starts the runs of deploy/prefect.yaml, and first ends the books on those that died.

A run is a child of its worker and ends with it (flows/guard.py). Prefect does not know that: to it a killed night goes on, and as
long as it does the next one is refused. Whatever it believes to be running in the pool when its only worker starts is
therefore dead, and is marked Crashed. A question to a person that waits in its UI loses its process too: it is put again,
and an answer that came meanwhile counts (flows/asking.py).
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import httpx

from tasks.errors import NightshiftError, ServiceError

QUESTION = ("promote", "promote")  # flow and deployment that ask
NAME = socket.gethostname()  # of the worker: one a machine
WHY = "its worker on this machine had ended, and it with it; the next run goes on where it was"


def bury(api: httpx.Client, pool: str) -> list[str]:
    """Mark as Crashed what the pool was running, and have questions put again; a line on each.

    Prefect notes a run's process and not its machine, so this is left alone while a worker of another machine is at work.
    """
    if others := [one["name"] for one in _post(api, f"/work_pools/{pool}/workers/filter", {})
                  if one["status"] == "ONLINE" and one["name"] != NAME]:  # fmt: skip
        return [f"{', '.join(others)} is at work in {pool} too: runs that died are left to Prefect"]
    lines, questions = [], False
    for run in _dead(api, pool):
        if run["state"]["type"] == "PAUSED":
            questions = True
            continue
        done = _post(api, f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CRASHED", "name": "Crashed", "message": WHY}})
        lines.append(f"{run['name']}: crashed; {WHY}" if done["status"] == "ACCEPT" else f"{run['name']}: {done['details']}")
    if questions:
        flow, name = QUESTION
        found = _get(api, f"/deployments/name/{flow}/{name}")
        run = _post(api, f"/deployments/{found['id']}/create_flow_run", {})
        lines.append(f"{run['name']}: asks again what was being asked")
    return lines


def _dead(api: httpx.Client, pool: str) -> list[dict[str, Any]]:
    wanted = {
        "work_pools": {"name": {"any_": [pool]}},
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING", "PAUSED"]}}},
    }
    return [run for run in _post(api, "/flow_runs/filter", wanted) if run["infrastructure_pid"]]


def _get(api: httpx.Client, path: str) -> Any:
    return _told(api.get(path), path)


def _post(api: httpx.Client, path: str, what: dict[str, Any]) -> Any:
    return _told(api.post(path, json=what), path)


def _told(answer: httpx.Response, path: str) -> Any:
    if answer.is_error:
        raise ServiceError("prefect", f"answers {answer.status_code} to {path}", "see the server's log")
    return answer.json()


def main(words: list[str] | None = None) -> int:
    """`python -m deploy.worker POOL`: becomes `prefect worker start`; exit code 1 where the server does not answer."""
    (pool,) = sys.argv[1:] if words is None else words
    url = os.environ["PREFECT_API_URL"].rstrip("/")
    transport = httpx.HTTPTransport(retries=3)
    try:
        with httpx.Client(base_url=url, transport=transport, timeout=30, trust_env=False) as api:
            print(*bury(api, pool), sep="\n", flush=True)
    except (NightshiftError, httpx.HTTPError) as error:
        print(f"worker: {error}", file=sys.stderr)
        return 1  # supervisord tries again
    start = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", NAME]
    os.execv(sys.executable, [sys.executable, *start])


if __name__ == "__main__":
    sys.exit(main())
