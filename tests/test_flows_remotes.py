"""Outputs to DVC's remote, commits to git's: what is there afterwards, and what is said where a server refuses or is silent."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import minigraph
import pytest

from flows import processes, remotes
from tasks import git

MINUTE = 1 / 60


def call(root: Path, *words: str) -> str:
    """A git command; its output."""
    return minigraph.run(root, "git", *words).strip()


def commit(root: Path, name: str) -> None:
    """A commit that changes one file."""
    (root / name).write_text(name + str(time.monotonic()))
    git.commit(root, [name], f"Changed {name}")


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """The test graph with nothing run, for someone who has never configured git."""
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    processes.reopen()  # a night that another test has broken off has closed it
    return minigraph.make(tmp_path)


@pytest.fixture
def origin(root, tmp_path) -> Path:
    """A bare repository that `root` knows as origin."""
    minigraph.run(tmp_path, "git", "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
    call(root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    return tmp_path / "origin.git"


def test_outputs_that_cannot_be_pushed_are_reported(root):
    """A remote that cannot be written: not pushed, with DVC's reason; afterwards it works."""
    (root / ".remote").write_text("a file where the folder should be")
    pushed, line = remotes.outputs(root, 5)
    assert not pushed and line
    (root / ".remote").unlink()
    pushed, line = remotes.outputs(root, 5)
    assert pushed and "pushed" in line


def test_a_silent_dvc_remote_is_given_up(root):
    """In time, and by name."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        minigraph.dvc(root, "remote", "modify", "local", "url", f"http://127.0.0.1:{silent.getsockname()[1]}/store")
        assert remotes.outputs(root, 4 * MINUTE) == (False, "no answer within 0.0666667 min")


def test_commits_go_on_the_branch_that_is_checked_out_and_only_it(root, origin):
    """What is there already is no news; another branch stays here."""
    call(root, "branch", "mine")
    call(root, "switch", "--quiet", "--create", "nights")
    assert remotes.commits(root, "origin", 1) == (True, "nights to origin")
    assert call(origin, "branch", "--format=%(refname:short)") == "nights"
    assert call(origin, "rev-parse", "nights") == git.head(root)
    assert remotes.commits(root, "origin", 1) == (True, "nothing new")
    commit(root, "stage.py")
    assert remotes.commits(root, "origin", 1) == (True, "nights to origin")
    assert call(origin, "rev-parse", "nights") == git.head(root)


def test_commits_that_are_refused(root, origin, tmp_path):
    """Somebody else's commits are not overwritten; a hook's words; no remote of that name; no branch."""
    remotes.commits(root, "origin", 1)
    minigraph.run(tmp_path, "git", "clone", "--quiet", str(origin), "clone")
    commit(tmp_path / "clone", "theirs.txt")
    assert remotes.commits(tmp_path / "clone", "origin", 1) == (True, "main to origin")
    commit(root, "stage.py")
    done, line = remotes.commits(root, "origin", 1)
    assert not done and "rejected" in line and "fetch first" in line and "hint" not in line and "\n" not in line
    assert call(origin, "log", "-1", "--format=%s", "main") == "Changed theirs.txt"
    call(root, "switch", "--quiet", "--create", "nights")
    (origin / "hooks/pre-receive").write_text("#!/bin/sh\necho the store is closed >&2\nexit 1\n")
    (origin / "hooks/pre-receive").chmod(0o755)
    assert "the store is closed" in remotes.commits(root, "origin", 1)[1]
    done, line = remotes.commits(root, "elsewhere", 1)
    assert not done and "elsewhere" in line
    call(root, "checkout", "--quiet", "--detach")
    assert remotes.commits(root, "origin", 1) == (False, "no branch is checked out (git switch BRANCH)")


def test_a_password_in_an_address_is_not_shown_and_nobody_is_left_waiting(root):
    """A server that never answers, and one that is down: git's helpers end with it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        call(root, "remote", "add", "origin", f"http://somebody:hunter2@127.0.0.1:{port}/x.git")
        assert remotes.commits(root, "origin", 2 * MINUTE) == (False, "no answer within 0.0333333 min")
        assert [one for one in commands() if f"127.0.0.1:{port}" in one] == []
    done, line = remotes.commits(root, "origin", 1)
    assert not done and "127.0.0.1" in line and "hunter2" not in line and "somebody" not in line


def commands() -> list[str]:
    """What runs on this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
