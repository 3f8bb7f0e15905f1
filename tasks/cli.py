"""`nightshift`: what is live, what was, and what a person decides: promote, roll back, import data, take a preset; and
questions to the live release, asked here or over HTTP.

The nightly run itself is `python -m flows.nightly` (`make nightly`) or `dvc repro`.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tasks import (
    adapters,
    documents_release,
    environment,
    git,
    home,
    imports,
    listing,
    live_index,
    params,
    presets,
    promote,
    records,
    sources,
)
from tasks.bootstrap import bootstrap
from tasks.command_line import parser
from tasks.errors import NightshiftError, ParamsError, ServiceError, full_disk
from tasks.files import canonical_json

MINE = ("bootstrap", "import", "preset")  # what a person changes, to be committed; all else is asked of the nights' home


def promote_candidate(root: Path, documents: bool, again: bool, commit: bool) -> list[str]:
    """Promote by hand: what the flows do at their end."""
    release = documents_release.release if documents else promote.promote
    done = release(root, datetime.now(UTC), again)
    if not done.flipped:
        return [f"{done.release} is live already", *_commit(root, commit)]
    said = f"{done.release} is live" + (f" (before: {done.before})" if done.before else "")
    return [said, *done.notes, *_commit(root, commit)]


def roll_back(root: Path, to: str | None, commit: bool) -> list[str]:
    """Flip the pointer back, and say what has to be fetched before the release can be served from here."""
    done = promote.rollback(root, datetime.now(UTC), to)
    return [*listing.went_back(root, done), *_commit(root, commit)]


def _commit(root: Path, commit: bool) -> list[str]:
    if not commit or not git.is_repository(root):
        return [f"not committed: {', '.join(git.dirty(root, *promote.COMMITTED))}"] if git.dirty(root, *promote.COMMITTED) else []
    try:
        made = git.commit(root, promote.COMMITTED, f"Release {records.live(root)}")
    except ServiceError as error:
        return [f"NOT COMMITTED: {error}"]
    return [f"commit: {made[:10]}"] if made else []


def ask(root: Path, question: str, release: str | None, as_json: bool, stream: bool) -> Iterator[str]:
    """An answer and its sources, from the live release or the named one. Needs no server."""
    from tasks.rag.answer import Answer
    from tasks.serving import releases, replies

    cfg, question = params.load(root / "params.yaml"), question.strip()
    if not question:
        raise ParamsError("ask", "there is no question", 'nightshift ask "When does the Ashgate store open?"')
    loaded = releases.load(root, cfg, release)
    for item in replies.answer(loaded, question):
        if isinstance(item, Answer):
            given = item
        elif stream and not as_json:
            print(replies.plain(item), end="", flush=True)
    if as_json:
        yield canonical_json({"answer": given.text, **replies.fields(loaded.id, question, given)}).rstrip()
        return
    yield ("" if stream else replies.plain(given.text)) + replies.plain(replies.listing(question, given))


def feedback(root: Path, delete: str | None, purge: bool) -> list[str]:
    """What is kept of questions, answers and feedback; or one question, or all of it, removed."""
    from tasks.feedback import overview

    cfg = params.load(root / "params.yaml")
    if purge:
        return overview.purge(root, cfg)
    return overview.delete(root, cfg, delete) if delete else overview.overview(root, cfg)


def serve(root: Path, host: str | None, port: int | None) -> list[str]:
    """The HTTP service, until it is told to end."""
    from tasks.serving import server

    cfg = params.load(root / "params.yaml")
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    try:
        section = params.Serve.model_validate({**cfg.serve.model_dump(), **given})
    except ValueError:
        raise ParamsError("serve", f"{port} is no TCP port", "take one from 0 to 65535") from None
    server.serve(root, cfg.model_copy(update={"serve": section}))
    return []


def collect(root: Path, files: list[Path], again: bool, dry: bool) -> list[str]:
    """Judgements into the inbox, and from there into data/ while no night is running."""
    from tasks.labelling.collect import collect_now

    return collect_now(root, files, again, dry)


def withdraw(root: Path, who: str, dry: bool) -> list[str]:
    """A person's judgements out of all data that is to come."""
    from tasks.labelling.withdraw import withdraw as leave

    return leave(root, who, datetime.now(UTC), dry)


