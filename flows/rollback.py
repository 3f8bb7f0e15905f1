"""Going back, from Prefect's UI: the release before the live one, or a named one, is made live again.

By the shell: nightshift rollback. No stage runs. What was left is marked, so that no night brings it back by
itself. A night that is at work goes on: it compares with what was live when it began.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from flows import runs  # first: it sets Prefect's environment

from prefect import flow  # isort: skip
from pydantic import BaseModel, ConfigDict, Field

from flows import events, steps
from tasks import listing, promote
from tasks.errors import ServiceError


class Options(BaseModel):
    """What can be said about going back."""

    model_config = ConfigDict(extra="forbid")

    release: str = Field(default="", max_length=80, description="id of the release, or its beginning; empty: the one before")
    commit: bool = Field(default=True, description="commit the pointer and the champion files")


@flow(name="rollback", validate_parameters=True)
def rollback(options: Options) -> list[str]:
    """Make a former release live; returns what was done, a line each."""
    night = runs.begin(False)
    done = promote.rollback(night.root, datetime.now(UTC), options.release or None)
    lines = listing.went_back(night.root, done)
    if done.flipped:
        events.released(night.root, done.release, f"rolled back from {done.before}")
    try:
        made = steps.commit_release(night) if options.commit else None
        lines += [f"commit: {made[:10]}"] if made else []
    except ServiceError as error:
        lines.append(steps.refused(error))
    return runs.told(lines, [])


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0, 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.rollback", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("release", nargs="?", default="", metavar="RELEASE", help="its id, or the beginning of it")
    parser.add_argument("--no-commit", dest="commit", action="store_false", help="leave the commit to you")
    options = Options(**vars(parser.parse_args(words)))
    return runs.door("rollback", lambda: rollback(options))


if __name__ == "__main__":
    sys.exit(main())
