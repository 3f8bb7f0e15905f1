"""params.yaml, the git repository, the nights' home, DVC's graph, data/ and remote."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import git, home, lock, tracked, worktree
from tasks.bootstrap import DATA, EXAMPLES
from tasks.doctor.findings import Finding, Place, broken, note, ok, output, warning
from tasks.errors import NightshiftError, ServiceError
from tasks.params import load
from tasks.terminal import without_passwords

MINE = ("params.yaml", "dvc.yaml")  # what decides a night and is changed by hand
OLD_LOCK = 600  # seconds after which nobody is still at work at git's index
NEEDS = {"s3": "dvc-s3", "gs": "dvc-gs", "azure": "dvc-azure", "ssh": "dvc-ssh", "gdrive": "dvc-gdrive", "oss": "dvc-oss",
         "hdfs": "dvc-hdfs", "webhdfs": "dvc-webhdfs", "webdav": "dvc-webdav", "webdavs": "dvc-webdav", "http": "dvc-http",
         "https": "dvc-http"}  # fmt: skip


@contextlib.contextmanager
def dvc(root: Path) -> Iterator[Any]:
    """DVC's view of the project; ServiceError where there is none."""
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            yield repo
    except NotDvcRepoError:
        raise ServiceError(str(root), "is no DVC repository", "run it where dvc.yaml is; for a new project: dvc init") from None
    except DvcException as error:
        raise ServiceError("dvc", str(error), "mend what it names; `dvc status` says the same") from None


def params(place: Place) -> Iterator[Finding]:
    """params.yaml of the checkout, and that of the nights' home."""
    for folder in dict.fromkeys((place.checkout, place.root)):
        try:
            cfg = load(folder / "params.yaml")
        except NightshiftError as error:
            for line in ": ".join(filter(None, (error.thing, error.what))).splitlines():
                yield broken(line.strip(), error.remedy or "git diff params.yaml shows what has changed")
        except UnicodeDecodeError:
            yield broken(f"{folder / 'params.yaml'} is not UTF-8", "save it as UTF-8, or git checkout params.yaml")
        else:
            yield ok(f"params.yaml is complete{' in the home' if folder != place.checkout else ''}: base {cfg.base.model}, "
                     f"alignment {cfg.align.method}")


def repository(place: Place) -> Iterator[Finding]:
    """A branch, commits, and nothing uncommitted that a release would depend on."""
    root = place.checkout
    if not git.is_repository(root):
        yield broken("no git repository: nights have nowhere to commit, and releases name no commit",
                     "git init && git add . && git commit -m 'Nightshift'")
        return
    if (head := git.head(root)) is None:
        yield warning("there is no commit yet: a release could not be made again", "git add . && git commit -m 'Nightshift'")
        return
    branch = git.branch(place.root)
    if branch is None:
        yield warning(f"no branch is checked out in {place.root} (HEAD is detached): the nights' commits belong to none",
                      "git switch main, or git switch -c NAME")
    if found := [name for name in MINE if git.dirty(root, name)]:
        told = "nights do not have it" if place.has_home else "a release could not be made again from its commit"
        names = " ".join(found)
        yield warning(f"not committed: {', '.join(found)}; {told}",
                      f"git commit -m '…' {names}; to undo what is in them: git checkout {names}")
    elif branch:
        yield ok(f"git branch {branch}, commit {head[:10]}; {' and '.join(MINE)} as committed")
    remote = place.params and place.params.nightly.git_remote
    if remote and remote not in (known := git.run(root, "remote").stdout.split()):
        yield broken(f"params.yaml, nightly.git_remote: git has no remote {remote}, but {', '.join(known) or 'none'}",
                     f"git remote add {remote} URL, or nightly.git_remote: null")
    for folder in dict.fromkeys((root, place.root)):
        yield from _index_lock(folder)


def _index_lock(folder: Path) -> Iterator[Finding]:
    path = worktree.index_lock(folder)
    if path.is_file() and time.time() - path.stat().st_mtime > OLD_LOCK:
        yield broken(f"{path} was left by a git that was killed: no commit goes through", f"rm {path}, when no git is at work")


def nights_home(place: Place) -> Iterator[Finding]:
    """The work tree of their own that nights have after make up, and how far it is behind."""
    if not (place.checkout / home.NOTE).is_file():
        return
    found = home.find(place.checkout)
    if found is None or not (found.root / "dvc.yaml").is_file():
        yield broken(f"the nights' home {home.FOLDER} is gone; its branch {home.BRANCH} has what was committed there", "make up")
        return
    behind = git.count(found.root, f"HEAD..{found.follows}")
    news = f"; the next night takes in {behind} commit{'s' if behind > 1 else ''} of {found.follows}" if behind else ""
    yield (note if behind else ok)(f"nights live in {found.root}, branch {git.branch(found.root)}{news}")


