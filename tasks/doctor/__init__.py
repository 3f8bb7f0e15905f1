"""`nightshift doctor`: what is missing, broken or misconfigured, and what to do about it. Nothing is changed.

    findings.py   what a check says, of which place, and how it is shown
    machine.py    Python, packages, compiler, git, disk, processors, memory, GPU
    project.py    params.yaml, the repository, the nights' home, the graph, data/, DVC's remote
    leftovers.py  locks, and what killed runs have left
    releases.py   what is live, its parts, the files that follow it, its index
    schedule.py   Prefect: server, worker, deployments; and make up
    messages.py   who hears what nights did: the block and the automations on Prefect's server
    services.py   Label Studio, Weaviate, an embedding server, and settings that need something beside them
    web.py        a question to a server, with an end

A check is a function that yields findings. One that fails is a finding itself. Those that wait for servers run side by side,
the others one after the other; none may take longer than its limit.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tasks import home
from tasks.doctor import findings, leftovers, machine, messages, project, releases, schedule, services
from tasks.doctor.findings import Finding, Place, broken, warning
from tasks.errors import NightshiftError
from tasks.files import canonical_json
from tasks.params import load


@dataclass(frozen=True)
class Check:
    """A question, the area that it belongs to, and how long it may take."""

    area: str
    look: Callable[[Place], Iterable[Finding]]
    waits: bool = False  # for somebody else, so that it runs beside the others
    seconds: float = 20.0


CHECKS = (
    *(Check("machine", look) for look in (
        machine.python, machine.packages, machine.compiler, machine.git, machine.disk, machine.processors, machine.memory,
        machine.gpu)),
    *(Check("project", look) for look in (
        project.params, project.repository, project.nights_home, project.graph, project.data, project.remote)),
    Check("project", project.asked_remote, seconds=60),
    *(Check("project", look) for look in (leftovers.locks, leftovers.killed)),
    *(Check("releases", look) for look in (releases.live, releases.followers)),
    Check("releases", releases.index, waits=True, seconds=25),
    *(Check("prefect", look, waits=True) for look in (schedule.kept_going, schedule.server, messages.messages)),
    Check("labelling", services.secret_file),
    Check("labelling", services.label_studio, waits=True, seconds=30),
    *(Check("search", look, waits=True) for look in (services.weaviate, services.embedding)),
    Check("settings", services.settings),
)  # fmt: skip


def doctor(folder: Path, remote: bool = False, as_json: bool = False) -> Iterator[str]:
    """Lines about the project in `folder`, or one JSON object; then SystemExit(1) where something is broken."""
    for name in ("dvc", "httpx", "httpcore", "weaviate-client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they have to say is said here
    found = examine(place_of(folder, remote))
    yield from [canonical_json(findings.as_json(found)).rstrip()] if as_json else findings.lines(found)
    if findings.count(found, "broken"):
        raise SystemExit(1)


def place_of(folder: Path, remote: bool = False) -> Place:
    """The place of a checkout, or of the nights' home."""
    folder = folder.resolve()
    with contextlib.suppress(NightshiftError, OSError, KeyError, TypeError):  # checks of area project say what is wrong there
        found = home.find(folder)
        if found and found.root.is_dir():
            return Place(found.root, found.checkout, _params(found.root), remote)
    return Place(folder, folder, _params(folder), remote)


def _params(root: Path):
    try:
        return load(root / "params.yaml")
    except (NightshiftError, OSError, UnicodeDecodeError):
        return None


def examine(place: Place, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Everything that the checks find, in their order."""
    waiting = {check: _Run(check, place) for check in checks if check.waits}
    safe = findings.hiding(place.root)
    found: list[Finding] = []
    for check in checks:
        run = waiting.get(check) or _Run(check, place)
        found += [safe(replace(one, area=check.area)) for one in run.result()]
    return found


class _Run:
    """A check at work in a thread, which is left alone when it does not end: the process ends without it."""

    def __init__(self, check: Check, place: Place):
        self._check, self._found, self._end = check, [], time.monotonic() + check.seconds
        self._thread = threading.Thread(target=self._look, args=(place,), daemon=True)
        self._thread.start()

    def _look(self, place: Place) -> None:
        name = self._check.look.__name__.replace("_", " ")
        try:
            for one in self._check.look(place):
                self._found.append(one)
        except NightshiftError as error:
            self._found.append(broken(": ".join(filter(None, (error.thing, error.what))), error.remedy))
        except Exception as error:  # whatever it is: the other checks go on, and this is said
            first = next(iter(str(error).strip().splitlines()), "")
            self._found.append(broken(f"check {name!r} failed: {type(error).__name__}{first and f': {first[:200]}'}",
                                      "mend what it names; if it names nothing of yours, report it"))  # fmt: skip

    def result(self) -> list[Finding]:
        """What was found until the limit."""
        self._thread.join(max(0.0, self._end - time.monotonic()))
        found = list(self._found)
        if self._thread.is_alive():
            name = self._check.look.__name__.replace("_", " ")
            say = broken if self._check.waits else warning  # much data that was never hashed takes its time, and is well
            found.append(say(f"check {name!r} did not end within {self._check.seconds:.0f} s",
                             "look at what it reads: a disk or a server that hangs, or much that is new"))  # fmt: skip
        return found
