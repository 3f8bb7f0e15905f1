"""A copy of this repository in which a whole night takes minutes: the real stages on a slice of the example data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tasks.params import Stop

ROOT = Path(__file__).parent.parent
ROWS = {"instructions": 70, "preferences": 60, "prompts": 12, "evaluation": 24}  # rows kept of each file


def make(folder: Path) -> Path:
    """Copy what git knows or would know, cut the data, shorten the training, commit. Returns the folder."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():  # deleted files are still listed
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    for kind, rows in ROWS.items():
        for path in sorted((folder / "examples" / kind).iterdir()):
            cut(path, rows)
    params = (folder / "params.yaml").read_text()
    params = re.sub(r"epochs: \d+", "epochs: 1", params)
    params = re.sub(r"log_every: \d+", "log_every: 5", params)
    params = re.sub(r"save_every: \d+", "save_every: 5", params)
    # A model trained for seconds neither ends its answers nor varies them; whether it does is another test's question.
    rules = "|".join(Stop.model_fields)
    params = re.sub(rf"(?m)^    ({rules}): [\d.]+", r"    \1: null", params)
    params = re.sub(r"calibration_chats: \d+", "calibration_chats: 32", params)
    (folder / "params.yaml").write_text(params)
    for leftover in ("data.dvc", "dvc.lock"):  # they name the whole data
        (folder / leftover).unlink(missing_ok=True)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@localhost", "commit", "--quiet", "--message", "small")
    return folder


def cut(path: Path, rows: int) -> None:
    """Keep the first rows of a .json array or a .jsonl file."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        path.write_text(json.dumps(json.loads(text)[:rows], ensure_ascii=False), encoding="utf-8")
    else:
        path.write_text("".join(f"{line}\n" for line in text.splitlines()[:rows]), encoding="utf-8")


def environment(folder: Path) -> dict[str, str]:
    """Ours, but with an empty home: nobody has configured git, Prefect or DVC there."""
    home = folder.parent / f"{folder.name}-home"
    home.mkdir(exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PREFECT_API", "XDG_"))}
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # compiled kernels are kept
    return {**kept, "HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "GIT_CONFIG_NOSYSTEM": "1", "XDG_CACHE_HOME": cache}


def run(folder: Path, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in the copy; a failure shows its output."""
    done = subprocess.run(words, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not check or done.returncode == 0, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done


def git(folder: Path, *words: str) -> str:
    """A git command in the copy."""
    return run(folder, "git", *words).stdout.strip()
