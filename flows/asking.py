"""A question to a person, put by a paused flow run: Prefect's UI shows it with a form, and this process waits for the answer.

Prefect's own `pause_flow_run` waits for an answer or fails. A question may also become pointless (a newer night, somebody
else's decision), and nobody's answer is no failure; so the pause is made here from the same parts, and looked after. A
process that was killed leaves a paused run behind that nobody looks after: `heir` finds it, takes an answer that came
meanwhile, and closes it.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.input import RunInput, keyset_from_paused_state
from prefect.input.actions import read_flow_run_input
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Paused
from prefect.utilities.urls import url_for
from pydantic import Field

from flows import server, steps
from tasks import approval, params
from tasks.errors import NightshiftError, ServiceError

EVERY = 2.0  # seconds between two looks
SPARE = 3600  # seconds that Prefect keeps the question longer than we ask it: its own end of a pause is a failure
DEPLOYMENT = "promote/promote"  # flow and deployment that ask (deploy/prefect.yaml)
PAUSE = "approval"  # names the pause in a run, and with it its answer


class Answer(RunInput):
    """The form."""

    decision: Literal["approve", "reject"] = Field(description="approve: make it live; reject: keep what is live")
    comment: str = Field("", max_length=approval.MOST_WORDS, description="why; it is kept in git")
    name: str = Field("", max_length=approval.MOST_NAME, description="who you are; it is kept in git")


class Nobody(str):
    """Why there is no answer."""


class CancelledError(ServiceError):
    """Somebody has cancelled the question."""


def ask(
    title: str, question: str, until: datetime, pointless: Callable[[], str | None], told: Callable[[str], None]
) -> Answer | Nobody:
    """Pause this run until somebody answers, `pointless` gives a reason to ask no longer, or time is up.

    `told` gets the address of the page where the answer can be given. ServiceError when Prefect refuses the pause,
    CancelledError when somebody cancels the run there.
    """
    run = UUID(flow_run.get_id())
    form = Answer.with_initial_data(description=question)
    state = Paused(timeout_seconds=int(until.timestamp() - time.time()) + SPARE, pause_key=PAUSE)
    keys = state.state_details.run_input_keyset = keyset_from_paused_state(state)
    with get_client(sync_client=True) as client:
        form.save(keys, run)  # before the pause: whoever sees it can answer it
        done = client.set_flow_run_state(run, state)
        if done.status is not SetStateStatus.ACCEPT:
            raise ServiceError("prefect", f"refused to pause the run ({done.details})", "see the run's page")
        told(url_for("flow-run", run) or "")
        while time.time() < until.timestamp():
            try:
                now = client.read_flow_run(run).state
                if now.is_running():
                    return form.load(keys, run)
                if not now.is_paused():
                    raise CancelledError(title, "was cancelled in Prefect", "python -m flows.promote asks again")
            except httpx.HTTPError as error:  # a server that restarts finds the question where it was
                get_run_logger().debug("prefect does not answer: %s", error)
            if why := pointless():
                return Nobody(why)
            time.sleep(EVERY)
    return Nobody(f"nobody answered until {until:%Y-%m-%d %H:%M %Z}")


def heir(root: Path, flow: str, title: str, subject: str = "") -> Answer | None:
    """Mark this run as the one that asks about `subject` (if any) in this folder; close those before it that are dead.

    Returns the answer that one of them got about the same subject when nobody was there to hear it. Whoever calls makes
    sure that no living process asks here.
    """
    mine, here = UUID(flow_run.get_id()), f"folder:{root}"
    found = None
    with get_client(sync_client=True) as client:
        for run in _open(client, flow, here):
            if run.id == mine:
                continue
            if subject in run.tags and found is None:
                found = _given(run.id)
            client.set_flow_run_state(run.id, Cancelled(message="its process has ended; another run goes on"), force=True)
        client.update_flow_run(mine, name=title, tags=[here, *([subject] if subject else [])])
    return found


def _open(client: SyncPrefectClient, flow: str, tag: str) -> list:
    return client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[tag]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED, StateType.RUNNING])),
        ),
    )


def _given(run: UUID) -> Answer | None:
    keys = keyset_from_paused_state(Paused(pause_key=PAUSE))
    said = read_flow_run_input(keys["response"], run)
    return Answer(**said) if said else None


def _to_ask(root: Path, yes: bool) -> bool:
    """Whether something waits there for a person; `yes`: whoever started the run has said so already."""
    manual = params.load(root / "params.yaml").nightly.approval == "manual"
    return manual and not yes and approval.waiting(root) is not None


def hand_over(night: steps.Night, yes: bool, push: bool, commit: bool) -> list[str]:
    """What a night or a reindex that Prefect has started does last: have the deployment `promote` ask, if something waits.

    Started by hand it leaves that to `afterwards`. A line about it, none where nobody is to be asked.
    """
    if deployment.get_id() is None or not _to_ask(night.root, yes):
        return []
    try:
        run = run_deployment(DEPLOYMENT, parameters={"options": {"push": push, "commit": commit}}, timeout=0, as_subflow=False)
    except (ObjectNotFound, httpx.HTTPError) as error:
        return [f"approval: nobody was asked ({error}); the candidate waits for nightshift promote"]
    return [f"approval: asked for in run {run.name}: {url_for('flow-run', run.id) or run.id}"]


def afterwards(yes: bool, push: bool, commit: bool) -> int:
    """What a night or a reindex does last, with nightly.approval: manual: become flows/promote.py if something waits.

    The run has ended and its lock is free by then, and the process that waits for hours is as small as one can be. Returns
    only where nobody is to be asked, or can be.
    """
    root = Path.cwd()
    try:
        if not _to_ask(root, yes):
            return 0
        server.need_lasting("nobody can be asked in Prefect's UI")
    except NightshiftError as error:
        print(f"approval: {error}; the candidate waits for nightshift promote", file=sys.stderr)
        return 0
    server.drain()
    sys.stdout.flush()
    words = [*([] if push else ["--no-push"]), *([] if commit else ["--no-commit"])]
    os.execv(sys.executable, [sys.executable, "-m", "flows.promote", *words])
