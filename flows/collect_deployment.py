"""When collections happen by themselves: every hour, and when flows/webhook.py says that people have judged.

`serve` keeps them going in the foreground, at the Prefect server that PREFECT_API_URL names. Both reasons lead to the same
flow, and it may run once at a time: a second one waits, for it may find what came after the first had read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.events import DeploymentEventTrigger

from flows import server
from flows.webhook import EVENT, RESOURCE

EVERY = timedelta(hours=1)


def serve(flow: Flow, parameters: dict[str, Any] | None = None, name: str = "collect", every: timedelta = EVERY) -> None:
    """Serve a flow until SIGINT or SIGTERM. ServiceError where no lasting Prefect server is named."""
    server.need_lasting("an event needs a server that keeps it")
    flow.serve(
        name=name,
        interval=every,
        parameters=parameters,
        triggers=[trigger()],
        global_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE),
        description="Judgements from Label Studio into data/: every hour, and when there are new ones.",
        print_starting_message=False,
    )


def trigger() -> DeploymentEventTrigger:
    """Each `nightshift.judgements` starts a run."""
    return DeploymentEventTrigger(name=EVENT, expect={EVENT}, match={"prefect.resource.id": RESOURCE}, threshold=1)
