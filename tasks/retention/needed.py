"""What has to stay, by DVC's hashes, and who needs it.

Every hash that dvc.lock or a .dvc file of a kept commit names as an output stays, and each file of a folder that is named:
also metrics, which DVC has only for its run cache. The files are searched for hashes rather than parsed, so that neither a
format of tomorrow nor a merge that somebody has left half done hides one; tasks/retention/check.py asks DVC the same.

A release is protected twice: by its commit, and by the hashes in its own record, which is all there is where this clone
lacks the commit or where it was promoted before its night was committed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks import home
from tasks.errors import DataError
from tasks.lineage.cache import DIRECTORY
from tasks.records import RELEASES
from tasks.retention import history
from tasks.retention.history import WorkTree
from tasks.terminal import plain

HASH = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")
INPUTS = re.compile(rb"^( *)deps:\n(?:\1[ -].*(?:\n|\Z))*", re.MULTILINE)  # that list of a stage: outputs of others, or code
COMMITTED = re.compile(rb'"commit"\s*:\s*"([^"]*)"')
MOST = 3  # that are named in a message


@dataclass(frozen=True)
class Need:
    """Somebody who needs outputs, and by which commit or work tree. `firm`: a list of files that cannot be read is an error,
    not a note."""

    who: str
    hashes: frozenset[str]
    firm: bool = False
    by: str | Path | None = None


@dataclass
class Kept:
    """What stays. `commits`: whose outputs do, the newest releases first, and `trees`: work trees of which all stays that is
    checked out; without those of which a list of files is nowhere. `counts`: kind → how many need something."""

    hashes: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)
    trees: list[Path] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Kept) -> None:
        """What another repository needs of the same cache. The commits stay those of this one."""
        self.hashes |= other.hashes
        self.trees += other.trees
        self.counts = {kind: self.counts.get(kind, 0) + count for kind, count in other.counts.items()}
        self.notes += other.notes


def named(content: bytes) -> frozenset[str]:
    """Hashes of the outputs that a dvc.lock, a .dvc file, or an entry of DVC's run cache names."""
    return hashes(INPUTS.sub(b"", content))


def hashes(content: bytes) -> frozenset[str]:
    """Everything in it that could be one of DVC's hashes."""
    return frozenset(found.decode() for found in HASH.findall(content))


@dataclass(frozen=True)
class Release:
    """What matters here of a release's record: the git commit that it names (nothing that is no hash), and DVC's hashes."""

    id: str
    commits: frozenset[str]
    hashes: frozenset[str]


def releases(root: Path, trees: Sequence[WorkTree], commits: Iterable[str]) -> list[Release]:
    """All that any work tree or any of these commits has a record of, the last first; one that was marked since, twice."""
    names = history.files_in(root, commits, RELEASES.as_posix(), ".json")
    found = {(names[blob], *facts) for blob, facts in history.read(root, names, _facts).items()}
    found |= {(path.name, *_facts(path.read_bytes())) for tree in trees for path in (tree.root / RELEASES).glob("*.json")}
    return sorted((Release(plain(name.removesuffix(".json")), *facts) for name, *facts in found),
                  key=lambda one: one.id, reverse=True)  # fmt: skip


def _facts(record: bytes) -> tuple[frozenset[str], frozenset[str]]:
    said = (text.decode(errors="replace") for text in COMMITTED.findall(record))
    return frozenset(text for text in said if history.COMMIT.fullmatch(text)), hashes(record)


