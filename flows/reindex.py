"""The documents alone: `python -m flows.reindex` brings what is new in data/documents into the index, and makes it live.

It runs the stages up to `retrieve` that have changed (no training), and releases the live model with the new index when
the gate's rules on search allow it. The nightly run does the same at its end where its own release was held back. By
the shell: dvc repro retrieve, then nightshift promote --documents.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flows import runs  # first: it sets Prefect's environment

from prefect import flow  # isort: skip
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, Field

from flows import asking, steps
from tasks import documents_release, promote, records
from tasks.errors import NightshiftError, ServiceError

STAGES = ["retrieve"]
NAME = "a reindex"  # for others who find it at work


class Options(BaseModel):
    """What can be said about one run."""

    model_config = ConfigDict(extra="forbid")

    push: bool = Field(default=True, description="push to the remotes")
    commit: bool = Field(default=True, description="commit data.dvc, dvc.lock, metrics and the release")
    yes: bool = Field(default=False, title="Do not ask", description="release without asking, whatever nightly.approval says")
    verbose: bool = Field(default=False, description="show every line of every stage")


@flow(name="reindex", task_runner=ThreadPoolTaskRunner(max_workers=64), validate_parameters=True)
def reindex(options: Options) -> list[str] | State:
    """Documents into a live index; returns what came out, a line each. NightFailedError when a stage failed; Cancelled
    while a night runs."""

    def whole(night: steps.Night) -> list[str]:
        failures, tally = runs.work(night, STAGES, _settled, "reindex")
        lines = finish(night, options, not failures)
        lines += asking.hand_over(night, options.yes, options.push, options.commit)
        return runs.told([tally, *night.notices, *lines], failures)

    return runs.by_itself(NAME, "Documents", whole, options.verbose)


def finish(night: steps.Night, options: Options, whole: bool) -> list[str]:
    """Commit, release the documents, push, and say so."""
    lines, committed = [], []
    try:
        committed += filter(None, [steps.commit_night(night, "Documents")]) if options.commit else []
        if whole:
            live = records.live(night.root)
            standing = f"nothing new; {live} stays live" if live else "no model is live yet: run a night (make nightly)"
            approved = night.params.nightly.approval == "auto" or options.yes
            lines.append(f"documents: {steps.release_documents(night, approved) or standing}")
            committed += filter(None, [steps.commit_release(night)]) if options.commit and live else []
    except ServiceError as error:
        lines.append(steps.refused(error))
    if committed:
        lines.append(f"commit: {', '.join(commit[:10] for commit in committed)}")
    if options.push and whole:
        lines += steps.push(night)
    return lines


def _settled(night: steps.Night) -> frozenset[str]:
    """A release of documents rewrites champion-search.json: no change while the live release has just these documents."""
    try:
        new = documents_release.candidate(night.root)
    except NightshiftError:
        return frozenset()
    return frozenset() if new else frozenset(str(follower.path) for follower in promote.FOLLOWERS)


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 (also when the gate holds the documents back), 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.reindex", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--no-push", dest="push", action="store_false", help="leave the remotes alone")
    parser.add_argument("--no-commit", dest="commit", action="store_false", help="leave git alone")
    parser.add_argument("--dry-run", action="store_true", help="say which stages would run, and why")
    parser.add_argument("--yes", action="store_true", help="release without asking (nightly.approval: ask, manual)")
    parser.add_argument("--verbose", action="store_true", help="show every line of every stage")
    given = vars(parser.parse_args(words))
    dry, options = given.pop("dry_run"), Options(**given)
    instead = (lambda: runs.dry_run(Path.cwd(), STAGES)) if dry else None
    code = runs.door("reindex", lambda: runs.outcome(reindex(options, return_state=True)), instead, alone=NAME)
    return code if dry or code else asking.afterwards(options.yes, options.push, options.commit)


if __name__ == "__main__":
    sys.exit(main())
