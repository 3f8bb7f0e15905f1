"""Further work trees of a repository, and merges in one where nobody edits: the nights' home and reproductions."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks import git
from tasks.errors import ServiceError


def add(root: Path, folder: Path, commit: str) -> Path:
    """Check `commit` out in the new work tree `folder`, without hooks; returns where `root` lies in it."""
    return _add(root, folder, "--detach", str(folder), commit)


def add_branch(root: Path, folder: Path, branch: str) -> Path:
    """Check `branch` out in the new work tree `folder`, made at the present commit where there is none; returns where `root`
    lies in it."""
    known = git.run(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False).returncode == 0
    return _add(root, folder, *([str(folder), branch] if known else ["-b", branch, str(folder), "HEAD"]))


def _add(root: Path, folder: Path, *words: str) -> Path:
    git.run(root, *git.NO_HOOKS, "worktree", "add", "--quiet", "--force", *words)
    return folder / git.run(root, "rev-parse", "--show-prefix").stdout.strip()


def merge(root: Path, branch: str, message: str, settings: Mapping[str, str]) -> list[str]:
    """Merge a branch, without hooks; the paths (relative to `root`) that both have changed and git could not put together.

    Empty: the merge is committed. ServiceError when git does not even begin. `settings` hold for this command.
    """
    options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
    done = git.run(root, *git.NO_HOOKS, *git.identity(root), *options, "merge", "--quiet", "--no-ff", "--no-edit", "-m", message,
                   branch, check=False)  # fmt: skip
    found = git.run(root, "diff", "--name-only", "--relative", "--diff-filter=U", "-z").stdout
    unmerged = [path for path in found.split("\0") if path]
    if done.returncode and not unmerged:
        raise ServiceError("git merge", (done.stderr + done.stdout).strip() or f"exit code {done.returncode}")
    return unmerged


def keep_ours(root: Path, paths: Sequence[str]) -> None:
    """Settle unmerged paths by our side; one that we have removed stays removed."""
    for path in paths:
        if git.run(root, "checkout", "--quiet", "--ours", "--", path, check=False).returncode:
            git.run(root, "rm", "--quiet", "--force", "--ignore-unmatch", "--", path)
        else:
            git.run(root, "add", "--", path)


def conclude_merge(root: Path) -> None:
    """Commit a merge whose paths are all settled."""
    git.run(root, *git.NO_HOOKS, *git.identity(root), "commit", "--quiet", "--no-edit")


def abort_merge(root: Path) -> None:
    """Undo a merge that is under way; none is no error."""
    if git.run(root, "rev-parse", "--verify", "--quiet", "MERGE_HEAD", check=False).returncode == 0:
        git.run(root, "merge", "--abort")


def undo_merge(root: Path, theirs: str) -> None:
    """Undo a merge of the commit `theirs` that was killed: files back to HEAD, also those that were new and half there.

    A merge that was committed stays. Edits of tracked files are lost: this is for a work tree in which nobody edits.
    """
    git.run(root, *git.NO_HOOKS, "reset", "--quiet", "--hard")
    added = git.run(root, "diff", "--name-only", "--relative", "--diff-filter=A", "-z", "HEAD", theirs).stdout
    for path in filter(None, added.split("\0")):  # HEAD does not have it, so what lies there is the merge's
        Path(root, path).unlink(missing_ok=True)


def index_lock(root: Path) -> Path:
    """The file that keeps others from the index of this work tree while git is at it; a killed git leaves it."""
    return Path(root, git.run(root, "rev-parse", "--git-path", "index.lock").stdout.strip())


def switch(worktree: Path, commit: str) -> None:
    """Check another commit out there, whatever has been edited."""
    git.run(worktree, *git.NO_HOOKS, "checkout", "--quiet", "--force", "--detach", commit)


def forget(root: Path, folder: Path) -> None:
    """Let git forget a work tree, and remove it; one that is gone or half there is no error."""
    git.run(root, "worktree", "remove", "--force", "--force", str(folder), check=False)
    shutil.rmtree(folder, ignore_errors=True)
    git.run(root, "worktree", "prune")
