"""One commit of named paths, in whatever state a developer has left the repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from minigraph import run as command

from tasks import git
from tasks.errors import ServiceError


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository with one commit, on a machine where nobody has configured git."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    call(tmp_path, "init", "--quiet", "--initial-branch", "main")
    write(tmp_path, "dvc.lock", "old")
    write(tmp_path, "code.py", "old")
    call(tmp_path, "add", ".")
    call(tmp_path, "-c", "user.name=Someone", "-c", "user.email=some@one", "commit", "--quiet", "-m", "first")
    return tmp_path


def call(root: Path, *words: str) -> str:
    """A git command; its output."""
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def write(root: Path, name: str, text: str) -> None:
    """Write a file below root."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def committed(root: Path) -> list[str]:
    """Files of the last commit."""
    return call(root, "show", "--name-only", "--format=", "HEAD").splitlines()


def test_only_the_named_paths_without_identity_beside_local_edits(root):
    """New, changed and deleted files below the paths go in; edits, staged or not, and untracked files stay."""
    write(root, "metrics/sft.json", "{}")
    write(root, "metrics/资料.json", "{}")
    write(root, "code.py", "staged")
    call(root, "add", "code.py")
    write(root, "code.py", "edited")
    write(root, "notes.txt", "mine")
    (root / "dvc.lock").unlink()
    made = git.commit(root, ["data.dvc", "dvc.lock", "metrics"], "Night of 2026-11-24\n\nright: 1")
    assert made == git.head(root)
    assert call(root, "-c", "core.quotepath=off", "show", "--name-only", "--format=", "HEAD").splitlines() == [
        "dvc.lock",
        "metrics/sft.json",
        "metrics/资料.json",
    ]
    assert call(root, "log", "-1", "--format=%an <%ae>") == "Nightshift <nightshift@localhost>"
    assert call(root, "status", "--porcelain") == "MM code.py\n?? notes.txt"
    assert call(root, "show", ":code.py") == "staged"


def test_nothing_to_commit_makes_no_commit(root):
    """The second night of the same data."""
    before = git.head(root)
    assert git.commit(root, ["data.dvc", "dvc.lock", "metrics"], "Night") is None
    assert git.head(root) == before


def test_a_configured_name_signs(root):
    """The fallback is for those who have none."""
    call(root, "config", "user.name", "Ada")
    call(root, "config", "user.email", "ada@example.org")
    write(root, "dvc.lock", "new")
    git.commit(root, ["dvc.lock"], "Night")
    assert call(root, "log", "-1", "--format=%an <%ae>") == "Ada <ada@example.org>"


def test_detached_head_and_first_commit(root, tmp_path_factory):
    """Both are places to commit from."""
    call(root, "checkout", "--quiet", "--detach")
    write(root, "dvc.lock", "new")
    assert git.commit(root, ["dvc.lock"], "Night") == call(root, "rev-parse", "HEAD")
    empty = tmp_path_factory.mktemp("empty")
    call(empty, "init", "--quiet")
    assert git.head(empty) is None
    write(empty, "dvc.lock", "new")
    assert git.commit(empty, ["dvc.lock"], "Night") == git.head(empty)


def test_a_refusing_hook_is_reported_and_leaves_all_as_it_was(root):
    """Hooks run as for anybody; the new file is not left half-added."""
    write(root, ".git/hooks/pre-commit", "#!/bin/sh\necho no commits at night\nexit 1\n")
    (root / ".git/hooks/pre-commit").chmod(0o755)
    write(root, "dvc.lock", "new")
    write(root, "metrics/sft.json", "{}")
    before = call(root, "status", "--porcelain")
    with pytest.raises(ServiceError, match="no commits at night"):
        git.commit(root, ["dvc.lock", "metrics"], "Night")
    assert call(root, "status", "--porcelain") == before
    assert (root / "metrics/sft.json").read_text() == "{}"


def test_a_repository_inside_a_larger_one(root):
    """Paths are those below the folder, wherever the top is."""
    write(root, "bots/larkfield/metrics/sft.json", "{}")
    write(root, "metrics/other.json", "{}")
    assert git.dirty(root / "bots/larkfield", "metrics") == ["bots/larkfield/metrics/sft.json"]
    git.commit(root / "bots/larkfield", ["metrics"], "Night")
    assert committed(root) == ["bots/larkfield/metrics/sft.json"]


def test_outside_a_repository(tmp_path, monkeypatch):
    """No commit, nothing dirty, no error."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert not git.is_repository(tmp_path)
    assert git.head(tmp_path) is None
    assert git.dirty(tmp_path) == []
    assert "not a git repository" in command(tmp_path, "git", "status", check=False)
