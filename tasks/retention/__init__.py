"""`nightshift gc`: outputs of nights that nobody needs go, from DVC's cache and, when told, from its remote.

    place.py      whose outputs share the cache: all work trees of the repository, the nights' home among them
    history.py    what git has: heads, nights, the files of each commit that name outputs
    needed.py     what has to stay, by DVC's hashes: releases, nights, heads, what is checked out
    cache.py      what lies in cache and remote; which entries of the run cache lead nowhere
    leftovers.py  what Nightshift has left in its own folders
    check.py      the same asked of DVC and of the releases' records, before anything goes
    locks.py      nobody else at work meanwhile

`dvc gc` is not used: it would remove what another work tree with the same cache needs, and knows neither releases nor nights.

What goes is what nobody needs; that is all there is to a kill at any line: nothing is written, the order is such that what is
half gone passes for nothing whole (run cache, lists of folders, files), and the next call finds the rest.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tasks import params
from tasks.bootstrap import EXAMPLES, dvc_list
from tasks.doctor.findings import size
from tasks.doctor.project import dvc
from tasks.errors import FULL, NightshiftError, ParamsError, ServiceError
from tasks.retention import cache, check, history, locks, needed, place
from tasks.retention.leftovers import Leftover, leftovers
from tasks.retention.needed import Kept
from tasks.retention.place import Place
from tasks.terminal import plain

CACHE, REMOTE = "outputs, in DVC's cache", "outputs, in DVC's remote {}"
WIDTH = 48  # columns of a kind
RUNS, HALVES = "entries of DVC's run cache", "what killed dvc commands had half written"


@dataclass
class Plan:
    """What goes, each with the bytes that it frees, and what stays. `remote`: objects in DVC's remote."""

    kept: Kept
    stays: int = 0  # objects in the cache
    stays_bytes: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    runs: dict[Path, int] = field(default_factory=dict)
    halves: dict[Path, int] = field(default_factory=dict)
    remote: dict[str, int] = field(default_factory=dict)
    remote_name: str = ""
    leftovers: list[Leftover] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.objects or self.runs or self.halves or self.remote or self.leftovers)

    def kinds(self) -> dict[str, tuple[int, int]]:
        """Kind → how many go, and the bytes that frees."""
        named = {CACHE: self.objects, RUNS: self.runs, HALVES: self.halves, REMOTE.format(self.remote_name): self.remote}
        told = {kind: (len(what), sum(what.values())) for kind, what in named.items() if what}
        for one in self.leftovers:
            count, bytes_ = told.get(one.kind, (0, 0))
            told[one.kind] = count + 1, bytes_ + one.bytes
        return told

    def among(self, shown: Plan) -> Plan:
        """What goes by both: a person has seen the other."""
        seen = {(one.kind, one.path) for one in shown.leftovers}
        both = {name: {key: bytes_ for key, bytes_ in getattr(self, name).items() if key in getattr(shown, name)}
                for name in ("objects", "runs", "halves", "remote")}  # fmt: skip
        return replace(self, **both, leftovers=[one for one in self.leftovers if (one.kind, one.path) in seen])


