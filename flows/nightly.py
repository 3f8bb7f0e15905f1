"""The Prefect door: `python -m flows.nightly` runs the stages of dvc.yaml that have changed, commits, promotes, pushes.

The stages, their order and what has changed are DVC's; Prefect sees one task a stage. It works with no server running.
The first Ctrl-C ends the stages and the night; nothing is lost, and the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Literal, get_args

from flows import runs  # first: it sets Prefect's environment

from prefect import flow  # isort: skip
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import State
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict, Field

from flows import asking, labelling, steps
from tasks import approval, lock, promote, records
from tasks.errors import NightshiftError, ServiceError

Stage = Literal[  # of dvc.yaml; Prefect's form offers them
    "validate", "prepare", "base", "sft", "candidates", "reward", "select", "align", "merge", "evaluate", "quantize", "embed",
    "index", "retrieve", "answers", "gate", "release", "report",
]  # fmt: skip


class Options(BaseModel):
    """What can be said about one night."""

    model_config = ConfigDict(extra="forbid")

    stages: list[Stage] = Field(default_factory=list, description="only these stages and those they need; empty: all")
    parallel: int = Field(default=0, ge=0, le=16, description="stages side by side; 0: as params.yaml says")
    push: bool = Field(default=True, description="push to the remotes")
    commit: bool = Field(default=True, description="commit data.dvc, dvc.lock, metrics and the release")
    yes: bool = Field(default=False, title="Do not ask", description="promote without asking, whatever nightly.approval says")
    verbose: bool = Field(default=False, description="show every line of every stage")


@flow(name="nightly", task_runner=ThreadPoolTaskRunner(max_workers=64), validate_parameters=True)
def nightly(options: Options) -> list[str] | State:
    """One night; returns what came out, a line each. NightFailedError when a stage failed; Cancelled where another runs."""

    def whole(night: steps.Night) -> list[str]:
        night.parallel = options.parallel
        said = labelling.bring_in(night)
        failures, tally = runs.work(night, options.stages, _settled, "nightly")
        lines = finish(night, options, not failures)
        asked = [] if failures or options.stages else labelling.ask_next(night)
        asked += asking.hand_over(night, options.yes, options.push, options.commit)
        return runs.told([tally, *night.notices, *said, *lines, *asked], failures)

    return runs.by_itself(lock.A_NIGHT, "Night", whole, options.verbose)


def finish(night: steps.Night, options: Options, whole: bool) -> list[str]:
    """Commit, promote, push, and say so; a night with a failed stage commits what ran and promotes nothing."""
    lines, committed = [], []
    accepted = True
    try:
        committed += filter(None, [steps.commit_night(night)]) if options.commit else []
    except ServiceError as error:
        lines.append(steps.refused(error))
        accepted = False
    if whole and accepted:
        approved = _approved(night, options)
        lines.append(f"release: {steps.promote_release(night, approved)}")
        # new documents do not wait for a model that passes the gate
        lines += [f"documents: {line}" for line in [steps.release_documents(night, approved)] if line]
        try:
            committed += filter(None, [steps.commit_release(night)]) if options.commit else []
        except ServiceError as error:
            lines.append(steps.refused(error))
    figures = night.figures()
    page = _report(night)
    if page:
        lines.append(f"report: {page.relative_to(night.root)}")
    if committed:
        lines.append(f"commit: {', '.join(commit[:10] for commit in committed)}")
    if options.push and whole:
        lines += steps.push(night)
    create_table_artifact(
        key="nightly-figures",
        table=[{"figure": label, "value": value} for label, value in figures.items()],
        description=f"Night of {night.began:%Y-%m-%d}",
    )
    link = f"[{page.relative_to(night.root)}]({page.as_uri()})" if page else "none"
    create_markdown_artifact(
        key="nightly-report",
        markdown="\n".join([f"Report: {link}", "", *(f"- {line}" for line in lines)]),
        description=f"Night of {night.began:%Y-%m-%d}: what came out, and why",
    )
    return lines


def _settled(night: steps.Night) -> frozenset[str]:
    """What does not count as a change.

    A promotion rewrites champion.json and champion-search.json. While the candidate is that release itself, or another
    that was out before, comparing it once more would be a night for nothing.
    """
    found = records.candidate(night.root)
    known = found and records.released_as(night.root, found[1])
    return frozenset(str(follower.path) for follower in promote.FOLLOWERS) if known else frozenset()


def _approved(night: steps.Night, options: Options) -> bool:
    mode, found = night.params.nightly.approval, records.candidate(night.root)
    if mode == "auto" or options.yes:
        return True
    if mode == "manual" or not sys.stdin.isatty() or found is None or approval.rejection(night.root, found[1]):
        return False
    return input("promote tonight's candidate? [y/N] ").strip().lower() in ("y", "yes")


def _report(night: steps.Night) -> Path | None:
    try:
        page = records.output_of(night.root, "report") / "index.html"
    except NightshiftError:
        return None
    return page if page.is_file() else None


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 (also when the gate holds the release back), 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.nightly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=[], choices=get_args(Stage), metavar="STAGE",
                        help="only these and the stages they need")  # fmt: skip
    parser.add_argument("--parallel", type=int, choices=range(17), default=0, metavar="N", help="stages side by side")
    parser.add_argument("--no-push", dest="push", action="store_false", help="leave the remotes alone")
    parser.add_argument("--no-commit", dest="commit", action="store_false", help="leave git alone")
    parser.add_argument("--dry-run", action="store_true", help="say which stages would run, and why")
    parser.add_argument("--yes", action="store_true", help="promote without asking (nightly.approval: ask, manual)")
    parser.add_argument("--verbose", action="store_true", help="show every line of every stage")
    given = vars(parser.parse_args(words))
    dry, options = given.pop("dry_run"), Options(**given)
    instead = (lambda: runs.dry_run(Path.cwd(), options.stages)) if dry else None
    code = runs.door("nightly", lambda: runs.outcome(nightly(options, return_state=True)), instead, alone=lock.A_NIGHT)
    return code if dry or code else asking.afterwards(options.yes, options.push, options.commit)


if __name__ == "__main__":
    sys.exit(main())
