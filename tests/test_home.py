"""The nights' own work tree: real git, real DVC, the small graph."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path

import pytest

from tasks import git, home, lock, worktree
from tasks.errors import ServiceError
from tests import minigraph
from tests.killing import COMMANDS, killed_at


@functools.cache
def _settled() -> Path:
    """A checkout with a home in which a night has run and committed; and an edit in the checkout that nobody has committed."""
    checkout = minigraph.make(minigraph.scratch("home"))
    (checkout / "params.yaml").write_text((checkout / "params.yaml").read_text() + "\n# a person's edit\n")
    night(home.make(checkout).root)
    return checkout


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A copy of it, at a place of its own; git's notes of where the work tree is go along."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    root = Path(shutil.copytree(_settled(), tmp_path / "mini", symlinks=True))
    (root / home.FOLDER / ".git").write_text(f"gitdir: {root}/.git/worktrees/home\n")
    (root / ".git/worktrees/home/gitdir").write_text(f"{root / home.FOLDER}/.git\n")
    home.connect(home.find(root))
    return root


def night(root: Path) -> None:
    """What a night does here, in short."""
    minigraph.dvc(root, "repro", "--quiet")
    git.commit(root, ["data.dvc", "dvc.lock", "metrics"], "Night")


def commit(root: Path, *paths: str) -> str:
    """A person's commit of these paths; returns its hash."""
    return git.commit(root, paths, "a person's")


def add(root: Path, name: str, text: str) -> None:
    """A file more in data/, known to DVC."""
    (root / "data" / name).write_text(text)
    minigraph.dvc(root, "add", "--quiet", "data")


def state(root: Path) -> tuple[str | None, list[str], dict[str, str]]:
    """HEAD, what is uncommitted, and data/ of a work tree."""
    return git.head(root), git.dirty(root), {path.name: path.read_text() for path in sorted((root / "data").iterdir())}


def test_a_home_has_what_is_committed_and_shares_the_cache(checkout):
    """The branch, data/, no edit of the checkout; what a night there has computed, `dvc repro` in the checkout needs not."""
    there = home.find(checkout)
    assert there == home.find(there.root) == home.Home(checkout / ".nightshift/home", checkout, "main")
    assert (home.of(checkout), home.of(there.root), home.shared(there.root)) == (there.root, there.root, checkout)
    assert git.branch(there.root) == "nights" and git.branch(checkout) == "main"
    assert "a person's edit" not in (there.root / "params.yaml").read_text() and git.dirty(checkout) == ["params.yaml"]
    assert (there.root / "data/a.txt").read_text() == "milk\n" and not (there.root / ".dvc/cache").exists()
    minigraph.ran(checkout)
    minigraph.dvc(checkout, "repro")
    assert minigraph.ran(checkout) == []
    assert (checkout / "dvc.lock").read_bytes() == (there.root / "dvc.lock").read_bytes()
    before = state(there.root)
    assert home.make(checkout) == there and state(there.root) == before  # twice is once


def test_no_home_means_the_checkout(tmp_path):
    """Where nobody has made one, nights run where they always did, and there is nothing to take in."""
    root = minigraph.make(tmp_path)
    assert (home.find(root), home.of(root), home.take_in(root, "Night")) == (None, root, None)
    minigraph.run(root, "git", "checkout", "--quiet", "--detach")
    with pytest.raises(ServiceError, match=r"no branch with a commit checked out.*git switch main"):
        home.make(root)


def test_commits_of_the_checkout_come_in(checkout):
    """Once; what only the working tree or the index has stays away, and files of the nights keep the home's side."""
    there = home.find(checkout).root
    minigraph.dvc(checkout, "repro", "--quiet")
    (checkout / "dvc.lock").write_text((checkout / "dvc.lock").read_text() + "# a person's own repro\n")
    (checkout / "new.py").write_text("NEW = 1\n")
    lockfile = (there / "dvc.lock").read_bytes()
    commit(checkout, "new.py", "dvc.lock", "metrics")
    (checkout / "staged.py").write_text("")
    minigraph.run(checkout, "git", "add", "staged.py")
    assert home.take_in(there, "Night") == "took in 1 commit of main"
    assert (there / "new.py").is_file() and not (there / "staged.py").exists()
    assert (there / "dvc.lock").read_bytes() == lockfile and git.dirty(there) == []
    assert home.take_in(there, "Night") is None
    assert git.dirty(checkout) == ["params.yaml", "staged.py"]


