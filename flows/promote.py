"""A person's word before anything goes live: `python -m flows.promote` asks in Prefect's UI, and does what is answered.

A night and a reindex become this process where params.yaml says nightly.approval: manual, when they have ended and let go of
the folder; by hand it asks about what waits now. The run pauses with a form: approve or reject, a comment, a name. It
holds no lock while it waits, for `nightly.approval_hours` at most. What is approved must still be what was shown.
Without an answer the live release stays; `nightshift promote` goes at any time, and then there is nothing left to ask.
"""

# No `from __future__ import annotations`: a served flow is pickled for a process of its own, and takes types along, not names.

import argparse
import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows import runs  # first: it sets Prefect's environment

from prefect import flow, get_run_logger  # isort: skip
from prefect.artifacts import create_markdown_artifact
from prefect.states import Cancelled, Completed, State
from pydantic import BaseModel, ConfigDict, Field

from flows import asking, events, pages, steps
from tasks import approval, lock, records
from tasks.approval import Request
from tasks.errors import NightshiftError, ServiceError

NAME = "promote"


class Options(BaseModel):
    """What can be said about one request."""

    model_config = ConfigDict(extra="forbid")

    candidate: str = Field(default="", description="beginning of the manifest's hash; empty: whatever waits")
    push: bool = Field(default=True, description="push to the remotes")
    commit: bool = Field(default=True, description="commit the release, or the rejection")
    again: bool = Field(default=False, description="ask also about what was rejected or rolled back before")
    verbose: bool = Field(default=False, description="show every line")


@flow(name=NAME, validate_parameters=True)
def ask_and_promote(options: Options) -> State:
    """Ask about what waits, and do what is answered; the state's name says how it ended, its data are lines on it."""
    night = runs.begin(options.verbose)
    with contextlib.ExitStack() as stack:
        try:  # one that has become pointless needs a moment to notice
            stack.enter_context(lock.held(night.root / approval.ASKING, NAME, "a request for approval", 5 * asking.EVERY))
        except lock.BusyError as busy:
            return _ended("Asked already", [f"{busy.what}: it will hear the answer"])
        try:
            return _ask(night, options)
        except asking.CancelledError as cancelled:
            return Cancelled(message=f"{cancelled}; {_standing(night)}")


def _ask(night: steps.Night, options: Options) -> State:
    request = approval.waiting(night.root, options.again)
    if request is None or not request.manifest_sha256.startswith(options.candidate):
        asking.heir(night.root, NAME, "nothing waits for approval")
        said = f"{options.candidate} does not wait" if options.candidate else "nothing waits"
        return _ended("Nothing waits", [f"{said} for approval; {_standing(night)}"])
    title = f"may {request.name} go live?"
    heard = asking.heir(night.root, NAME, title, f"manifest:{request.manifest_sha256}")
    answer = _answer(night, request, title) if heard is None or request.again else heard
    if isinstance(answer, asking.Nobody):
        return _ended("Not answered", [f"{request.name}: {answer}; {_standing(night)}"])
    by, comment = approval.one_line(answer.name, approval.MOST_NAME), approval.one_line(answer.comment, approval.MOST_WORDS)
    said = " ".join(filter(None, [f"by {by}" if by else "", f"({comment})" if comment else ""]))
    with _alone(night):
        if answer.decision == "reject":
            approval.reject(night.root, request, datetime.now(UTC), by, comment)
            made = _commit(night, options, f"Rejected {request.name}", f"Rejected {said}".strip())
            return _ended("Rejected", [f"{request.name} was rejected {said}".strip() + f"; {_standing(night)}", *made])
        done = approval.approve(night.root, request, datetime.now(UTC))
        if isinstance(done, str):
            return _ended("Overtaken", [f"{request.name} was approved, but {done}; nothing done, {_standing(night)}"])
        events.released(night.root, done.release, ". ".join([f"approved {said}".strip(), *done.notes]))
        line = f"{done.release} is live, approved {said}".strip()
        lines = [line, *done.notes, *_commit(night, options, f"Release {done.release}", f"Approved {said}".strip())]
        return _ended("Approved", [*lines, *(steps.push(night) if options.push else [])])


def _answer(night: steps.Night, request: Request, title: str) -> asking.Answer | asking.Nobody:
    """Put the question; the pages that it links to are served as long as it stands."""
    until = night.began + timedelta(hours=night.params.nightly.approval_hours)

    def told(address: str) -> None:
        line = f"{request.name} waits for approval until {until:%Y-%m-%d %H:%M %Z}; press Resume on {address}"
        get_run_logger().info(line)
        night.screen.line(line)

    with pages.serving(_pages(night.root)) as links:
        question = approval.question(night.root, request, links)
        create_markdown_artifact(key="approval-request", markdown=question, description=title.capitalize())
        return asking.ask(title, question, until, lambda: approval.overtaken(night.root, request), told)


def _pages(root: Path) -> dict[str, Path]:
    """What there is to read about the candidate."""
    wanted = {"the night's report": ("report", "index.html"), "model card": ("release", "card.html")}
    found = {}
    for label, (stage, name) in wanted.items():
        with contextlib.suppress(NightshiftError):  # a graph without that stage
            path = records.output_of(root, stage) / name
            found |= {label: path} if path.is_file() else {}
    return found


@contextlib.contextmanager
def _alone(night: steps.Night) -> Iterator[None]:
    """As a night is; one that is at work is waited for."""
    with lock.held(night.root / lock.NIGHT, NAME, "a night", night.params.nightly.lock_minutes * 60, "an approval"):
        yield


def _standing(night: steps.Night) -> str:
    live = records.live(night.root)
    return f"{live} stays live" if live else "nothing is live yet"


def _commit(night: steps.Night, options: Options, title: str, said: str) -> list[str]:
    try:
        made = steps.commit_release(night, title, said) if options.commit else None
    except ServiceError as error:
        return [steps.refused(error)]
    return [f"commit: {made[:10]}"] if made else []


def _ended(name: str, lines: list[str]) -> State:
    return Completed(name=name, message=lines[0], data=runs.told(lines, []))


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 whatever was answered, also nothing; 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidate", default="", metavar="HASH", help="only if this waits (beginning of its manifest's hash)")
    parser.add_argument("--no-push", dest="push", action="store_false", help="leave the remotes alone")
    parser.add_argument("--no-commit", dest="commit", action="store_false", help="leave git alone")
    parser.add_argument("--again", action="store_true", help="ask also about what was rejected or rolled back before")
    parser.add_argument("--verbose", action="store_true", help="show every line")
    options = Options(**vars(parser.parse_args(words)))

    def run() -> list[str]:
        return runs.outcome(ask_and_promote(options, return_state=True))

    return runs.door(NAME, run, lasting="a person's answer needs a server that keeps the question")


if __name__ == "__main__":
    sys.exit(main())
