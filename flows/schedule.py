"""Which stage runs when: each as soon as those it needs are done, `nightly.parallel` at a time, in DVC's order."""

from __future__ import annotations

import queue
from collections.abc import Callable

from prefect.futures import PrefectFuture
from prefect.states import State

from flows import dvc, stages, steps

BROKEN = ("failed", "skipped")


def run(
    night: steps.Night, graph: dvc.Graph, names: list[str], unchanged: set[str], on_progress: Callable[[float], object]
) -> list[BaseException]:
    """Run the named stages and note their states in `night.states`; returns the failures.

    `unchanged` stages are only noted. A stage that needs a failed one is submitted too: Prefect shows it as NotReady.
    `on_progress` gets the share that is done, in per cent.
    """
    futures: dict[str, PrefectFuture] = {}
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    waiting, running, failures = list(names), set(), []

    def may_start(name: str) -> bool:
        states = [night.states.get(need) for need in graph[name].needs]  # `names` holds all that a stage needs
        if None in states:
            return False
        free = len(running - unchanged) < (night.parallel or night.params.nightly.parallel)
        return free or name in unchanged or any(state in BROKEN for state in states)

    while waiting or running:
        for name in [name for name in waiting if may_start(name)]:
            if not may_start(name):  # the one before took the last place
                continue
            waiting.remove(name)
            running.add(name)
            futures[name] = stages.stage.with_options(name=name, task_run_name=name).submit(
                name, night, name in unchanged, wait_for=[futures[need] for need in graph[name].needs]
            )
            futures[name].add_done_callback(lambda _, name=name: ended.put(name))
        try:
            name = ended.get(timeout=0.5)
        except queue.Empty:
            night.screen.tick()
            continue
        running.discard(name)
        futures[name].wait()
        state = futures[name].state
        night.states[name] = word(state)
        if night.states[name] == "skipped":
            broken = [need for need in graph[name].needs if night.states[need] in BROKEN]
            night.screen.ended(name, "skipped", note=f"needs {', '.join(broken)}")
        elif night.states[name] == "failed":
            failures.append(state.result(raise_on_failure=False))
        if name not in unchanged or not (waiting or running):
            on_progress(100.0 * len(night.states) / len(names))
    return failures


def word(state: State) -> str:
    """A Prefect state as the screen and the summary call it: ran, cached, skipped or failed."""
    if state.is_completed():
        return "cached" if state.name == "Cached" else "ran"
    return "skipped" if state.is_pending() else "failed"