def kept(
    root: Path, trees: Sequence[WorkTree], sharing: Collection[Path], days: int, lists: Lists, despite: bool
) -> Kept:
    """What stays of one repository. `trees`: all of its work trees, `sharing`: those of them that use this cache; `days`: nights
    that are kept, by day.

    DataError where the list of files of a release's folder, or of one that is checked out there, is nowhere (`despite`: a
    note then, as it is for others).
    """
    result, heads = Kept(), history.heads(root)
    tips = [*heads.values(), *(tree.head for tree in trees if tree.head)]
    there = [tree for tree in trees if tree.root.is_dir()]
    made = releases(root, there, tips)
    has = history.here(root, frozenset().union(*(one.commits for one in made)))
    away = [one.id for one in made if not one.commits & has]
    if away:
        result.notes.append(f"the commit of {_some(away)} is not in this clone: what the record names stays, by its hashes")
    branches = ["HEAD", *(name for name in heads if name.split("/")[-1] == home.BRANCH)]  # of other clones, too
    late = history.nights(root, branches, days)
    merged = history.common(root, found.follows) if (found := home.find(root)) else []
    reasons = {  # kind → (who, commit)
        "releases": [(f"release {one.id}", commit) for one in made for commit in one.commits & has],
        "candidates that a person rejected": [("a rejected candidate", commit) for commit in history.recorded_no(root)],
        "nights": [(f"the night of {day}", commit) for commit, day in late.items()],
        "what nights and checkout have in common": [("the last merge", commit) for commit in merged],
        "branches and tags": [(plain(name), commit) for name, commit in heads.items()],
        "work trees": [(f"what {tree.root} has checked out", tree.head) for tree in trees if tree.head],
    }
    blobs = history.pointers(root, dict.fromkeys(commit for pairs in reasons.values() for _, commit in pairs))
    told = history.read(root, set().union(*blobs.values()), named)
    needs = [Need(f"release {one.id}", one.hashes, True) for one in made]
    for kind, pairs in reasons.items():
        for who, commit in pairs:
            outputs = frozenset().union(*(told[blob] for blob in blobs.get(commit, ())))
            needs.append(Need(who, outputs, kind == "releases", commit if commit in blobs else None))
    for tree in there:
        outputs = frozenset().union(*map(named, history.checked_out(tree)))
        needs.append(Need(f"what {tree.root} has checked out", outputs, tree.root in sharing, tree.root))
    result.hashes, lost = lists.whole(needs)
    whole = dict.fromkeys(need.by for need in needs if need.by).keys() - {need.by for need in lost}
    result.commits = [need.by for need in needs if isinstance(need.by, str) and need.by in whole]
    result.trees = [need.by for need in needs if isinstance(need.by, Path) and need.by in whole]
    result.notes += _missing(lost, lists, despite)
    result.counts = {kind: len({who for who, _ in pairs}) for kind, pairs in reasons.items()}
    result.counts["releases"] = len({one.id for one in made})
    return result


def _missing(lost: list[Need], lists: Lists, despite: bool) -> Iterator[str]:
    """A note on those whose lists are nowhere; DataError where one of them has to be known."""
    firm = [need.who for need in lost if need.firm]
    if firm and not despite:
        raise DataError(
            _some(firm),
            "the list of files of a folder named there is neither in DVC's cache nor in its remote"
            f"{lists.why and f' ({lists.why})'}: which files have to stay cannot be told",
            "dvc fetch, with that commit checked out, brings what a remote has; --despite-missing goes on without",
        )
    if lost:
        yield (f"{_some(need.who for need in lost)}: the list of files of a folder named there is nowhere; what nobody else "
               "names of them goes")


def _some(names: Iterable[str]) -> str:
    found = list(dict.fromkeys(names))
    return ", ".join(found[:MOST]) + (f" and {len(found) - MOST} more" if len(found) > MOST else "")


class Lists:
    """DVC's lists of the files of a folder: from the cache, else from the remote. One is good if it has its own hash."""

    def __init__(self, cache: Path, ask: Callable[[list[str]], tuple[dict[str, bytes], str]]):
        """`cache`: where objects lie, by XX/…; `ask`: hashes → what the remote has of them, and why it has not been asked."""
        self._cache, self._ask, self._known, self.why = cache, ask, {}, ""

    def whole(self, needs: Sequence[Need]) -> tuple[set[str], list[Need]]:
        """All hashes with those of the files of each folder; and the needs that name a list which is nowhere."""
        wanted = set().union(*(need.hashes for need in needs))
        folders = {hash_ for hash_ in wanted if hash_.endswith(DIRECTORY)}
        self._read(folders - set(self._known))
        lost = {hash_ for hash_ in folders if self._known[hash_] is None}
        files = set().union(*(found for hash_ in folders if (found := self._known[hash_])))
        return wanted | files, [need for need in needs if need.hashes & lost]

    def _read(self, folders: set[str]) -> None:
        found = {hash_: _content(self._cache / hash_[:2] / hash_[2:]) for hash_ in sorted(folders)}
        self._known |= {hash_: _files(hash_, content) for hash_, content in found.items()}
        if missing := [hash_ for hash_ in found if self._known[hash_] is None]:
            there, self.why = self._ask(missing)
            self._known |= {hash_: _files(hash_, content) for hash_, content in there.items()}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _files(hash_: str, content: bytes) -> frozenset[str] | None:
    """The files of a list; None where it is not the one of this hash."""
    return hashes(content) if name_of(content) == hash_ else None


def name_of(content: bytes) -> str:
    """The hash of a list, as DVC makes it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest() + DIRECTORY
