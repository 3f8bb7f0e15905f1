"""The Prefect door: `python -m flows.nightly` runs the stages of dvc.yaml that have changed, commits, promotes, pushes.

The stages, their order and what has changed are DVC's; Prefect sees one task a stage. It works with no server running.
The first Ctrl-C ends the stages and the night; nothing is lost, and the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from tasks import environment

environment.apply()
# The screen is ours (flows/screen.py); Prefect's own lines go to its API, and here with --verbose.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO" if "--verbose" in sys.argv else "CRITICAL")

from prefect import flow, get_run_logger  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.states import Cancelled, State  # noqa: E402
from prefect.task_runners import ThreadPoolTaskRunner  # noqa: E402
from pydantic import BaseModel, ConfigDict, Field  # noqa: E402

from flows import asking, dvc, labelling, processes, schedule, server, steps  # noqa: E402
from flows.screen import Screen  # noqa: E402
from tasks import approval, home, lock, params, promote, records  # noqa: E402
from tasks.errors import NightshiftError, ParamsError, ServiceError  # noqa: E402

Stage = Literal[  # of dvc.yaml; Prefect's form offers them
    "validate", "prepare", "base", "sft", "candidates", "reward", "select", "align", "merge", "evaluate", "quantize", "embed",
    "index", "retrieve", "answers", "gate", "release", "report",
]  # fmt: skip


class Options(BaseModel):
    """What can be said about one night."""

    model_config = ConfigDict(extra="forbid")

    stages: list[Stage] = Field(default_factory=list, description="only these stages and those they need; empty: all")
    parallel: int = Field(default=0, ge=0, le=16, description="stages side by side; 0: as params.yaml says")
    push: bool = Field(default=True, description="push outputs to the DVC remote")
    commit: bool = Field(default=True, description="commit data.dvc, dvc.lock, metrics and the release")
    yes: bool = Field(default=False, title="Do not ask", description="promote without asking, whatever nightly.approval says")
    verbose: bool = Field(default=False, description="show every line of every stage")


class NightFailedError(NightshiftError):
    """At least one stage failed; the others did what they could."""

    def __init__(self, failures: list[BaseException], summary: list[str]):
        """`summary` is what came out all the same."""
        self.summary = summary
        super().__init__("\n".join(str(error) for error in failures))


@flow(name="nightly", task_runner=ThreadPoolTaskRunner(max_workers=64), validate_parameters=True)
def nightly(options: Options) -> list[str] | State:
    """One night; returns what came out, a line each. NightFailedError when a stage failed; Cancelled where another runs."""

    def whole(night: steps.Night) -> list[str]:
        night.parallel = options.parallel
        said = labelling.bring_in(night)
        failures, tally = work(night, options.stages, _settled, "nightly")
        lines = finish(night, options, not failures)
        asked = [] if failures or options.stages else labelling.ask_next(night)
        asked += asking.hand_over(night, options.yes, options.push, options.commit)
        return told([tally, *night.notices, *said, *lines, *asked], failures)

    return by_itself("Night", whole, options.verbose)


def by_itself(title: str, do: Callable[[steps.Night], list[str]], verbose: bool) -> list[str] | State:
    """Do it while nobody else works in this folder, with what the checkout has committed if the folder is its nights' home.

    Cancelled, by name of who is at work, where somebody does: a run that Prefect starts must not wait for hours.
    """
    root = Path.cwd()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.alone(root))
        except lock.BusyError as busy:
            get_run_logger().warning(str(busy))
            return Cancelled(message=str(busy))
        taken = steps.take_in(root, f"{title} of {datetime.now().astimezone():%Y-%m-%d}, broken off")
        night = begin(verbose)
        night.notices += taken
        return do(night)


def begin(verbose: bool, taking_in: str | None = None) -> steps.Night:
    """What all steps of a run in the present folder share.

    `taking_in`: title under which a run that need not be alone takes in what the checkout has committed, if nobody is at work.
    """
    root = Path.cwd()
    if taking_in:
        with contextlib.suppress(lock.BusyError), lock.alone(root):
            steps.take_in(root, taking_in)
    processes.reopen()
    return steps.Night(root, params.load(root / "params.yaml"), Screen(verbose), datetime.now().astimezone())


def work(
    night: steps.Night, stages: list[str], settled: Callable[[steps.Night], frozenset[str]], name: str
) -> tuple[list[BaseException], str]:
    """Run what has changed of `stages` (all when empty) and of what they need; (failures, a line of how many did what).

    `settled` names files whose changes do not count.
    """
    if night.params.sources.sql:
        steps.fetch_sources(night)  # before the graph is read, for it changes data/
    graph = steps.make_ready(night)
    names = graph.with_ancestors(stages) if stages else graph.names
    unchanged = graph.unchanged(settled(night), names) & set(names)
    title = f"{'night' if name == 'nightly' else name} of {night.began:%Y-%m-%d}"
    night.screen.begin(f"{title}: {len(names)} stages, {len(names) - len(unchanged)} to run", names)
    progress = create_progress_artifact(progress=0.0, key=f"{name}-progress", description=title.capitalize())
    try:
        failures = schedule.run(night, graph, names, unchanged, lambda share: update_progress_artifact(progress, share))
    except BaseException:
        processes.stop_all()
        raise
    finally:
        dvc.order_lock(night.root, graph.names)
    tally = {word: list(night.states.values()).count(word) for word in ("ran", "cached", "failed", "skipped")}
    return failures, ", ".join(f"{count} {word}" for word, count in tally.items() if count)


def told(summary: list[str], failures: list[BaseException]) -> list[str]:
    """The summary in the log too; NightFailedError when a stage failed."""
    for line in summary:
        get_run_logger().info(line)
    if failures:
        raise NightFailedError(failures, summary)
    return summary


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
        lines.append(f"remote: {steps.push(night)}")
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


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{int(seconds // 60)} min {int(seconds % 60)} s"


def dry_run(root: Path, options: Options) -> None:
    """Print which stages would run and why."""
    graph = dvc.read(root, patience=10)
    names = graph.with_ancestors(options.stages) if options.stages else graph.names
    for name in names:
        node = graph[name]
        few = [*node.changed[:4], *([f"{len(node.changed) - 4} more"] if len(node.changed) > 4 else [])]
        why = ", ".join(few) or ", ".join(f"after {need}" for need in node.needs if need not in graph.unchanged())
        print(f"  {name:<12}{'unchanged' if name in graph.unchanged() else f'to run: {why}'}")


def main(words: list[str] | None = None) -> int:
    """Entry point; exit code 0 (also when the gate holds the release back), 1 on failure, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.nightly", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", default=[], choices=get_args(Stage), metavar="STAGE",
                        help="only these and the stages they need")  # fmt: skip
    parser.add_argument("--parallel", type=int, choices=range(17), default=0, metavar="N", help="stages side by side")
    parser.add_argument("--no-push", dest="push", action="store_false", help="leave the DVC remote alone")
    parser.add_argument("--no-commit", dest="commit", action="store_false", help="leave git alone")
    parser.add_argument("--dry-run", action="store_true", help="say which stages would run, and why")
    parser.add_argument("--yes", action="store_true", help="promote without asking (nightly.approval: ask, manual)")
    parser.add_argument("--verbose", action="store_true", help="show every line of every stage")
    given = vars(parser.parse_args(words))
    dry, options = given.pop("dry_run"), Options(**given)
    run = functools.partial(nightly, options, return_state=True)
    code = door("nightly", lambda: outcome(run()), (lambda: dry_run(Path.cwd(), options)) if dry else None)
    return code if dry or code else asking.afterwards(options.yes, options.push, options.commit)


