"""What git has: heads, work trees, and every file that names outputs (dvc.lock, *.dvc), of a thousand commits in seconds.

Trees are read in bulk, level by level, each distinct one once: commits of nights share nearly all of theirs. DVC reads one
commit after the other, for a tenth of a second each. Whatever git cannot read is an error here, not an absence: what is
overlooked would be removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tasks import git
from tasks.errors import ServiceError

COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # a hash, and no option of a command
POINTER = re.compile(rb"dvc\.lock|.+\.dvc", re.DOTALL)
POINTERS = (":(top,glob)**/dvc.lock", ":(top,glob)**/*.dvc")
AT_ONCE = 200  # blobs in memory
FOLDER, FILE = (b"40000",), (b"100644", b"100755")  # modes; neither links nor submodules are followed

Read = TypeVar("Read")


@dataclass(frozen=True)
class Entry:
    """A line of a tree."""

    mode: bytes
    name: bytes
    hash: str


@dataclass(frozen=True)
class WorkTree:
    """A work tree of the repository, where the project lies in it, and the commit that it has."""

    top: Path
    root: Path
    head: str | None


def work_trees(root: Path) -> list[WorkTree]:
    """All that git knows, also those whose folder is gone: their commits are named all the same."""
    prefix = _words(root, "rev-parse", "--show-prefix").rstrip("\n")
    found = []
    for block in _words(root, "worktree", "list", "--porcelain").split("\n\n"):
        facts = dict(line.partition(" ")[::2] for line in block.splitlines())
        if "worktree" in facts and "bare" not in facts:
            head = facts.get("HEAD", "")
            top = Path(facts["worktree"]).resolve()
            found.append(WorkTree(top, (top / prefix).resolve(), head if head.strip("0") else None))
    return found


def top_of(folder: Path) -> Path:
    """The work tree that a folder lies in."""
    return Path(_words(folder, "rev-parse", "--show-toplevel").rstrip("\n")).resolve()


def heads(root: Path) -> dict[str, str]:
    """Name → object of every branch, tag, remote branch, stash and experiment. ServiceError for one that git lacks."""
    listed = _words(root, "for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    found = {name: hash_ for hash_, _, name in (line.partition(" ") for line in listed)}
    stashed = git.ask(root, "reflog", "show", "--format=%H", "refs/stash", "--").stdout.decode().split()
    found |= {f"stash {number}": hash_ for number, hash_ in enumerate(stashed)}
    for name, there in zip(found, git.objects(root, list(found.values())), strict=True):
        if there is None:
            raise ServiceError("git", f"lacks what {name} names", f"fetch it again, or forget it: git update-ref -d {name}")
    return found


def elsewhere(root: Path) -> dict[str, str]:
    """Name → git remote of branches and tags that a remote has and this clone has not, as they are there. ServiceError where
    one does not answer."""
    known, found = set(heads(root).values()), {}
    for remote in _words(root, "remote").split("\n"):
        for line in _words(root, "ls-remote", "--heads", "--tags", "--", remote).splitlines() if remote else ():
            hash_, _, name = line.partition("\t")
            if hash_ not in known and not name.endswith("^{}"):  # that is what an annotated tag is of
                found[name] = remote
    return found


def nights(root: Path, branches: Iterable[str], days: int) -> dict[str, str]:
    """Commit → day of all that changed dvc.lock in the `days` last days on which one did, on each of the branches."""
    found: dict[str, str] = {}
    for branch in branches:
        if days and not git.ask(root, "rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}").returncode:
            told = _words(root, "log", "--no-show-signature", "--format=%H %aI", branch, "--", "dvc.lock").splitlines()
            made = [(hash_, when[:10]) for hash_, _, when in (line.partition(" ") for line in told)]
            latest = sorted({day for _, day in made})[-days:]
            found |= {commit: day for commit, day in made if day in latest}
    return found


def common(root: Path, branch: str) -> list[str]:
    """Commits in which HEAD and a branch have parted: what merges their data needs the lists of these, too."""
    done = git.ask(root, "merge-base", "--all", "HEAD", branch)
    return done.stdout.decode().split() if done.returncode == 0 else []


def here(root: Path, commits: Collection[str]) -> set[str]:
    """Those commits that this clone has."""
    return set(_trees_of(root, commits))


def _trees_of(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Name → hash of its tree, of all that name a commit."""
    asked = list(dict.fromkeys(names))
    found = zip(asked, git.objects(root, [f"{name}^{{commit}}" for name in asked]), strict=True)
    return {name: commit.content[5 : commit.content.index(b"\n")].decode() for name, commit in found if commit}  # "tree HASH"


