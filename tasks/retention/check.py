"""Before anything goes: the question put to others. What DVC itself would fetch for a commit or a work tree, and what the
releases' records name, must not be among what goes; else nothing does.

It is another reading of the same files: DVC's own schema, its own lists of folders, git read by its own library. It takes a
tenth of a second a commit, so of many commits some are asked about, the newest releases and others evenly spread.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks import records
from tasks.doctor.project import dvc
from tasks.errors import DataError
from tasks.retention.needed import Kept
from tasks.retention.place import Place

ASKED = 40  # commits, at most: five seconds


def agreed(goes: Collection[str], used: Iterable[str], who: str) -> None:
    """DataError where something that goes is used: then this code is wrong, and the user's data is right."""
    if wrong := sorted({*used} & {*goes}):
        raise DataError(
            "gc", f"would have removed {len(wrong)} objects that {who} needs, {wrong[0]} among them: nothing was removed",
            "report it, please",
        )


def check(goes: Collection[str], at: Place, kept: Kept) -> int:
    """DataError where DVC or a record says that something which `goes` is needed; how many commits DVC was asked about."""
    if not goes:
        return 0
    for tree in at.sharing:
        agreed(goes, recorded(tree), f"a release recorded in {tree}")
        if tree in kept.trees:
            agreed(goes, used(tree, None), f"what {tree} has checked out")
    asked = spread(list(dict.fromkeys(kept.commits)), ASKED)
    agreed(goes, used(at.root, asked), "one of the commits whose outputs stay")
    return len(asked)


def spread(commits: Sequence[str], most: int) -> list[str]:
    """The first half of them, and others at equal distances."""
    if len(commits) <= most:
        return list(commits)
    first = most // 2
    rest = commits[first:]
    return [*commits[:first], *(rest[number * len(rest) // (most - first)] for number in range(most - first))]


def recorded(root: Path) -> Iterator[str]:
    """Hashes of outputs and data in the records of releases/."""
    for path in (root / records.RELEASES).glob("*.json"):
        with contextlib.suppress(ValueError, AttributeError, TypeError):  # torn or foreign: its hashes were searched for
            told = json.loads(path.read_bytes())
            named = [*told.get("dvc", {}).get("outs", {}).values(), told.get("manifest", {}).get("data", {}).get("md5")]
            yield from (hash_ for hash_ in named if isinstance(hash_, str))


def used(root: Path, commits: list[str] | None) -> set[str]:
    """What DVC finds to be used by what is checked out, or by these commits. (A list that is damaged it would remove.)"""
    with dvc(root) as repo, _offline(repo), contextlib.chdir(root):
        found = repo.used_objs(revs=commits, force=True, skip_failed=commits is not None)
        return {one.value for objects in found.values() for one in objects}


@contextlib.contextmanager
def _offline(repo: Any) -> Iterator[None]:
    """Quietly, and from the cache alone: DVC would fetch lists that are missing, and say so at length."""
    logger, had = logging.getLogger("dvc"), dict(repo.config["core"])
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    repo.config["core"].pop("remote", None)
    try:
        yield
    finally:
        logger.setLevel(level)
        repo.config["core"] = had
