"""What kills a night, and what the next one makes of it: the same bytes as if nothing had been, and nobody left at work.

Every process of a night is killed (kill -9) in a stage, at the release, in a commit, while it pushes; the disk is full; the
remotes refuse or are silent; Label Studio is down. The worker and the server: tests/test_deploy_up.py. Weaviate:
tests/test_weaviate_load.py. Every file operation of a promotion, a collection …: where those are tested.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.processes import free_ports
from flows import server
from tasks import git, records
from tests import killing, minigraph
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.service
MARK = "NIGHTSHIFT_TEST_RECOVERY"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The settings that have nights report to a server of their own."""
    folder = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder))
        process, url = server._start(folder)
    try:
        assert server.healthy(url, time.monotonic() + PATIENCE, process)
        yield {"PREFECT_API_URL": url, "PREFECT_HOME": str(folder)}
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, prefect) -> dict:
    """What dvc.lock says after a night that nothing befell: the hashes of all inputs and outputs."""
    house = House(tmp_path_factory.mktemp("undisturbed"), prefect)
    code, said = house.night()
    assert code == 0, said
    return house.hashes()


class House:
    """The test graph with a git remote, and its nights: processes that carry a mark."""

    def __init__(self, folder: Path, prefect: dict[str, str]):
        """`prefect`: the server's settings."""
        self.root = minigraph.make(folder)
        self.origin = folder / "origin.git"
        minigraph.run(folder, "git", "init", "--quiet", "--bare", "--initial-branch", "main", "origin.git")
        minigraph.run(self.root, "git", "remote", "add", "origin", str(self.origin))
        self.settle("git_remote: null", "git_remote: origin")
        self.env = minigraph.environment(**prefect, **{MARK: str(self.root), "PYTHONPATH": f"{minigraph.ROOT}"})

    def settle(self, old: str, new: str) -> None:
        """Change params.yaml, and commit it."""
        path = self.root / "params.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        minigraph.run(self.root, "git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qam", "settings")

    def begin(self, **env: str) -> subprocess.Popen:
        """Start a night."""
        command = [sys.executable, "-m", "flows.nightly"]
        return subprocess.Popen(command, cwd=self.root, env={**self.env, **env}, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def night(self, **env: str) -> tuple[int, str]:
        """A night to its end: exit code, what it printed."""
        process = self.begin(**env)
        said = process.communicate(timeout=PATIENCE)[0]
        return process.returncode, said

    def at_work(self) -> dict[int, str]:
        """Every process that carries the mark, with its command."""
        return killing.marked(f"{MARK}={self.root}")

    def await_one(self, part: str) -> int:
        """The process, not its guard and not a shell, whose command has `part`, once it is there."""

        def one() -> int:
            found = self.at_work().items()
            return max((n for n, command in found if part in command and not re.search(r"guard\.py|/bin/sh", command)), default=0)

        return until(one, part)

    def nobody_is_left(self) -> None:
        """All have ended within the guards' grace."""
        until(lambda: not self.at_work(), str(self.at_work()), 10)

    def hashes(self) -> dict:
        """What dvc.lock says. Its stages stand in the order in which they first came through, so its bytes may differ."""
        return yaml.safe_load((self.root / "dvc.lock").read_text())

    def is_whole(self, undisturbed: dict) -> None:
        """As after a night that nothing befell: outputs, one release by one promotion, all committed and pushed."""
        assert self.hashes() == undisturbed
        live = records.live(self.root)
        assert [one["release"] for one in records.records(self.root)] == [live]
        assert git.dirty(self.root) == []
        subjects = [one.subject for one in git.log(self.root, "HEAD")]
        assert subjects.count(f"Release {live}") == 1
        assert minigraph.run(self.origin, "git", "rev-parse", "main").strip() == git.head(self.root)
        assert minigraph.dvc(self.root, "status", "--cloud", "--quiet") == ""


@pytest.fixture
def house(tmp_path, prefect) -> House:
    """A fresh one."""
    return House(tmp_path, prefect)


@pytest.mark.parametrize("stage", ["sft", "release"])
@pytest.mark.parametrize("victim", ["stage", "dvc", "flow"])
def test_killed_in_a_stage(house, undisturbed, victim, stage):
    """A killed stage or DVC fails its night by name; nothing goes live. The next night runs what is missing, no more."""
    night = house.begin(MINI_SLEEP=f"{stage}=30")
    process = house.await_one(f"stage.py {stage}")
    if victim == "dvc":
        process = house.await_one(f"repro --single-item {stage}")
    os.kill(night.pid if victim == "flow" else process, signal.SIGKILL)
    said = night.communicate(timeout=PATIENCE)[0]
    assert night.returncode == (-signal.SIGKILL if victim == "flow" else 1), said
    assert victim == "flow" or f"stage {stage}: " in said
    house.nobody_is_left()
    assert records.live(house.root) is None and not (house.root / f"artifacts/{stage}").exists()
    before = minigraph.ran(house.root)
    code, said = house.night()
    assert code == 0, said
    assert stage in (again := minigraph.ran(house.root)) and not set(again) & (set(before) - {stage})
    house.is_whole(undisturbed)


@pytest.mark.parametrize("what", ["commit of the night", "commit of the release", "push"])
def test_killed_while_git_is_at_work(house, undisturbed, what):
    """In a hook, so git's lock is left; twice, so that the second finds what the first has left. One release all the same."""
    hooks = house.origin / "hooks" if what == "push" else house.root / ".git/hooks"
    hook = hooks / {"push": "pre-receive"}.get(what, "commit-msg")
    word = {"commit of the night": "Night of", "commit of the release": "Release "}.get(what)
    test = f'grep -q "^{word}" "$1" || exit 0\n' if word else ""
    hook.write_text(f'#!/bin/sh\n{test}exec sleep 47\n')
    hook.chmod(0o755)
    for _ in range(2):
        night = house.begin()
        house.await_one("sleep 47")
        os.kill(night.pid, signal.SIGKILL)
        night.communicate(timeout=PATIENCE)
        if what != "push":  # git itself is no child of a guard there: it goes on, and ends with its hook
            os.kill(house.await_one("sleep 47"), signal.SIGKILL)
        house.nobody_is_left()
    hook.unlink()
    code, said = house.night()
    assert code == 0, said
    house.is_whole(undisturbed)


def test_a_full_disk(tmp_path, prefect, undisturbed):
    """In a file system of its own that fills up: the night fails and says why, nothing half is left, and with room it ends."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    try:
        house = House(tmp_path, prefect)
        free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
        with (tmp_path / "ballast").open("wb") as ballast:
            ballast.write(bytes(free - 64 * 1024))
        code, said = house.night()
        assert code == 1 and re.search(r"stage \w+: the disk is full, \d+ MB are left", said), said
        assert records.live(house.root) is None
        house.nobody_is_left()
        (tmp_path / "ballast").unlink()
        code, said = house.night()
        assert code == 0, said
        house.is_whole(undisturbed)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_remotes_that_refuse_or_are_silent(house, undisturbed):
    """The release is live all the same and the night says what is not pushed; git waits for DVC. The next night pushes both."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        minigraph.dvc(house.root, "remote", "modify", "--local", "local", "url", f"http://127.0.0.1:{silent.getsockname()[1]}/x")
        house.settle("push_minutes: 30", "push_minutes: 0.05")
        code, said = house.night()
    assert code == 0 and "remote: NOT PUSHED: no answer within 0.05 min (tried again next night)" in said, said
    assert "git: waits for the DVC remote" in said and (live := records.live(house.root))
    (house.root / ".dvc/config.local").unlink()
    house.settle("push_minutes: 0.05", "push_minutes: 30")
    hook = house.origin / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho closed for the night >&2\nexit 1\n")
    hook.chmod(0o755)
    code, said = house.night()
    assert code == 0 and re.search(r"git: NOT PUSHED: .*closed for the night.* \(tried again next night\)", said), said
    hook.unlink()
    code, said = house.night()
    assert code == 0 and "git: main to origin" in said and records.live(house.root) == live
    house.is_whole(undisturbed)


def test_label_studio_is_down(house, undisturbed):
    """The night goes on with the data there is, says so, and releases."""
    port = free_ports(1)
    house.settle("url: null", f"url: http://127.0.0.1:{port}")
    code, said = house.night(LABEL_STUDIO_API_KEY="x")
    assert code == 0 and f"collect: http://127.0.0.1:{port}" in said and "the night goes on without" in said, said
    house.is_whole(undisturbed)