def pointers(root: Path, commits: Iterable[str]) -> dict[str, frozenset[str]]:
    """Commit → hashes of its blobs that name outputs, wherever they lie in the repository.

    A name that is no commit (a tag may be of anything) is left out. ServiceError where a tree is missing or damaged.
    """
    tops = _trees_of(root, commits)
    trees: dict[str, list[Entry]] = {}
    below = set(tops.values())
    while below:
        for hash_, found in zip(below, git.objects(root, list(below)), strict=True):
            if found is None:
                raise ServiceError("git", f"lacks tree {hash_}", "git fsck says what is damaged; git fetch --refetch brings it")
            trees[hash_] = entries(found)
        below = {one.hash for hash_ in below for one in trees[hash_] if one.mode in FOLDER} - trees.keys()
    known: dict[str, frozenset[str]] = {}
    return {name: _below(top, trees, known) for name, top in tops.items()}


def _below(top: str, trees: Mapping[str, list[Entry]], known: dict[str, frozenset[str]]) -> frozenset[str]:
    if top not in known:
        own = {one.hash for one in trees[top] if one.mode in FILE and POINTER.fullmatch(one.name)}
        known[top] = frozenset(own.union(*(_below(one.hash, trees, known) for one in trees[top] if one.mode in FOLDER)))
    return known[top]


def entries(tree: git.Object) -> list[Entry]:
    """A tree's lines: "MODE NAME\\0HASH", the hash in binary and as long as the tree's own."""
    content, width, at, found = tree.content, len(tree.hash) // 2, 0, []
    while at < len(content):
        end = content.index(b"\0", at)
        mode, _, name = content[at:end].partition(b" ")
        found.append(Entry(mode, name, content[end + 1 : end + 1 + width].hex()))
        at = end + 1 + width
    return found


def files_in(root: Path, commits: Iterable[str], folder: str, ending: str) -> dict[str, str]:
    """Hash of a blob → name, of files right in a folder (relative to `root`) of any of these commits."""
    found = git.objects(root, [f"{commit}:./{folder}" for commit in dict.fromkeys(commits)])
    return {one.hash: one.name.decode(errors="replace") for tree in found if tree and tree.kind == "tree"
            for one in entries(tree) if one.mode in FILE and one.name.endswith(ending.encode())}  # fmt: skip


def read(root: Path, hashes: Iterable[str], what: Callable[[bytes], Read]) -> dict[str, Read]:
    """Blob → what is read from its bytes; a part of them in memory at a time. ServiceError where one is missing."""
    wanted, found = sorted(set(hashes)), {}
    for first in range(0, len(wanted), AT_ONCE):
        for hash_, blob in zip(part := wanted[first : first + AT_ONCE], git.objects(root, part), strict=True):
            if blob is None:
                raise ServiceError("git", f"lacks blob {hash_}", "git fsck says what is damaged; git fetch --refetch brings it")
            found[hash_] = what(blob.content)
    return found


def checked_out(tree: WorkTree) -> list[bytes]:
    """Pointer files of a work tree as they lie there, staged or not, tracked or not; and as the index has them."""
    top = top_of(tree.root)
    if top != tree.top:
        raise ServiceError("git", f"{tree.top} is a work tree no more", "git worktree repair, or git worktree remove --force")
    lying = _words(tree.root, "ls-files", "-z", "--full-name", "--cached", "--others", "--exclude-standard", "--", *POINTERS)
    staged = _words(tree.root, "ls-files", "-z", "--full-name", "--stage", "--", *POINTERS).split("\0")
    found = list(read(tree.root, (line.split(" ")[1] for line in staged if line), bytes).values())
    return found + [path.read_bytes() for name in sorted({*lying.split("\0")} - {""}) if (path := top / name).is_file()]


def recorded_no(root: Path) -> list[str]:
    """Commits, of all branches, that recorded a person's no to a candidate."""
    return _words(root, "log", "--all", "--full-history", "--diff-filter=A", "--format=%H", "--", "releases/rejected").split()


def _words(root: Path, *words: str) -> str:
    done = git.ask(root, *words)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise ServiceError(f"git {words[0]}", said, "what stays is told by git's history: mend it first")
    return done.stdout.decode(errors="surrogateescape")
