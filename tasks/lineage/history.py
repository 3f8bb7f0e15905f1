"""Versions of the data: each commit that changed data.dvc is one, and says in its subject what came in.

Which files are new, changed or gone is told where DVC's cache still has the lists of both versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks import git
from tasks.bootstrap import DATA
from tasks.lineage import cache

POINTER = f"{DATA}.dvc"
COMPARED = 12  # versions, from the last, whose files are compared with those before; older ones show sizes alone


@dataclass(frozen=True)
class Changes:
    """Files of data/ that one version has and the one before had not, and the other way round."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True)
class Version:
    """One version of the data."""

    md5: str
    files: int
    bytes: int
    commit: str
    when: str  # ISO 8601
    subject: str
    changes: Changes | None = None  # None: nothing was before, or the cache lacks a list


def versions(root: Path, commit: str) -> list[Version]:
    """Versions up to a commit, the last first. Commits that wrote data.dvc anew with the same hash are none."""
    commits = git.log(root, commit, POINTER)
    found: list[Version] = []
    for made, text in zip(commits, git.blobs(root, [f"{made.hash}:./{POINTER}" for made in commits]), strict=True):
        version = text and _version(text.decode(errors="replace"), made)
        if version and found and found[-1].md5 == version.md5:
            found[-1] = version  # the first commit that had it
        elif version:
            found.append(version)
    older = [*found[1:], None]
    near = [_compared(root, version, before) for version, before in zip(found[:COMPARED], older[:COMPARED], strict=False)]
    return near + found[COMPARED:]


def _version(text: str, made: git.Commit) -> Version | None:
    """What a data.dvc says; None where it names nothing."""
    told = dict(re.findall(r"^(?:- |  )(md5|size|nfiles): (\S+)$", text, re.MULTILINE))
    if "md5" not in told:
        return None
    return Version(told["md5"], int(told.get("nfiles", 1)), int(told.get("size", 0)), made.hash, made.when, made.subject)


def _compared(root: Path, version: Version, older: Version | None) -> Version:
    mine, theirs = (cache.listing(root, of.md5) if of else None for of in (version, older))
    if mine is None or theirs is None:
        return version
    changes = Changes(
        added=tuple(sorted(mine.keys() - theirs.keys())),
        changed=tuple(sorted(name for name in mine.keys() & theirs.keys() if mine[name] != theirs[name])),
        removed=tuple(sorted(theirs.keys() - mine.keys())),
    )
    return Version(**{**vars(version), "changes": changes})
