"""The steps of a night around its stages (flows/stages.py) as Prefect tasks. Each does one thing, and twice does no harm."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, State

from flows import dvc, events, remotes
from flows.screen import Screen
from tasks import approval, costs, documents_release, git, home, live_index, promote, records, sources
from tasks.bootstrap import bootstrap
from tasks.errors import GateError, NightshiftError, ServiceError
from tasks.figures import figures_from, stage_of, text
from tasks.files import sha256_file, write_json
from tasks.lock import BusyError
from tasks.params import Params

step = functools.partial(task, cache_policy=NO_CACHE)  # DVC decides what has changed; a Night cannot be hashed
NIGHT_PATHS = ("data.dvc", "dvc.lock", "metrics")


@dataclass
class Night:
    """What all steps of one night share."""

    root: Path
    params: Params
    screen: Screen
    began: datetime
    parallel: int = 0  # stages side by side; 0: nightly.parallel
    states: dict[str, str] = field(default_factory=dict)  # stage → ran, cached, failed, skipped
    costs: dict[str, costs.Stage] = field(default_factory=dict)  # stage that ran → what it cost
    notices: list[str] = field(default_factory=list)  # what somebody has to look at, for the summary

    @property
    def metrics(self) -> Path:
        """Where the stages' figures are."""
        return self.root / "metrics"

    def figures(self, stage: str | None = None) -> dict[str, str]:
        """Label → value as text: of one stage, or all that have been measured."""
        places = {label: place for label, place in self.params.release.figures.items() if stage in (None, stage_of(place))}
        return {label: text(label, value) for label, value in figures_from(places, self.metrics).items() if value is not None}


@step(name="take in")
def take_in(root: Path, title: str) -> list[str]:
    """What the checkout has committed, into the nights' home; a notice where both have changed the same. The night goes on."""
    try:
        line = home.take_in(root, title)
    except ServiceError as error:
        get_run_logger().error(str(error))
        return [f"take in: {error}; the night went on without"]
    if line:
        get_run_logger().info(line)
    return [line] if line else []


@step(name="prepare")
def make_ready(night: Night) -> dvc.Graph:
    """data/ is there, the champion files follow the live release; returns the graph and what has changed in it."""
    log = get_run_logger()
    fill(night)
    if promote.settle(night.root):
        log.warning("the champion files now follow releases/LIVE; an earlier promotion had been interrupted")
    release = records.live(night.root)
    for line in live_index.follow(night.root, records.record(night.root, release)["manifest"]) if release else ():
        log.warning(line)
    return dvc.read(night.root, night.params.nightly.lock_minutes * 60)


def fill(night: Night) -> None:
    """data/ as data.dvc names it, where there is none."""
    line = bootstrap(night.root)
    get_run_logger().info(line)
    if "filled" in line or "restored" in line:
        night.screen.line(line)


@step(name="fetch sources", task_run_name="fetch sources")
def fetch_sources(night: Night) -> State[None]:
    """Rows of databases into data/documents/sql; stage data.dvc takes them in. A source that fails does not lose the night."""
    log = get_run_logger()
    fill(night)
    found = sources.fetch(night.root, night.params)
    for each in found:
        log.log(logging.ERROR if each.error else logging.INFO, str(each))
        if each.error:
            night.screen.line(f"source {each}")
            night.notices.append(f"source {each}")
    for path in sources.left_over(night.root, night.params.sources.sql):
        log.warning("%s is of a source that params.yaml no longer has; it is still a document", path)
    return Completed(name="Incomplete" if any(each.error for each in found) else None, message="; ".join(map(str, found)))


@step
def commit_night(night: Night, title: str = "Night") -> str | None:
    """Commit data.dvc, dvc.lock and metrics; returns the commit, None when nothing has changed or there is no git."""
    if not git.is_repository(night.root):
        get_run_logger().warning("not a git repository: nothing committed")
        night.screen.line("not a git repository: nothing committed")
        return None
    body = "\n".join(f"{label}: {value}" for label, value in night.figures().items())
    return git.commit(night.root, NIGHT_PATHS, f"{title} of {night.began:%Y-%m-%d}\n\n{body}".strip())