def outcome(state: State) -> list[str]:
    """The lines that a run has returned; what it has raised is raised here; one that was cancelled says why."""
    return [state.message] if state.is_cancelled() else state.result()


def door(
    name: str,
    run: Callable[[], list[str]],
    instead: Callable[[], None] | None = None,
    alone: bool = True,
    lasting: str | None = None,
) -> int:
    """Run a flow where this checkout's nights live, with an API, and say what came out; or do something else `instead`.

    `alone`: the flow is refused where somebody is at work there. `lasting`: why it needs a server that stays.
    """
    root, clock = home.of(Path.cwd()), time.monotonic()
    if root != Path.cwd():
        print(f"in {root}, where the nights live (git branch {home.BRANCH})")
        os.chdir(root)
    try:
        if not (root / "dvc.yaml").is_file():
            raise ParamsError(str(root), "has no dvc.yaml", "run from the repository's root")
        params.load(root / "params.yaml")
        if instead:
            instead()
            return 0
        if lasting:
            server.need_lasting(lasting)
        with lock.alone(root) if alone else contextlib.nullcontext():
            pass  # at once, not after a server has started; the flow holds the lock itself, for Prefect starts it without us
        with server.api(root):
            summary = run()
    except NightFailedError as error:
        print(*error.summary, sep="\n")
        print(f"after {_duration(time.monotonic() - clock)}: {error}", file=sys.stderr)
        return 1
    except NightshiftError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    finally:
        processes.stop_all()
    print(f"{summary[0]}, in {_duration(time.monotonic() - clock)}", *summary[1:], sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
