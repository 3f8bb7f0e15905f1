"""The little of git a night needs: where are we, what is uncommitted, one commit of named paths, and what is in the past.

A commit here takes only the paths it is given (`git commit --only`), so what a developer has edited or staged stays as
it is; hooks run as for anybody. It works on a detached HEAD, before the first commit, and for someone who has never
told git a name: then, and only then, the fallback identity signs.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ServiceError

FALLBACK = {"user.name": "Nightshift", "user.email": "nightshift@localhost"}
NO_HOOKS = ("-c", "core.hooksPath=/dev/null")
MAX_DIRTY = 50  # paths that a release names as uncommitted


def run(root: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A git command there that asks nobody for anything; ServiceError in its words where it fails (`check`)."""
    try:
        done = subprocess.run(
            ["git", *words],
            cwd=root,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        raise ServiceError("git", "is not installed", "install it, or run with --no-commit") from None
    if check and done.returncode:
        name = next(word for word, before in zip(words, ("", *words), strict=False) if "-c" not in (word, before))
        raise ServiceError(f"git {name}", (done.stderr or done.stdout).strip() or f"exit code {done.returncode}")
    return done


def is_repository(root: Path) -> bool:
    """Whether `root` lies in a git work tree."""
    try:
        return run(root, "rev-parse", "--is-inside-work-tree", check=False).stdout.strip() == "true"
    except ServiceError:
        return False


def head(root: Path) -> str | None:
    """Hash of the commit checked out; None outside a repository and before the first commit."""
    done = run(root, "rev-parse", "--verify", "--quiet", "HEAD", check=False) if is_repository(root) else None
    return (done and done.stdout.strip()) or None


def dirty(root: Path, *paths: str) -> list[str]:
    """Uncommitted files (changed, staged or untracked) below `paths`, or anywhere."""
    if not is_repository(root):
        return []
    fields = run(
        root, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", *paths
    ).stdout.split("\0")
    return sorted({field[3:] for field in fields if field})


def commit(root: Path, paths: Sequence[str], message: str) -> str | None:
    """Commit these paths and nothing else; returns the new commit's hash, or None when none of them has changed.

    A commit that git or a hook refuses is a ServiceError with their words; files and index are then as before.
    """
    changed = dirty(root, *paths)
    if not changed:
        return None
    # --only knows tracked files, so new ones are announced first, without their content.
    new = [
        path
        for path in changed
        if run(root, "ls-files", "--error-unmatch", "--", f":(literal,top){path}", check=False).returncode
    ]
    if new:
        run(root, "add", "--intent-to-add", "--", *_literal(new))
    done = run(
        root,
        *identity(root),
        "commit",
        "--quiet",
        "--only",
        "--message",
        message,
        "--",
        *_literal(changed),
        check=False,
    )
    if done.returncode:
        if new:
            run(root, "rm", "--cached", "--quiet", "--force", "--", *_literal(new), check=False)
        words = (done.stderr + done.stdout).strip() or f"exit code {done.returncode}"
        raise ServiceError("git commit", f"was refused: {words}", "nothing is lost; mend that and run again")
    return head(root)


@dataclass(frozen=True)
class Commit:
    """A commit as its author named it: the subject is anybody's text."""

    hash: str
    when: str  # ISO 8601, of its author
    subject: str


def log(root: Path, commit: str, *paths: str, most: int | None = None) -> list[Commit]:
    """Commits up to and with `commit`, the last first; with `paths` those that changed one. Empty where git lacks it."""
    words = ["log", "-z", "--no-show-signature", "--format=%H%n%aI%n%s", *([f"-{most}"] if most else []), commit, "--", *paths]
    done = ask(root, *words)
    told = done.stdout.decode(errors="replace").rstrip("\0") if done.returncode == 0 else ""
    return [Commit(*entry.split("\n", 2)) for entry in told.split("\0") if entry]


@dataclass(frozen=True)
class Object:
    """One of git's objects: its hash, its kind (commit, tree, blob, tag) and its bytes."""

    hash: str
    kind: str
    content: bytes


def blobs(root: Path, names: Sequence[str]) -> list[bytes | None]:
    """Contents of files in the past, named "COMMIT:./path" (from `root`), in one process; None for each that git lacks."""
    return [found.content if found and found.kind == "blob" else None for found in _batch(root, names)[0]]


def objects(root: Path, names: Sequence[str]) -> list[Object | None]:
    """What hashes, "COMMIT:./path", "COMMIT^{tree}" name, in one process; None for each that git lacks.

    ServiceError where git fails: then what it did not say is not what it lacks.
    """
    found, done = _batch(root, names)
    if done.returncode:
        raise ServiceError("git cat-file", done.stderr.decode(errors="replace").strip(), "git fsck says what is damaged")
    return found


def _batch(root: Path, names: Sequence[str]) -> tuple[list[Object | None], subprocess.CompletedProcess[bytes]]:
    done = ask(root, "cat-file", "--batch", given="".join(f"{name}\n" for name in names).encode())
    told, at = done.stdout, 0
    found: list[Object | None] = []
    for _ in names:
        end = told.find(b"\n", at)
        hash_, kind, length, *_ = *told[at:end].rsplit(b" ", 2), b"", b""  # "HASH blob 12", or "NAME missing"
        at, there = end + 1, length.isdigit()
        found.append(Object(hash_.decode(), kind.decode(), told[at : at + int(length)]) if there else None)
        at += int(length) + 1 if there else 0
    return found, done


def has(root: Path, commit: str) -> bool:
    """Whether the commit is here: a clone may be shallow, and a branch may be gone."""
    return ask(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode == 0


def is_shallow(root: Path) -> bool:
    """Whether this clone was made without its past."""
    return ask(root, "rev-parse", "--is-shallow-repository").stdout.strip() == b"true"


def ask(root: Path, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """A command that changes nothing, its output as bytes: what git keeps need not be UTF-8."""
    try:
        return subprocess.run(
            ["git", *words], cwd=root, input=given, capture_output=True, env={**os.environ, "GIT_TERMINAL_PROMPT": "0"}
        )
    except FileNotFoundError:
        raise ServiceError("git", "is not installed", "install it: what made a release stands in its commits") from None


def read(root: Path, commit: str, path: str) -> str | None:
    """A file (relative to `root`) as a commit has it; None where it has none, or where there is no such commit."""
    content = blobs(root, [f"{commit}:./{path}"])[0]
    return None if content is None else content.decode()


def commits_of(root: Path, path: str) -> list[str]:
    """Commits of all branches that changed `path`, the oldest first."""
    return run(root, "log", "--all", "--topo-order", "--reverse", "--format=%H", "--", path).stdout.split()


def branch(root: Path) -> str | None:
    """Name of the branch that is checked out; None on a detached HEAD or outside a repository."""
    return run(root, "symbolic-ref", "--quiet", "--short", "HEAD", check=False).stdout.strip() or None


def resolve(root: Path, name: str) -> str:
    """Hash of the commit that a branch or tag names."""
    return run(root, "rev-parse", "--verify", f"{name}^{{commit}}").stdout.strip()


def count(root: Path, span: str) -> int:
    """How many commits a span such as HEAD..main has."""
    return int(run(root, "rev-list", "--count", span).stdout)


def _literal(paths: Sequence[str]) -> list[str]:
    return [f":(literal,top){path}" for path in paths]  # `git status` names files from the top of the repository


def identity(root: Path) -> list[str]:
    """Options that give a name and an address where none is configured; what is configured, or in GIT_*, wins."""
    options = []
    for key, value in FALLBACK.items():
        if not run(root, "config", key, check=False).stdout.strip():
            options += ["-c", f"{key}={value}"]
    return options