def test_data_of_both_sides_is_merged_file_by_file(checkout):
    """Judgements came in at home, tracked or not, and a document in the checkout: both are there, none twice."""
    there = home.find(checkout).root
    (there / "data/judged.txt").write_text("A\n")
    add(checkout, "document.txt", "opens at nine\n")
    (checkout / "data/a.txt").write_text("oat milk\n")
    add(checkout, "b.txt", "资料二\n")
    commit(checkout, "data.dvc")
    home.take_in(there, "Night")
    both = {"a.txt": "oat milk\n", "b.txt": "资料二\n", "document.txt": "opens at nine\n", "judged.txt": "A\n"}
    assert state(there)[1:] == ([], both)
    assert "up to date" in minigraph.dvc(there, "status", "data.dvc")


@pytest.mark.parametrize("change, said", [
    (lambda root, text: add(root, "a.txt", text), "have both changed data.dvc; merge by hand"),
    (lambda root, text: (root / "stage.py").write_text(f"{text}\n"), "have both changed stage.py; merge by hand"),
])
def test_what_nobody_can_put_together_is_refused_and_left_as_it_was(checkout, change, said):
    """The same file of the data, or of the code, changed otherwise on both sides."""
    there = home.find(checkout).root
    for root, text in ((checkout, "'theirs'"), (there, "'ours'")):
        change(root, text)
        commit(root, "data.dvc", "stage.py")
    before = state(there)
    for _ in range(2):
        with pytest.raises(ServiceError, match=said):
            home.take_in(there, "Night")
        assert state(there) == before and not (there / home.MERGING).exists()


def test_a_home_that_was_half_made_or_lost_is_made_again(checkout):
    """Killed before the note, removed by hand, taken away: its branch has what was committed."""
    there, known = home.find(checkout).root, git.head(home.find(checkout).root)
    (checkout / home.NOTE).unlink()
    shutil.rmtree(there / "data")
    assert home.make(checkout).root == there and git.head(there) == known
    assert (there / "data/a.txt").is_file() and (there / "artifacts/sft").is_dir()
    shutil.rmtree(there)
    assert git.head(home.make(checkout).root) == known
    with lock.alone(there), pytest.raises(lock.BusyError):
        home.remove(checkout)
    assert "nights has what was committed" in home.remove(checkout)
    assert home.of(checkout) == checkout and not there.exists()
    assert json.loads(json.dumps(home.remove(checkout))) == "there is no home"


@pytest.mark.slow
def test_kill_9_before_any_command_loses_nothing(checkout):
    """Before each program that taking in begins, and in the middle of git's own work; the next call ends as a quiet one."""
    there = home.find(checkout).root
    (there / "data/judged.txt").write_text("A\n")
    add(checkout, "document.txt", "opens at nine\n")
    (checkout / "stage.py").write_text((checkout / "stage.py").read_text() + "# newer\n")
    (checkout / "new.py").write_text("NEW = 1\n")
    commit(checkout, "data.dvc", "stage.py", "new.py")
    n, data = 0, {"a.txt": "milk\n", "b.txt": "资料\n", "document.txt": "opens at nine\n", "judged.txt": "A\n"}
    began = git.head(there)
    while killed_at(n, lambda: home.take_in(there, "Night"), COMMANDS):
        if n % 3 == 0 and (there / home.MERGING).exists():  # as git leaves it when it dies at its own work
            (there / "stage.py").write_text("half")
            (there / "new.py").write_text("half")
            worktree.index_lock(there).write_text("")
        home.take_in(there, "Night")
        assert state(there)[1:] == ([], data), n
        assert (there / "new.py").read_text() == "NEW = 1\n" and (there / "stage.py").read_text().endswith("# newer\n"), n
        minigraph.run(there, "git", "reset", "--quiet", "--hard", began)
        minigraph.dvc(there, "checkout", "--quiet", "--force", "data.dvc")
        (there / "data/judged.txt").write_text("A\n")
        n += 1
    assert n > 10 and state(there)[1:] == ([], data)
