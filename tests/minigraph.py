"""A night small enough for a test: real git, real DVC, real Prefect, and six stages that only copy text.

data.dvc ─► prepare ─┬─► sft ────► evaluate ──┬─► release ─► (promotion)
                     └─► embed ──► retrieve ──┘
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
STAGES = ("prepare", "sft", "embed", "evaluate", "retrieve", "release")

STAGE = '''
"""One stage of the test graph: copies its inputs; the environment says whether it dawdles or fails."""
import hashlib, json, os, pathlib, sys, time
name, *inputs = sys.argv[1:]
files = [p for i in map(pathlib.Path, inputs) for p in ([i] if i.is_file() else sorted(i.rglob("*.txt")))]
text = "".join(p.read_text() for p in files)
print(f"{name}: has begun", flush=True)
told = pathlib.Path(".nightshift/sleep")  # for a night whose environment was settled before
sleep = os.environ.get("MINI_SLEEP") or (told.read_text() if told.is_file() else "")
time.sleep(float(dict(pair.split("=") for pair in sleep.split()).get(name, 0)))
pathlib.Path("ran.log").open("a").write(name + "\\n")
if name in os.environ.get("MINI_FAIL", "").split():
    sys.exit(f"{name}: data/a.txt: is sour; take fresh milk")
out = pathlib.Path("artifacts", name)
out.mkdir(parents=True, exist_ok=True)
digest = hashlib.sha256(text.encode()).hexdigest()
(out / f"{name}.txt").write_text(f"{name} {digest}\\n")
if name == "evaluate":
    answers = {"context-1": {"set": "context", "case": "00", "answer": digest[:8]}}
    (out / "challenger.json").write_text(json.dumps({"answers": answers}))
if name == "retrieve":
    found = {"documents-1": {"case": "00", "rank": 1, "found": True}}
    (out / "challenger.json").write_text(json.dumps({"questions": found}))
if name == "release":
    from tasks.files import sha256_tree, size, write_json
    good = "hold" not in text
    write_json(out / "manifest.json", {
        "name": "mini", "figures": {"right %": 0.5}, "data": {"md5": digest}, "stack": {"threads": 2},
        "gate": {"promote": good, "reasons": [{"passed": good, "why": "the milk"}]}, "parts": {
            part: {"path": f"artifacts/{part}", "sha256": sha256_tree(pathlib.Path("artifacts", part)),
                   "bytes": size(pathlib.Path("artifacts", part))} for part in ("sft", "embed")}})
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path("metrics", f"{name}.json").write_text(json.dumps({"letters": len(text), "right": {"share": 0.875}}))
'''


def graph() -> dict:
    """dvc.yaml of the test graph."""
    inputs = {
        "prepare": ["data"],
        "sft": ["artifacts/prepare"],
        "embed": ["artifacts/prepare"],
        "evaluate": ["artifacts/sft", "champion.json"],
        "retrieve": ["artifacts/embed", "champion-search.json"],
        "release": ["data", "artifacts/sft", "artifacts/embed", "artifacts/evaluate", "artifacts/retrieve"],
    }
    return {
        "stages": {
            name: {
                "cmd": f"{sys.executable} stage.py {name} {' '.join(inputs[name])}",
                "deps": inputs[name],
                "outs": [f"artifacts/{name}"],
                "metrics": [{f"metrics/{name}.json": {"cache": False}}],
            }
            for name in STAGES
        }
    }


def scratch(name: str) -> Path:
    """A folder for what a session makes once; gone when its process ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"nightshift-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _template() -> Path:
    """The repository before its first night, made once a session."""
    folder = scratch("mini")
    root = folder / "mini"
    (root / "data").mkdir(parents=True)
    (root / "data/a.txt").write_text("milk\n")
    (root / "data/b.txt").write_text("资料\n")
    (root / "stage.py").write_text(STAGE)
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph(), sort_keys=False))
    for name in ("champion.json", "champion-search.json"):
        (root / name).write_text('{\n "release": null\n}\n')
    (root / ".gitignore").write_text("/artifacts/\n/.nightshift/\n/ran.log\n/.remote/\n/data/\n__pycache__/\n")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["release"]["figures"] = {"right %": "evaluate.right.share", "letters": "prepare.letters"}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
    run(root, "git", "init", "--quiet", "--initial-branch", "main")
    dvc(root, "init", "--quiet")
    (root / ".dvc/config").write_text(
        "[core]\nremote = local\nanalytics = false\nautostage = false\n['remote \"local\"']\nurl = ../.remote\n"
    )
    dvc(root, "add", "--quiet", "data")
    run(root, "git", "add", ".")
    run(root, "git", "-c", "user.name=Someone", "-c", "user.email=some@one", "commit", "--quiet", "-m", "the house")
    return root


def make(folder: Path) -> Path:
    """A fresh copy of the repository before its first night."""
    return Path(shutil.copytree(_template(), folder / "mini", symlinks=True))


def run(root: Path, *command: str, check: bool = True, **env: str) -> str:
    """Run a command there; its stdout and stderr together."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=environment(**env))
    assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def dvc(root: Path, *words: str, **env: str) -> str:
    """Run dvc there."""
    return run(root, sys.executable, "-m", "dvc", *words, **env)


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with the project importable from anywhere and no outside git configuration."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **more,
    }


def ran(root: Path) -> list[str]:
    """Stages that really ran since the last call."""
    log = root / "ran.log"
    names = log.read_text().split() if log.is_file() else []
    log.unlink(missing_ok=True)
    return names