def graph(place: Place) -> Iterator[Finding]:
    """dvc.yaml can be read by DVC."""
    if not (place.root / "dvc.yaml").is_file():
        yield broken(f"{place.root} has no dvc.yaml", "go to the project's folder, or git checkout dvc.yaml")
        return
    with dvc(place.root) as repo:
        stages = [stage for stage in repo.index.stages if not stage.is_data_source]
        yield ok(f"dvc.yaml: {len(stages)} stages")


def data(place: Place) -> Iterator[Finding]:
    """data/ is what data.dvc names. Nothing is asked of DVC while a night or another command holds its lock."""
    root = place.root
    folder, pointer = root / DATA, root / f"{DATA}.dvc"
    if not pointer.is_file():
        yield broken(f"{DATA}.dvc is missing: nobody knows which data a night was made from",
                     f"git checkout {DATA}.dvc, or for your own data: dvc add {DATA}")
    elif not folder.is_dir() and (root / EXAMPLES).is_dir():
        yield note(f"{DATA}/ is not there yet: the first night, or nightshift bootstrap, fills it")
    elif not folder.is_dir():
        yield warning(f"{DATA}/ is missing", f"nightshift bootstrap, or dvc pull {DATA}.dvc")
    elif lock.is_held(root / lock.NIGHT) or lock.is_held(root / ".dvc/tmp/lock"):
        yield note(f"{DATA}/ is not compared with {DATA}.dvc: somebody is at work")
    elif tracked.pending(root):
        yield note(f"{DATA}/ was written to, and DVC has not been told: the next night tells it")
    else:
        with dvc(root) as repo:
            status = repo.status(targets=[str(pointer)])
        changed = {path: how for entries in status.values() for entry in entries if isinstance(entry, dict)
                   for paths in entry.values() for path, how in paths.items()}  # fmt: skip
        if "not in cache" in changed.values() and not (root / "releases/LIVE").is_file():
            yield note(f"{DATA}/ is not in DVC's cache yet: the first night puts it there")
        elif "not in cache" in changed.values():
            yield warning(f"{DATA}/ is not in DVC's cache: what the release was made from could not be brought back",
                          f"dvc add {DATA}, or dvc fetch {DATA}.dvc")
        elif changed:
            yield note(f"{DATA}/ has changed since {DATA}.dvc: the next night takes it in (dvc add {DATA})")
        else:
            yield ok(f"{DATA}/ is what {DATA}.dvc names")


def remote(place: Place) -> Iterator[Finding]:
    """Where releases are pushed to. A folder is looked at; what lies elsewhere is asked by `asked_remote` alone."""
    with dvc(place.root) as repo:
        remotes, name = repo.config["remote"], repo.config["core"].get("remote")
        cache = Path(repo.cache.local_cache_dir)
    if name is None:
        yield warning("no DVC remote: data and releases are on this machine alone",
                      "dvc remote add --default NAME URL, then dvc push")
        return
    if name not in remotes:
        yield broken(f"DVC's default remote {name} is not among its remotes", f"dvc remote add {name} URL")
        return
    url = str(remotes[name].get("url", ""))
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme and scheme != "file":
        package = NEEDS.get(scheme)
        if package and importlib.util.find_spec(package.replace("-", "_")) is None:
            yield broken(f"DVC remote {name} ({scheme}) needs the package {package}",
                         f"uv pip install --python {sys.executable} {package}")
        else:
            how = "" if place.remote else "; not asked (nightshift doctor --remote)"
            yield note(f"DVC remote {name}: {without_passwords(url)}{how}")
        return
    folder = Path(url.removeprefix("file://"))
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        yield broken(f"DVC remote {name}: {folder} cannot be written to",
                     f"chmod u+wx {folder}, or dvc remote modify {name} url FOLDER")
    elif folder.is_dir():
        same = cache.exists() and cache.stat().st_dev == folder.stat().st_dev
        yield (note if same else ok)(f"DVC remote {name}: {folder}" + (", on the cache's own disk: no backup" if same else ""))
    elif (place.root / "releases/LIVE").is_file():
        yield warning(f"DVC remote {name}: {folder} is not there, and there are releases", "mount it, or dvc push makes it anew")
    else:
        yield ok(f"DVC remote {name}: {folder}, made at the first push")


def asked_remote(place: Place) -> Iterator[Finding]:
    """With --remote: whether everything present outputs consist of is there."""
    if not place.remote:
        return
    done = output([sys.executable, "-m", "dvc", "status", "--cloud", "--json"], place.root, 50)
    if done is None:
        yield broken("DVC's remote did not answer within 50 s", "dvc status --cloud -v")
    elif done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.strip().splitlines() or [""]
        yield broken(f"DVC's remote cannot be asked: {said[-1].removeprefix('ERROR: ')[:300]}", "dvc status --cloud -v")
    else:
        text = done.stdout[done.stdout.find("{"):]
        states = list((json.loads(text) if text else {}).values())
        new, gone = states.count("new"), states.count("missing")
        if new:
            yield warning(f"{new} files or folders are not in DVC's remote", "dvc push")
        if gone:
            yield warning(f"{gone} files or folders are neither in DVC's cache nor in its remote", "dvc repro makes them again")
        if not (new or gone):
            yield ok("DVC's remote has all present outputs")
