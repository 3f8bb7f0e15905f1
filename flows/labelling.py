"""The steps of labelling as Prefect tasks: what people said into the inbox and into data/, and what they are asked next.

flows/collect.py and flows/label.py do one of these each; a night does the first at its begin and the second at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from flows import steps
from tasks import feedback, git, lock
from tasks.errors import NightshiftError, ServiceError
from tasks.labelling import collect as judgements
from tasks.labelling import inbox
from tasks.labelling import send as sending
from tasks.params import Params

COMMITTED = ("data.dvc",)
LOCK = lock.WORK / "label.lock"


def bring_in(night: steps.Night) -> list[str]:
    """What a night does first, under its own lock: collect where there is a server, and admit what lies in the inbox.

    A server that is down, a batch that cannot be read: each is a notice, and the night goes on with the data there is.
    """
    lines: list[str] = []
    if night.params.labelling.url or inbox.due(night.root) or night.params.feedback.log:
        steps.fill(night)
    if night.params.labelling.url:
        lines += _tolerant(night, "collect", lambda: read(night, [], False))
    lines += _tolerant(night, "feedback", lambda: gather(night))
    if inbox.due(night.root):
        lines += _tolerant(night, "inbox", lambda: admit(night).lines())
    return lines


@steps.step(name="collect")
def read(night: steps.Night, files: Sequence[Path], again: bool) -> list[str]:
    """From the server or the files into the inbox."""
    with judgements.opened(night.root, night.params, list(files)) as source:
        collected = judgements.collect(night.root, night.params, source, again=again)
    counts = {
        **{f"rows for {file}": count for file, count in collected.landed.items()},
        **collected.counts,
        "removed": sum(collected.removed.values()),
        "quarantined": len(collected.quarantined),
    }
    create_table_artifact(
        key="collected",
        table=[{"what": "tasks read", "count": collected.tasks}, *({"what": what, "count": n} for what, n in counts.items())],
        description=f"Judgements collected on {night.began:%Y-%m-%d}",
    )
    return collected.lines()


def gather(night: steps.Night) -> list[str]:
    """Land the prompts whose answers users were not content with, and end what has been kept long enough."""
    return feedback.gather(night.root, night.params)


@steps.step(name="admit")
def admit(night: steps.Night) -> inbox.Admitted:
    """Check the inbox and move it into data/. Whoever calls holds the night's lock."""
    admitted = inbox.admit(night.root, night.params)
    for line in admitted.lines():
        get_run_logger().info(line)
    return admitted


def take_in(night: steps.Night, commit: bool) -> list[str]:
    """Admit and commit, if no night is at work here."""
    try:
        with lock.alone(night.root, "a collection", lock.MOMENT):
            admitted = admit(night)
            return [*admitted.lines(), *(_committed(night) if commit and admitted.tracked else [])]
    except lock.BusyError as busy:
        return judgements.waits(night.root, busy)


def _committed(night: steps.Night) -> list[str]:
    try:
        made = commit_data(night)
    except ServiceError as error:
        return [steps.refused(error)]
    return [f"commit: {made[:10]}"] if made else []


@steps.step(name="commit data")
def commit_data(night: steps.Night) -> str | None:
    """Commit data.dvc alone; None when it has not changed or there is no git."""
    if not git.is_repository(night.root):
        return None
    return git.commit(night.root, COMMITTED, f"Judgements of {night.began:%Y-%m-%d}")


@steps.step(name="send")
def send(night: steps.Night, dry_run: bool) -> sending.Sent:
    """Send, and leave a table of it."""
    sent = send_now(night.root, night.params, dry_run)
    create_table_artifact(
        key="label-sent",
        table=[*sent.rows(), {"kind": "all", "why": "", "tasks": sent.tasks.total()}],
        description=f"{'Would be sent' if dry_run else 'Sent'} to Label Studio on {night.began:%Y-%m-%d}",
    )
    get_run_logger().info("%d waited before, %d left out, %d left for later", sent.waiting, sent.there, sent.beyond)
    return sent


def send_now(root: Path, cfg: Params, dry_run: bool) -> sending.Sent:
    """Send, while nobody else sends from this folder."""
    with lock.held(root / LOCK, "label", "another sending"):
        return sending.send(root, cfg, dry_run, feedback.corrections(root, cfg))


def ask_next(night: steps.Night) -> list[str]:
    """What a night does last: fill the queue with what its stage select chose. A server that is down is a notice."""
    if not night.params.labelling.url:
        return []
    return _tolerant(night, "label", lambda: str(send(night, False)).splitlines())


def _tolerant(night: steps.Night, what: str, do: Callable[[], list[str]]) -> list[str]:
    try:
        return do()
    except NightshiftError as error:
        line = f"{what}: {error}; the night goes on without"
        get_run_logger().warning(line)
        night.screen.line(line)
        night.notices.append(line)
        return []
