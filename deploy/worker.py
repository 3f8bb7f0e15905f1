"""The worker of a machine: it starts the runs of deploy/prefect.yaml, and first ends the books on those that died.

    python -m deploy.worker POOL [OPTIONS of prefect worker start]

A run is a child of its worker and ends with it (flows/guard.py). Prefect does not know that: to it a killed night goes on, and as
long as it does the next one is refused. Whatever it believes to be running in the pool when its only worker starts is
therefore dead, and is marked Crashed. A question to a person that waits in its UI loses its process too: it is put again,
and an answer that came meanwhile counts (flows/asking.py).
"""

from __future__ import annotations

import os
import socket
import sys

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.deployments import run_deployment
from prefect.states import Crashed

from flows import asking

NAME = socket.gethostname()  # of the worker: one a machine
OPEN = [StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
WHY = "its worker on this machine had ended, and it with it; the next run goes on where it was"


def bury(client: SyncPrefectClient, pool: str) -> list[str]:
    """Mark as Crashed what the pool was running, and have questions put again; a line on each.

    Prefect notes a run's process and not its machine, so this is left alone while a worker of another machine is at work.
    """
    if others := [one.name for one in client.read_workers_for_work_pool(pool) if one.status == "ONLINE" and one.name != NAME]:
        return [f"{', '.join(others)} is at work in {pool} too: runs that died are left to Prefect"]
    runs = client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=OPEN))),
    )
    lines, dead = [], [run for run in runs if run.infrastructure_pid]
    for run in (one for one in dead if not one.state.is_paused()):
        done = client.set_flow_run_state(run.id, Crashed(message=WHY))
        lines.append(f"{run.name}: crashed; {WHY}" if done.status is SetStateStatus.ACCEPT else f"{run.name}: {done.details}")
    if len(lines) < len(dead):
        again = run_deployment(asking.DEPLOYMENT, timeout=0, as_subflow=False)
        lines.append(f"{again.name}: asks again what was being asked")
    return lines


def main(words: list[str] | None = None) -> int:
    """Become `prefect worker start`; exit code 1 where the server does not answer."""
    pool, *options = sys.argv[1:] if words is None else words
    try:
        with get_client(sync_client=True) as client:
            print(*bury(client, pool), sep="\n", flush=True)
    except httpx.HTTPError as error:  # whoever keeps it going tries again
        missing = isinstance(error, httpx.HTTPStatusError) and error.response.status_code == 404
        known = f"there is no work pool {pool} yet: make up and make deploy make those of deploy/prefect.yaml"
        print(f"worker: {known if missing else error}", file=sys.stderr)
        return 1
    start = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process", "--name", NAME, *options]
    os.execv(sys.executable, [sys.executable, *start])


if __name__ == "__main__":
    sys.exit(main())
