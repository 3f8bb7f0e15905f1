"""Judgements back from Label Studio: `python -m flows.collect` reads what is new, lands it, and takes it into data/.

Into data/ it goes only while no night is running here; else it waits in the inbox and the next night takes it in. By the
shell: nightshift collect. `--from` reads files of Label Studio's JSON export instead of the server.
"""

# No `from __future__ import annotations`: a served flow is pickled for a process of its own, and takes types along, not names.

import argparse
import sys
from pathlib import Path

from flows import runs  # first: it sets Prefect's environment

from prefect import flow  # isort: skip
from prefect.runtime import deployment
from pydantic import BaseModel, ConfigDict, Field

from flows import labelling
from tasks import params
from tasks.labelling import collect as judgements


class Options(BaseModel):
    """What can be said about one collection."""

    model_config = ConfigDict(extra="forbid")

    files: list[Path] = Field(default_factory=list, description="Label Studio's JSON exports; empty: the server of params.yaml")
    again: bool = Field(default=False, description="read all tasks of the server, not only what has changed")
    commit: bool = Field(default=True, description="commit data.dvc")
    verbose: bool = Field(default=False, description="show every line")


@flow(name="collect", validate_parameters=True)
def collect(options: Options) -> list[str]:
    """Judgements into data/; returns what came, a line each."""
    night = runs.begin(options.verbose, "Judgements, broken off")
    if options.files or night.params.labelling.url or deployment.get_id() is None:
        lines = labelling.read(night, options.files, options.again)
    else:  # an hourly run is no failure where nobody labels; by hand the missing address is said
        lines = ["nobody labels here: labelling.url is null"]
    return runs.told([*lines, *labelling.gather(night), *labelling.take_in(night, options.commit), *night.notices], [])


def dry_run(root: Path, options: Options) -> None:
    """Print what would come."""
    cfg = params.load(root / "params.yaml")
    with judgements.opened(root, cfg, options.files) as source:
        print(*judgements.collect(root, cfg, source, again=options.again, dry=True).lines(), sep="\n")


def serve(options: Options) -> None:
    """Collect by itself until told to end; needs the lasting Prefect server that PREFECT_API_URL names."""
    from flows import collect as module  # whoever started this file calls it __main__
    from flows import collect_deployment

    collect_deployment.serve(module.collect, {"options": options.model_dump(mode="json")})


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
    return runs.door("collect", lambda: collect(options), instead)


if __name__ == "__main__":
    sys.exit(main())
