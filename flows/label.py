"""What people are to judge, to Label Studio: `python -m flows.label` (`make label`) fills the queue of labelling tasks.

It sends what the last night's stage select chose, users' complaints and corrections first, and nothing that was sent or
judged before. No stage runs and data/ stays as it is, so it needs no night's lock; two sendings at a time it refuses, for
each would take what the other has not sent yet for missing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flows import runs  # first: it sets Prefect's environment

from prefect import flow  # isort: skip
from pydantic import BaseModel, ConfigDict, Field

from flows import labelling
from tasks import params


class Options(BaseModel):
    """What can be said about one sending."""

    model_config = ConfigDict(extra="forbid")

    dry_run: bool = Field(default=False, description="say what would be sent, and send nothing")
    verbose: bool = Field(default=False, description="show every line")


@flow(name="label", validate_parameters=True)
def label(options: Options) -> list[str]:
    """Fill the queue; returns what was sent and why, a line each."""
    night = runs.begin(options.verbose, "Labelling, broken off")
    sent = labelling.send(night, options.dry_run)
    return runs.told([*str(sent).splitlines(), *night.notices], [])


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 (also when there was nothing to send), 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.label", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    parser.add_argument("--verbose", action="store_true", help="show every line")
    options = Options(**vars(parser.parse_args(words)))

    def only_say() -> None:
        print(labelling.send_now(Path.cwd(), params.load(Path("params.yaml")), dry_run=True))

    return runs.door("label", lambda: label(options), only_say if options.dry_run else None)


if __name__ == "__main__":
    sys.exit(main())
