"""What a run has cost, for those who come after: a row among the runs, a page, a table in Prefect's UI, a line.

Nothing here can fail a night.
"""

from __future__ import annotations

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from flows import steps
from tasks import costs, records
from tasks.files import write_atomic


def settle(night: steps.Night, flow: str, seconds: float) -> list[str]:
    """Keep the account of a run that took so many `seconds`; a line about it, none where nothing ran."""
    if not night.costs:
        return []
    try:
        sizes = records.sizes(night.root)
        stages = {name: one.model_copy(update={"bytes": sizes.get(name, 0)}) for name, one in night.costs.items()}
        run = costs.Run(flow=flow, began=night.began.isoformat(timespec="seconds"), seconds=round(seconds, 2), stages=stages)
        costs.keep(night.root, run)
        runs = costs.read(night.root)
        from tasks.reporting import costs as page  # only now: it is no part of a night's begin

        write_atomic(night.root / costs.PAGE, page.page(runs))
        create_table_artifact(
            key=f"{flow}-costs",
            table=costs.table(run, runs),
            description=f"{costs.line(run)}. Over the nights: {(night.root / costs.PAGE).as_uri()}",
        )
    except Exception as error:  # whatever it is: the night is done
        get_run_logger().warning("its costs are not kept: %s", error)
        return []
    said = f"cost: {costs.line(run)}"
    get_run_logger().info(said)
    return [said]
