"""What every flow does around its own work: where it runs, who else may, what it takes in first, what it says at the end.

Imported before anything of Prefect: it settles Prefect's environment.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from tasks import environment

environment.apply()
# The screen is ours (flows/screen.py); Prefect's own lines go to its API, and here with --verbose.
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "INFO" if "--verbose" in sys.argv else "CRITICAL")

from prefect import get_run_logger  # noqa: E402
from prefect.artifacts import create_progress_artifact, update_progress_artifact  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.states import Cancelled, State  # noqa: E402

from flows import accounts, dvc, events, processes, schedule, server, steps  # noqa: E402
from flows.screen import Screen  # noqa: E402
from tasks import costs, home, lock, params  # noqa: E402
from tasks.errors import NightshiftError, ParamsError, full_disk  # noqa: E402


class NightFailedError(NightshiftError):
    """At least one stage failed; the others did what they could."""

    def __init__(self, failures: list[BaseException], summary: list[str]):
        """`summary` is what came out all the same."""
        self.summary = summary
        super().__init__("\n".join(str(error) for error in failures))


def by_itself(name: str, title: str, do: Callable[[steps.Night], list[str]], verbose: bool) -> list[str] | State:
    """Do it while nobody else works in this folder, with what the checkout has committed if the folder is its nights' home.

    `name`: what others are told who find it at work. It waits for a collection and the like, up to nightly.lock_minutes;
    Cancelled, by name of who is at work, where that is a night or another of its kind.
    """
    root = Path.cwd()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_alone(root, name, get_run_logger().info))
        except lock.BusyError as busy:
            get_run_logger().warning(str(busy))
            return Cancelled(message=str(busy))
        taken = steps.take_in(root, f"{title} of {datetime.now().astimezone():%Y-%m-%d}, broken off")
        night, clock = begin(verbose), time.monotonic()
        night.notices += taken
        events.catch_up(root)
        try:
            return [*do(night), *accounts.settle(night, flow_run.get_flow_name(), time.monotonic() - clock)]
        except NightFailedError as failed:
            failed.summary += accounts.settle(night, flow_run.get_flow_name(), time.monotonic() - clock)
            raise


def _alone(root: Path, name: str, told: Callable[[str], None]) -> contextlib.AbstractContextManager[None]:
    return lock.alone(root, name, params.load(root / "params.yaml").nightly.lock_minutes * 60, told)


def begin(verbose: bool, taking_in: str | None = None) -> steps.Night:
    """What all steps of a run in the present folder share.

    `taking_in`: title under which a run that need not be alone takes in what the checkout has committed, if nobody is at work.
    """
    root, taken = Path.cwd(), []
    if taking_in:
        with contextlib.suppress(lock.BusyError), lock.alone(root, "a flow that begins"):
            taken = steps.take_in(root, taking_in)
    processes.reopen()
    now = datetime.now().astimezone()
    return steps.Night(root, params.load(root / "params.yaml"), Screen(verbose), now, notices=taken)


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


def outcome(state: State) -> list[str]:
    """The lines that a run has returned; what it has raised is raised here; one that was cancelled says why."""
    return [state.message] if state.is_cancelled() else state.result()


def door(
    name: str,
    run: Callable[[], list[str]],
    instead: Callable[[], None] | None = None,
    alone: str | None = None,
    lasting: str | None = None,
) -> int:
    """Run a flow where this checkout's nights live, with an API, and say what came out; or do something else `instead`.

    `alone`: the name of a flow that is refused where a night or another of its kind is at work there. `lasting`: why it
    needs a server that stays.
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
        with _alone(root, alone, print) if alone else contextlib.nullcontext():
            pass  # at once, not after a server has started; the flow holds the lock itself, for Prefect starts it without us
        with full_disk(str(root)), server.api(root):
            summary = run()
    except NightFailedError as error:
        print(*error.summary, sep="\n")
        print(f"after {costs.duration(time.monotonic() - clock)}: {error}", file=sys.stderr)
        return 1
    except NightshiftError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where it was", file=sys.stderr)
        return 130
    finally:
        processes.stop_all()
    print(f"{summary[0]}, in {costs.duration(time.monotonic() - clock)}", *summary[1:], sep="\n")
    return 0


def dry_run(root: Path, stages: list[str]) -> None:
    """Print which stages would run and why."""
    graph = dvc.read(root, patience=10)
    names = graph.with_ancestors(stages) if stages else graph.names
    for name in names:
        node = graph[name]
        few = [*node.changed[:4], *([f"{len(node.changed) - 4} more"] if len(node.changed) > 4 else [])]
        why = ", ".join(few) or ", ".join(f"after {need}" for need in node.needs if need not in graph.unchanged())
        print(f"  {name:<12}{'unchanged' if name in graph.unchanged() else f'to run: {why}'}")
