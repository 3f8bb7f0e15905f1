"""Whose outputs share a DVC cache: the work trees of this repository, and of other projects that a person names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import git, home
from tasks.doctor.project import dvc
from tasks.errors import ParamsError, ServiceError
from tasks.retention import history
from tasks.retention.history import WorkTree


@dataclass(frozen=True)
class Place:
    """`root`: where nights run; `checkout`: what it belongs to; `cache`: where DVC's objects lie, by XX/…; `runs`: its run cache.

    `repositories`: a folder of each project that uses the cache → all of its work trees. `sharing`: those of them whose DVC
    has this very cache, `root` first.
    """

    root: Path
    checkout: Path
    cache: Path
    runs: Path
    repositories: dict[Path, list[WorkTree]]
    sharing: tuple[Path, ...]


def find(folder: Path, projects: Sequence[Path] | None = None) -> Place:
    """The place of a checkout or of its nights' home. `projects`: others that use the same cache; None: it wasn't said.

    ParamsError where the cache lies outside and nothing was said of others, or where one of them uses another cache.
    """
    root, checkout = home.of(folder.resolve()), home.shared(folder.resolve())
    if not (root / "dvc.yaml").is_file():
        raise ParamsError(str(root), "has no dvc.yaml", "run from the repository's root")
    if not git.is_repository(root):
        raise ServiceError("git", f"{root} is no git repository: what stays is told by its history",
                           "git init && git add . && git commit -m 'Nightshift'")
    if root != checkout and not history.top_of(root).is_relative_to(checkout / home.FOLDER):
        raise ServiceError("git", f"{root} is a work tree no more", f"cd {checkout} && git worktree repair {root}")
    cache = _cache(root)
    own = history.work_trees(root)
    if projects is None and not any(cache.is_relative_to(tree.top) for tree in own):
        raise ParamsError("--projects", f"DVC's cache {cache} lies outside this repository: others may keep their outputs there",
                          "name the projects that do (gc --projects DIR …), or say that there are none (gc --projects)")
    repositories = {root: own}
    for other in (home.of(each.resolve()) for each in projects or ()):
        if not git.is_repository(other) or _cache(other) != cache:
            raise ParamsError("--projects", f"{other} is no project that uses the cache {cache}", "leave it out")
        repositories[other] = history.work_trees(other)
    trees = dict.fromkeys([root, checkout, *(tree.root for trees in repositories.values() for tree in trees)])
    with dvc(root) as repo:
        return Place(root, checkout, Path(repo.cache.local.path), Path(repo.stage_cache.cache_dir), repositories,
                     tuple(tree for tree in trees if tree.is_dir() and _cache(tree) == cache))  # fmt: skip


def _cache(root: Path) -> Path | None:
    """Where the DVC of a work tree keeps its bytes; None where there is no DVC."""
    try:
        with dvc(root) as repo:
            return Path(repo.cache.local_cache_dir).resolve()
    except ServiceError as error:
        if error.thing == "dvc":  # it is there, and does not go
            raise
        return None
