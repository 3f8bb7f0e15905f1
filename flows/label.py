"""What people are to judge, to Label Studio: `python -m flows.label` (`make label`) fills the queue of labelling tasks.

It sends what the last night's stage select chose, users' complaints and corrections first, and nothing that was sent or
judged before. No stage runs and data/ stays as it is, so it needs no night's lock; two sendings at a time it refuses, for
each would take what the other has not sent yet for missing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from flows import nightly  # first: it sets Prefect's environment

from prefect import flow, get_run_logger  # isort: skip
from prefect.artifacts import create_table_artifact
from pydantic import BaseModel, ConfigDict, Field

from flows import steps
from tasks import lock, params
from tasks.labelling import send as sending
from tasks.labelling.task import Task
from tasks.params import Params

LOCK = lock.WORK / "label.lock"
FEEDBACK = "tasks.feedback"  # knows the corrections that users wrote, where that is kept


class Options(BaseModel):
    """What can be said about one sending; the form that Prefect's UI shows."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(default=False, description="say what would be sent, and send nothing")
    verbose: bool = Field(default=False, description="show every line")


@flow(name="label", validate_parameters=True)
def label(options: Options) -> list[str]:
    """Fill the queue; returns what was sent and why, a line each."""
    night = nightly.begin(options.verbose)
    sent = send(night, options.dry_run)
    return nightly.told(str(sent).splitlines(), [])


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
        return sending.send(root, cfg, dry_run, corrections(root, cfg))


def corrections(root: Path, cfg: Params) -> Sequence[Task]:
    """Texts of users that a person has to approve, where this installation keeps feedback."""
    if importlib.util.find_spec(FEEDBACK) is None:
        return ()
    return importlib.import_module(FEEDBACK).corrections(root, cfg)


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 (also when there was nothing to send), 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.label", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    parser.add_argument("--verbose", action="store_true", help="show every line")
    options = Options(**vars(parser.parse_args(words)))

    def only_say() -> None:
        print(send_now(Path.cwd(), params.load(Path("params.yaml")), dry_run=True))

    return nightly.door("label", lambda: label(options), only_say if options.dry_run else None, alone=False)


if __name__ == "__main__":
    sys.exit(main())
