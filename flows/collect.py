"""Judgements back from Label Studio: `python -m flows.collect` reads what is new, lands it, and takes it into data/.

Into data/ it goes only while no night is running here; else it waits in the inbox and the next night takes it in. By the
shell: nightshift collect. `--from` reads files of Label Studio's JSON export instead of the server.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from flows import nightly  # first: it sets Prefect's environment

from prefect import flow, get_run_logger  # isort: skip
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from flows import steps
from tasks import feedback, git, lock, params
from tasks.errors import NightshiftError, ServiceError
from tasks.labelling import collect as judgements
from tasks.labelling import inbox

COMMITTED = ("data.dvc",)


class Options(BaseModel):
    """What can be said about one collection; the form that Prefect's UI shows."""

    model_config = ConfigDict(extra="forbid")

    files: list[Path] = Field(default_factory=list, description="Label Studio's JSON exports; empty: the server of params.yaml")
    again: bool = Field(default=False, description="read all tasks of the server, not only what has changed")
    commit: bool = Field(default=True, description="commit data.dvc")
    verbose: bool = Field(default=False, description="show every line")


@flow(name="collect", validate_parameters=True)
def collect(options: Options) -> list[str]:
    """Judgements into data/; returns what came, a line each."""
    night = nightly.begin(options.verbose)
    lines = [*read(night, options), *gather_feedback(night)]
    return nightly.told([*lines, *take_in(night, options.commit)], [])


def bring_in(night: steps.Night) -> list[str]:
    """What a night does first, under its own lock: collect where there is a server, and admit what lies in the inbox.

    A server that is down, a batch that cannot be read: each is a notice, and the night goes on with the data there is.
    """
    lines: list[str] = []
    if night.params.labelling.url:
        lines += _tolerant(night, "collect", lambda: read(night, Options()))
    lines += _tolerant(night, "feedback", lambda: gather_feedback(night))
    if inbox.due(night.root):
        lines += _tolerant(night, "inbox", lambda: admit(night).lines())
    return lines


@steps.step(name="collect")
def read(night: steps.Night, options: Options) -> list[str]:
    """From the server or the files into the inbox."""
    with judgements.opened(night.root, night.params, options.files) as source:
        collected = judgements.collect(night.root, night.params, source, again=options.again)
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


def gather_feedback(night: steps.Night) -> list[str]:
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
        with lock.alone(night.root):
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


def _tolerant(night: steps.Night, what: str, do: Callable[[], list[str]]) -> list[str]:
    try:
        return do()
    except NightshiftError as error:
        line = f"{what}: {error}; the night goes on without"
        get_run_logger().warning(line)
        night.screen.line(line)
        night.notices.append(line)
        return []


def dry_run(root: Path, options: Options) -> None:
    """Print what would come."""
    cfg = params.load(root / "params.yaml")
    with judgements.opened(root, cfg, options.files) as source:
        print(*judgements.collect(root, cfg, source, again=options.again, dry=True).lines(), sep="\n")


def serve(options: Options) -> None:
    """Collect by itself until told to end; needs the lasting Prefect server that PREFECT_API_URL names."""
    from flows import collect_deployment

    collect_deployment.serve(collect, {"options": options.model_dump(mode="json")})


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 (also where there is something in quarantine), 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.collect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--from", dest="files", nargs="+", type=Path, default=[], metavar="FILE", help="JSON exports, not the server"
    )
    parser.add_argument("--again", action="store_true", help="read all tasks, not only what has changed")
    parser.add_argument("--no-commit", dest="commit", action="store_false", help="leave git alone")
    parser.add_argument("--dry-run", action="store_true", help="say what would come, and take nothing")
    parser.add_argument("--serve", action="store_true", help="stay: every hour, and when flows/webhook.py says so")
    parser.add_argument("--verbose", action="store_true", help="show every line")
    given = vars(parser.parse_args(words))
    dry, served, options = given.pop("dry_run"), given.pop("serve"), Options(**given)
    instead = (lambda: dry_run(Path.cwd(), options)) if dry else (lambda: serve(options)) if served else None
    return nightly.door("collect", lambda: collect(options), instead, alone=False)


if __name__ == "__main__":
    sys.exit(main())
