"""To the remotes: outputs to DVC's, commits to git's. Neither raises: a night is worth more, and the next one tries again.

Both run under flows/guard.py: they end with the night, and leave nobody behind who waits for a server.
"""

from __future__ import annotations

import os
from pathlib import Path

from flows import processes
from flows.dvc import DVC
from tasks import git
from tasks.terminal import without_passwords


def outputs(root: Path, minutes: float) -> tuple[bool, str]:
    """Push to DVC's default remote: (whether all is there now, DVC's last line)."""
    ended = processes.run([*DVC, "push"], root, seconds=minutes * 60)
    errors = [line.removeprefix("ERROR: ") for line in ended.lines if line.startswith("ERROR")]
    return ended.code == 0, _late(ended, minutes) or without_passwords((errors or ended.lines or ["nothing to push"])[-1])


def commits(root: Path, remote: str, minutes: float) -> tuple[bool, str]:
    """Push the branch that is checked out to the git remote of that name: (whether it is there now, a line about it)."""
    branch = git.branch(root)
    if branch is None:
        return False, "no branch is checked out (git switch BRANCH)"
    here, there = (git.run(root, "rev-parse", "--verify", "--quiet", ref, check=False).stdout
                   for ref in ("HEAD", f"refs/remotes/{remote}/{branch}"))  # fmt: skip
    if here == there:
        return True, "nothing new"
    ssh = os.environ.get("GIT_SSH_COMMAND") or git.run(root, "config", "core.sshCommand", check=False).stdout.strip() or "ssh"
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": f"{ssh} -oBatchMode=yes", "LC_ALL": "C.UTF-8"}  # nobody is there
    command = ["git", "push", "--quiet", "--", remote, f"HEAD:refs/heads/{branch}"]
    ended = processes.run(command, root, env=quiet, seconds=minutes * 60)
    said = [line.strip() for line in ended.lines if not line.startswith("hint:")]
    if ended.code:
        return False, _late(ended, minutes) or without_passwords("; ".join(said) or f"exit code {ended.code}")
    return True, f"{branch} to {remote}"


def _late(ended: processes.Ended, minutes: float) -> str:
    return f"no answer within {minutes:g} min" if ended.late else ""