@step
def promote_release(night: Night, approved: bool) -> str:
    """Make the candidate live if the gate lets it out and it is new; returns a line about it."""
    found = records.candidate(night.root)
    live = records.live(night.root)
    standing = f"{live} stays live" if live else "nothing is live yet"
    if found is None:
        return f"no candidate; {standing}"
    manifest = found[1]
    known = records.released_as(night.root, manifest)
    if known and known["release"] == live:
        return f"nothing new; {standing}"
    if not manifest["gate"]["promote"]:
        events.held_back(night.root, "release", manifest)
        return f"held back by the gate: {'; '.join(records.refusals(manifest))}. {standing.capitalize()}"
    if rejected := approval.rejection(night.root, manifest):
        return f"{rejected} (nightshift promote makes it live all the same). {standing.capitalize()}"
    if not approved:
        return f"waits for approval (nightshift promote); {standing}"
    try:
        done = promote.promote(night.root, datetime.now(UTC))
    except (GateError, BusyError) as error:
        return f"{error}; {standing}"
    get_run_logger().info("%s is live", done.release)
    before = f" (before: {done.before})" if done.before else ""
    events.released(night.root, done.release, ". ".join([f"by a night{before}", *done.notes]))
    return ". ".join([f"{done.release} is live{before}", *done.notes])


@step
def release_documents(night: Night, approved: bool) -> str | None:
    """Give the live model tonight's documents where a whole release was held back; a line, None where nothing is new."""
    try:
        found = documents_release.candidate(night.root)
        if found is None or documents_release.held_back_as_a_whole(night.root, found[0]):
            return None
        if found[1]:
            events.held_back(night.root, "documents", found[0])
        if rejected := approval.rejection(night.root, found[0]):
            return f"{rejected} (nightshift promote --documents); {records.live(night.root)} stays live"
        if not approved:
            return f"wait for approval (nightshift promote --documents); {records.live(night.root)} stays live"
        done = documents_release.release(night.root, datetime.now(UTC))
    except NightshiftError as error:
        return f"{error}; {records.live(night.root)} stays live"
    get_run_logger().info("%s is live: new documents, the model of %s", done.release, found[0]["model_of"])
    what = ". ".join([f"new documents, the model of {found[0]['model_of']}", *done.notes])
    events.released(night.root, done.release, what)
    return f"{done.release} is live: {what}"


@step
def commit_release(night: Night, title: str | None = None, said: str = "") -> str | None:
    """Commit releases/ and the champion files as they are now. `said`: a person's words on it."""
    if not git.is_repository(night.root):
        return None
    title = title or f"Release {records.live(night.root)}"
    return git.commit(night.root, promote.COMMITTED, f"{title}\n\n{said}".strip())


def push(night: Night) -> list[str]:
    """To the remotes, a line each: outputs first, for a commit whose outputs nobody can get is of no use to others."""
    there, line = push_outputs(night)
    lines = [f"remote: {line}"]
    if remote := night.params.nightly.git_remote:
        lines.append(f"git: {push_commits(night, remote) if there else 'waits for the DVC remote'}")
    return lines


@step(name="push outputs")
def push_outputs(night: Night) -> tuple[bool, str]:
    """Push to the DVC remote unless just these are there: (whether they are, a line). One out of reach is tried again next
    night."""
    marker = night.root / ".nightshift/pushed.json"
    state = {name: sha256_file(night.root / name) for name in ("data.dvc", "dvc.lock") if (night.root / name).is_file()}
    if marker.is_file() and json.loads(marker.read_text()) == state:
        return True, "nothing new"
    done, line = remotes.outputs(night.root, night.params.nightly.push_minutes)
    if done:
        write_json(marker, state)
    return done, line if done else _not_pushed(line)


@step(name="push commits")
def push_commits(night: Night, remote: str) -> str:
    """Push the branch to a git remote; a line about it."""
    done, line = remotes.commits(night.root, remote, night.params.nightly.push_minutes)
    return line if done else _not_pushed(line)


def _not_pushed(why: str) -> str:
    get_run_logger().warning("not pushed: %s", why)
    return f"NOT PUSHED: {why} (tried again next night)"


def refused(error: NightshiftError) -> str:
    """A refused commit, in one line for the summary."""
    return f"NOT COMMITTED: {error}"
