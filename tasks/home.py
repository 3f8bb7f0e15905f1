"""Where nights live when they run by themselves: a git work tree of their own, on a branch of their own.

What a person edits, stages or runs in the checkout, a night there does not meet; what the checkout's branch has
*committed* it takes in before it begins, by a merge. Data, releases and outputs of the nights are in the home; DVC's cache and
remotes are the checkout's, so nothing is kept twice and each finds what the other has computed.

Both sides commit. In files that nights write (NIGHTLY) the home's side stands: the other is a person's own `dvc repro`,
and the next night computes what is missing. Two versions of the data are merged by DVC, file by file; whatever
else both have changed is a person's to decide; until then nights go on with what they had, and say so.

Killed at any line: the note says what was under way, and the next call ends it. Who calls holds the home's lock.NIGHT.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tasks import git, lock, worktree
from tasks.bootstrap import DATA, bootstrap, track
from tasks.errors import ServiceError
from tasks.files import read_json, write_atomic, write_json

FOLDER = lock.WORK / "home"
BRANCH = "nights"
NOTE = lock.WORK / "home.json"  # in the checkout; written last: a home without it is half made
MERGING = lock.WORK / "merging.json"  # in the home, while a merge is under way
NIGHTLY = ("dvc.lock", "metrics", "releases", "champion.json", "champion-search.json")  # written by nights alone
DVC = (sys.executable, "-m", "dvc")


@dataclass(frozen=True)
class Home:
    """The nights' home: where the project lies in it, and the branch of the checkout that it follows."""

    root: Path
    checkout: Path
    follows: str


def find(root: Path) -> Home | None:
    """The home of this checkout, or the one that `root` itself is; None where there is none."""
    checkout = _checkout_of(root)
    if not (checkout / NOTE).is_file():
        return None
    note = read_json(checkout / NOTE)
    return Home(checkout / note["root"], checkout, note["follows"])


def of(root: Path) -> Path:
    """Where nights of this checkout run and its releases are: its home, or itself."""
    found = find(root)
    return found.root if found else root


def shared(root: Path) -> Path:
    """Where checkout and home keep what both use (secrets): the checkout."""
    return _checkout_of(root)


def _checkout_of(root: Path) -> Path:
    for folder in (root, *root.parents):
        if folder.parts[-2:] == FOLDER.parts:
            return folder.parents[1]
    return root


def make(checkout: Path) -> Home:
    """The home of this checkout, made if it isn't there. ServiceError where there is no branch to follow."""
    with lock.held(checkout / lock.WORK / "home.lock", "home", "another make up", patience=60):
        if (found := find(checkout)) and (found.root / "dvc.yaml").is_file():
            connect(found)
            return found
        branch = git.branch(checkout)
        if branch is None or git.head(checkout) is None:
            raise ServiceError("git", "has no branch with a commit checked out here, which nights could follow",
                               "git switch main (or: git init, git add, git commit)")
        if branch == BRANCH:
            raise ServiceError("git", f"branch {BRANCH} is checked out here, and nights need it", "git switch main")
        (checkout / NOTE).unlink(missing_ok=True)
        worktree.forget(checkout, checkout / FOLDER)
        root = worktree.add_branch(checkout, checkout / FOLDER, BRANCH)
        home = Home(root, checkout, branch)
        connect(home)
        _fill(home)
        write_json(checkout / NOTE, {"root": root.relative_to(checkout).as_posix(), "follows": branch})
    return home


def connect(home: Home) -> None:
    """The checkout's DVC cache and remotes, with their settings, in the home's own configuration."""
    from dvc.repo import Repo

    with Repo(str(home.checkout)) as repo:
        remotes = {name: dict(remote) for name, remote in repo.config["remote"].items()}
        cache, chosen = repo.cache.local_cache_dir, repo.config["core"].get("remote")
        kinds = repo.config["cache"].get("type")
    with Repo(str(home.root)) as repo, repo.config.edit("local") as config:
        config["cache"] = {"dir": cache, **({"type": kinds} if kinds else {})}
        config["remote"] = remotes
        config["core"] = {"remote": chosen} if chosen else {}