def gc(
    folder: Path,
    *,
    remote: bool = False,
    projects: Sequence[Path] | None = None,
    despite: bool = False,
    dry: bool = False,
    yes: bool = False,
    ask: Callable[[], bool] | None = None,
    told: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Show what would go and, after a yes, remove it; a line each. `ask`: puts the question; None: nobody is there. `told`
    hears who is waited for.

    BusyError where somebody is at work, DataError where it cannot be told what a release needs (tasks/retention/needed.py),
    ParamsError where nobody has said yes.
    """
    with room(folder):
        at = place.find(folder, projects)
        if not dry:
            with locks.alone(at.sharing, told=told):
                pass  # at once, not after the question
        shown = plan(at, remote, despite)
        yield from words(shown)
        if not shown or dry:
            return
        if not yes and ask is None:
            raise ParamsError("gc", "nobody is there to be asked", "nightshift gc --yes removes it, --dry-run only looks")
        if yes or ask():
            yield from sweep(at, remote, despite, shown=shown)
        else:
            yield "nothing was removed"


@contextlib.contextmanager
def room(folder: Path) -> Iterator[None]:
    """A disk that is full to the last byte, as an error: locks, and the notes that DVC opens, want some."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if getattr(error, "errno", None) not in FULL and "disk is full" not in str(error):
            raise
        raise ServiceError(f"the disk of {folder}", "is so full that nobody can even take a lock",
                           "remove something small by hand, 2 MB are enough (.nightshift/logs), then run again") from error


def sweep(
    at: Place, remote: bool = False, despite: bool = False, held: Collection[Path] = (), shown: Plan | None = None
) -> list[str]:
    """Remove what nobody needs, at most what `shown` has; a line on what has gone.

    `held`: work trees whose night's lock is the caller's, as a flow's is: `sweep(place.find(root), held=[root])`.
    """
    with locks.alone(at.sharing, held):
        now = plan(at, remote, despite, alone=True)
        now = now.among(shown) if shown else now
        check.check({*now.objects, *now.remote}, at, now.kept)
        try:
            remove(at, now)
        except OSError as error:
            raise ServiceError(str(error.filename or "gc"), f"cannot be removed ({error.strerror or error})",
                               "mend that; what has gone by then was needed by nobody, and the same command goes on") from error
    count, bytes_ = (sum(numbers) for numbers in zip((0, 0), *now.kinds().values(), strict=True))
    return [f"removed: {count:,} files and folders, {size(bytes_)}"]


def plan(at: Place, remote: bool = False, despite: bool = False, alone: bool = False) -> Plan:
    """What would go now. Nothing is changed. `alone`: nobody else can be at work."""
    days = params.load(at.root / "params.yaml").retention.nights
    lists = needed.Lists(at.cache, lambda wanted: _elsewhere(at, wanted, remote))
    own, *others = (needed.kept(root, trees, at.sharing, days, lists, despite) for root, trees in at.repositories.items())
    for other in others:
        own.add(other)
    result = Plan(own)
    there, stays = cache.stored(at.cache), result.kept.hashes
    result.objects = {hash_: frees for hash_, frees in there.objects.items() if hash_ not in stays}
    result.stays = len(there.objects) - len(result.objects)
    result.stays_bytes = sum(there.objects.values()) - sum(result.objects.values())
    result.runs = cache.dead_runs(at.runs, there.objects.keys() & stays)
    result.halves = there.halves
    for root in dict.fromkeys((at.root, at.checkout)):
        result.leftovers += leftovers(root, alone)
    if remote:
        _knows_others(at)
        with dvc(at.root) as repo:
            of = cache.Remote.of(repo)
            result.remote = {hash_: bytes_ for hash_, bytes_ in of.objects().items() if hash_ not in stays}
            result.remote_name = of.name
    return result


def _elsewhere(at: Place, wanted: list[str], strict: bool) -> tuple[dict[str, bytes], str]:
    """Lists of folders that the cache lacks: of examples/, which are in git, or in the remote; and why that wasn't asked.

    `strict`: the remote itself is to be cleaned, and one that does not answer is an error.
    """
    own = [dvc_list(folder) for tree in at.sharing if (folder := tree / EXAMPLES).is_dir()]
    found = {needed.name_of(content): content for content in own}
    try:
        with dvc(at.root) as repo:
            return found | cache.Remote.of(repo).lists([hash_ for hash_ in wanted if hash_ not in found]), ""
    except NightshiftError as error:
        if strict:
            raise
        return found, f"{error.thing}: {error.what}"


def _knows_others(at: Place) -> None:
    """ServiceError where a git remote has what this clone has not: the outputs of a release made elsewhere may be among what
    would go from DVC's remote."""
    for root in at.repositories:
        if unknown := history.elsewhere(root):
            name, remote = next(iter(unknown.items()))
            raise ServiceError(
                f"git remote {plain(remote)}", f"has {plain(name)} in another state than this clone, so what stays is not known",
                f"git fetch --tags {plain(remote)} '+refs/heads/*:refs/remotes/{plain(remote)}/*'",
            )


def remove(at: Place, what: Plan) -> None:
    """Remove it. What is half gone must not pass for whole, so: run cache, lists of folders, files."""
    for path in what.runs:
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    for path in what.halves:
        path.unlink(missing_ok=True)
    for hash_ in cache.in_order(what.objects):
        cache.path_of(at.cache, hash_).unlink(missing_ok=True)
    for one in what.leftovers:
        one.remove()
    if what.remote:
        for tree in at.sharing:
            with dvc(tree) as repo, contextlib.suppress(ServiceError):  # one without a remote has nothing to forget
                cache.Remote.of(repo).forget()
        with dvc(at.root) as repo:
            cache.Remote.of(repo).remove(what.remote)


def words(shown: Plan) -> Iterator[str]:
    """What stays and what goes, in columns."""
    yield f"stays: {shown.stays:,} objects in DVC's cache, {size(shown.stays_bytes)}, needed by"
    yield from (f"  {kind:<{WIDTH}}{count:>9,}" for kind, count in shown.kept.counts.items() if count)
    yield from (f"note: {note}" for note in dict.fromkeys(shown.kept.notes))
    if not shown:
        yield "nothing to remove"
        return
    yield "goes:"
    yield from (f"  {kind:<{WIDTH}}{count:>9,}{size(bytes_):>12}" for kind, (count, bytes_) in shown.kinds().items())