def what_nights_cost(root: Path, most: int, as_json: bool) -> list[str]:
    """What the last runs took."""
    from tasks import costs

    if most < 1:
        raise ParamsError("costs --runs", f"{most} is no number of runs", "take 1 or more")
    return [run.model_dump_json() for run in costs.read(root, most)] if as_json else costs.lines(root, most)


def trace(root: Path, given: argparse.Namespace) -> Iterator[str]:
    """Where a release comes from, or where a judgement went."""
    from tasks.lineage.command import trace as walk

    return walk(root, given.release, given.annotation, given.annotator, given.stage, given.html, given.json)


def reproduce(root: Path, given: argparse.Namespace) -> list[str]:
    """A release made again from its commit, artifact by artifact; SystemExit(1) where it did not come out as promised."""
    from tasks.reproduce import reproduce as again

    def say(line: str) -> None:
        print(line, file=sys.stderr if given.json else sys.stdout, flush=True)

    try:
        made = again(root, given.release, from_cache=given.from_cache, stages=given.stages, within=given.within,
                     keep=given.keep, dry=given.dry, say=say)
    except KeyboardInterrupt:
        print("\nstopped; nothing is left of it", file=sys.stderr)
        raise SystemExit(130) from None
    for line in [canonical_json(made.model_dump(mode="json")).rstrip()] if given.json else made.lines():
        print(line)
    if not made.passed:
        raise SystemExit(1)
    return []


def doctor(root: Path, given: argparse.Namespace) -> Iterator[str]:
    """What is missing, broken or misconfigured; SystemExit(1) at the end where something is broken."""
    from tasks.doctor import doctor as look

    return look(root, given.remote, given.json)


def gc(root: Path, given: argparse.Namespace) -> Iterator[str]:
    """What nobody needs of DVC's cache, shown and, after a yes, removed."""
    from tasks import retention

    def ask() -> bool:
        with contextlib.suppress(EOFError):
            return input("remove it? [y/N] ").strip().lower() in ("y", "yes")
        return False

    try:
        yield from retention.gc(root, remote=given.remote, projects=given.projects, despite=given.despite, dry=given.dry,
                                yes=given.yes, ask=ask if sys.stdin.isatty() else None, told=print)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        raise SystemExit(130) from None


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0, or 1 with one line on stderr."""
    environment.apply()
    given = parser().parse_args(words)
    root = Path.cwd() if given.command in (*MINE, "doctor", "gc") else home.of(Path.cwd())
    actions = {
        "status": lambda: listing.status(root),
        "releases": lambda: listing.releases(root),
        "show": lambda: (
            listing.card(root, given.release) if given.card else listing.show(root, given.release, given.compare)
        ),
        "trace": lambda: trace(root, given),
        "promote": lambda: promote_candidate(root, given.documents, given.again, given.commit),
        "rollback": lambda: roll_back(root, given.release, given.commit),
        "costs": lambda: what_nights_cost(root, given.runs, given.json),
        "adapters": lambda: adapters.compare(root, given.compare, given.cases) if given.compare else adapters.listing(root),
        "builds": lambda: live_index.listing(root),
        "bootstrap": lambda: [bootstrap(root)],
        "fetch": lambda: sources.fetch_now(root),
        "import": lambda: imports.lay(root, given.instructions, given.documents, given.keep_others),
        "collect": lambda: collect(root, given.files, given.again, given.dry),
        "withdraw": lambda: withdraw(root, given.annotator, given.dry),
        "preset": lambda: presets.apply(root, given.name),
        "ask": lambda: ask(root, given.question, given.release, given.json, given.stream),
        "feedback": lambda: feedback(root, given.delete, given.purge),
        "reproduce": lambda: reproduce(root, given),
        "doctor": lambda: doctor(root, given),
        "gc": lambda: gc(root, given),
        "serve": lambda: serve(root, given.host, given.port),
    }
    try:
        with full_disk(str(Path.cwd())):
            for line in actions[given.command]():
                print(line)
    except NightshiftError as error:
        print(f"nightshift {given.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