def _fill(home: Home) -> None:
    """Data and outputs as the commit names them, as far as the cache has them; a night makes the rest."""
    _dvc(home.root, "checkout", "--quiet", f"{DATA}.dvc", check=False)
    bootstrap(home.root)
    _dvc(home.root, "checkout", "--quiet", "--allow-missing", check=False)


def take_in(root: Path, title: str) -> str | None:
    """Merge what the followed branch has committed since; a line about it, None where there is nothing new or no home.

    What a killed night has left uncommitted is committed first, by `title`. ServiceError, with nothing changed, when both sides
    have changed the same file in ways that nobody can put together.
    """
    home = find(root)
    if home is None or home.root != root:
        return None
    _recover(home)
    new = git.count(root, f"HEAD..{home.follows}")
    if not new:
        return None
    if (root / DATA).is_dir():
        track(root)  # what lies in data/ and was never tracked must not be in a merge's way
    git.commit(root, (f"{DATA}.dvc", *NIGHTLY), title)
    write_json(root / MERGING, {"takes": git.resolve(root, home.follows)})
    try:
        _merge(home)
    except ServiceError:
        worktree.abort_merge(root)
        (root / MERGING).unlink()
        raise
    _settle(home)
    return f"took in {new} commit{'s' if new > 1 else ''} of {home.follows}"


def _merge(home: Home) -> None:
    attributes = home.root / lock.WORK / "attributes"
    write_atomic(attributes, f"{DATA}.dvc merge=dvc\n")
    driver = f"{sys.executable} -m dvc git-hook merge-driver --ancestor %O --our %A --their %B"
    settings = {"core.attributesFile": str(attributes), "merge.dvc.driver": driver, "merge.dvc.name": "data of both"}
    unmerged = worktree.merge(home.root, home.follows, f"Take in {home.follows}", settings)
    ours = [path for path in unmerged if path in NIGHTLY or path.split("/")[0] in NIGHTLY]
    if left := [path for path in unmerged if path not in ours]:
        raise ServiceError(
            f"branch {BRANCH}", f"and {home.follows} have both changed {', '.join(left)}",
            f"merge by hand: cd {home.root} && git merge {home.follows}",
        )
    if unmerged:
        worktree.keep_ours(home.root, ours)
        worktree.conclude_merge(home.root)


def _settle(home: Home) -> None:
    """data/ as the merged data.dvc names it, from the cache: what was there before is in the cache too."""
    _dvc(home.root, "checkout", "--quiet", "--force", f"{DATA}.dvc")
    (home.root / MERGING).unlink()


def _recover(home: Home) -> None:
    """End what a killed call has left: a merge half done is undone, one that was committed gets its data."""
    worktree.index_lock(home.root).unlink(missing_ok=True)  # whoever calls is the only one at work here
    if (home.root / MERGING).is_file():
        worktree.undo_merge(home.root, read_json(home.root / MERGING)["takes"])
        _settle(home)


def _dvc(root: Path, *words: str, check: bool = True) -> None:
    done = subprocess.run([*DVC, *words], cwd=root, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise ServiceError(f"dvc {words[0]}", said, f"run it in {root}: dvc {' '.join(words)}")


def remove(checkout: Path) -> str:
    """Take the home away; its branch and all it has committed stay. ServiceError while a night runs there."""
    home = find(checkout)
    if home is None:
        return "there is no home"
    with contextlib.ExitStack() as stack:
        if home.root.is_dir():
            stack.enter_context(lock.alone(home.root, "its removal"))
        (checkout / NOTE).unlink()
        worktree.forget(checkout, checkout / FOLDER)
    return f"{FOLDER} is gone; branch {BRANCH} has what was committed there"
