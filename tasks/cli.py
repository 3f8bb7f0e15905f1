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


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="nightshift", description=" ".join(__doc__.partition("\n\n")[0].split()))
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", help="the last release beside the one before it, and what is live")
    commands.add_parser("releases", help="all releases, the last first")
    one = commands.add_parser("show", help="one release in full, or beside another")
    one.add_argument("release", metavar="RELEASE", help="its id, or the beginning or end of it")
    shown = one.add_mutually_exclusive_group()
    shown.add_argument("--compare", metavar="OTHER", help="show what differs from this release")
    shown.add_argument("--card", action="store_true", help="write its model card as a page, and say where")
    back = commands.add_parser("trace", help="where a release comes from, or which releases a judgement has shaped")
    back.add_argument("release", nargs="?", metavar="RELEASE", help="back to stages, data, annotations (default: the live one)")
    back.add_argument("--annotation", metavar="ID", help="this annotation forward; with RELEASE: what it was in that one")
    back.add_argument("--annotator", metavar="WHO", help="all of a person's forward; with --annotation: theirs of this id")
    back.add_argument("--stage", metavar="NAME", help="one stage of the release in full: command, parameters, inputs, outputs")
    back.add_argument("--html", type=Path, metavar="FILE", help="write the release's trace as a page")
    back.add_argument("--json", action="store_true", help="all of it as one JSON object")
    out = commands.add_parser("promote", help="make the candidate of the last night live")
    out.add_argument("--documents", action="store_true", help="the live model with the documents of the last dvc repro retrieve")
    out.add_argument("--again", action="store_true", help="also when this very release was rolled back before")
    back = commands.add_parser("rollback", help="make the release before the live one live again")
    back.add_argument("release", nargs="?", metavar="RELEASE", help="or this one")
    for command in (out, back):
        command.add_argument("--no-commit", dest="commit", action="store_false", help="leave the commit to you")
    spent = commands.add_parser("costs", help="what the last nights took: time, CPU, memory and disk, stage by stage")
    spent.add_argument("--runs", type=int, default=30, metavar="N", help="look at the last N (default: 30)")
    spent.add_argument("--json", action="store_true", help="a JSON object a run, the oldest first")
    commands.add_parser("builds", help="builds of the search index, which one the store points at, and what is wrong there")
    commands.add_parser("bootstrap", help="fill data/ on a fresh clone")
    commands.add_parser("fetch", help="take the rows of all sources in params.yaml into data/documents/sql")
    own = commands.add_parser("import", help="your own instructions and documents into data/")
    own.add_argument("--instructions", nargs="+", type=Path, required=True, metavar="FILE",
                     help="rows in .json or .jsonl: Alpaca, ShareGPT, messages, prompt/completion")
    own.add_argument("--documents", type=Path, metavar="DIR",
                     help="folder of Markdown, HTML, PDF, DOCX, text, CSV, TSV, JSONL and JSON files")
    own.add_argument("--keep-others", action="store_true", help="keep the other kinds of data that data/ has")
    asked = commands.add_parser("ask", help="answer a question from the live release's documents")
    asked.add_argument("question", metavar="QUESTION")
    asked.add_argument("--release", metavar="RELEASE", help="ask this release instead")
    asked.add_argument("--json", action="store_true", help="answer and sources as one JSON object")
    asked.add_argument("--no-stream", dest="stream", action="store_false", help="print the answer when it is complete")
    told = commands.add_parser("feedback", help="what is kept of questions, answers and feedback; and removing it")
    told.add_argument("--delete", metavar="ANSWER_ID", help="remove one question with its answer and feedback")
    told.add_argument("--purge", action="store_true", help="remove all of it")
    served = commands.add_parser("serve", help="answer questions over HTTP, with a page to try it")
    served.add_argument("--host", help="instead of serve.host; beyond loopback set NIGHTSHIFT_API_KEY")
    served.add_argument("--port", type=int, help="instead of serve.port; 0 takes a free one")
    back = commands.add_parser("collect", help="what people have said in Label Studio into data/")
    back.add_argument("--from", dest="files", nargs="+", type=Path, default=[], metavar="FILE",
                      help="from files of Label Studio's JSON export, not from the server")
    back.add_argument("--again", action="store_true", help="read all tasks of the server, not only what has changed")
    gone = commands.add_parser("withdraw", help="an annotator's judgements out of all data that is to come")
    gone.add_argument("--annotator", required=True, metavar="WHO",
                      help="name in the data, Label Studio user id, or e-mail address")
    twin = commands.add_parser("reproduce", help="make a release again from its commit and compare every byte")
    twin.add_argument("release", metavar="RELEASE", help="its id, or the beginning or end of it")
    twin.add_argument("--from-cache", action="store_true", help="check the bytes in DVC's cache and remote; compute nothing")
    twin.add_argument("--stages", nargs="+", metavar="STAGE", help="only these and the stages they need")
    twin.add_argument("--in", dest="within", type=Path, metavar="DIR", help="where the work tree goes, outside the checkout")
    twin.add_argument("--keep", action="store_true", help="keep the work tree")
    twin.add_argument("--dry-run", dest="dry", action="store_true", help="say what would be done and what is promised")
    twin.add_argument("--json", action="store_true", help="the result as one JSON object; progress goes to stderr")
    look = commands.add_parser("doctor", help="what is missing, broken or misconfigured, and what to do")
    look.add_argument("--remote", action="store_true", help="ask DVC's remote too whether it has everything")
    look.add_argument("--json", action="store_true", help="the findings as one JSON object")
    swept = commands.add_parser(
        "gc", help="outputs of nights that no release needs out of DVC's cache",
        description="Removes from DVC's cache what is needed by no release (also those rolled back), no branch, no tag, no work "
                    "tree, none of the last retention.nights nights. Shows it and asks first.",
    )  # fmt: skip
    for command in (back, gone, swept):
        command.add_argument("--dry-run", dest="dry", action="store_true", help="say what would be done")
    swept.add_argument("--yes", action="store_true", help="do not ask")
    swept.add_argument("--remote", action="store_true",
                       help="out of DVC's default remote too. What another clone needs and has not pushed to a git remote of "
                            "this one cannot be known, and goes")
    swept.add_argument("--projects", nargs="*", type=Path, metavar="DIR",
                       help="other projects that use the same DVC cache: what they need stays, too. Without DIR: there are none; "
                            "it has to be said where the cache lies outside this project")
    swept.add_argument("--despite-missing", dest="despite", action="store_true",
                       help="go on where lists of files that a release names are neither in cache nor remote")
    preset = commands.add_parser("preset", help="lay presets/NAME.yaml over params.yaml")
    preset.add_argument("name", metavar="NAME")
    return top


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
