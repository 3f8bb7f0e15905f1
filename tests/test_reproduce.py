"""A release made again: real git, real DVC, a small graph that has its code with it. Real stages: tests/test_night.py."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tasks import git, params, promote, release
from tasks.errors import GateError, ParamsError
from tasks.files import read_json, write_json
from tasks.lock import BusyError
from tasks.reproduce import HOME, reproduce, run, stack
from tasks.reproduce.workspace import Workspace
from tests import minigraph
from tests.waiting import until

ROOT = Path(__file__).parent.parent
NIGHT = datetime(2026, 11, 24, 3, tzinfo=UTC)
STACK = """
import os
def stack(compute, requirements):
    milk = os.environ.get("MINI_MILK", "1")
    return {"threads": 2, "instruction_set": os.environ.get("MINI_ISA", "AVX2"), "packages": {"milk": milk}}
"""
PARAMS = """
class Compute:
    reproducible = "this-cpu"
class Params:
    compute = Compute
def load(path):
    return Params
"""
DIES = """
from tasks import environment
environment.die_with_parent()
"""
FILES = 2 * len(minigraph.STAGES)  # each stage makes a folder and a metrics file
ALL = FILES + 3  # and the manifest names two parts, and has a hash itself


@functools.cache
def _released() -> Path:
    """A repository after a night and its promotion; the code is in it, as in a real one."""
    root = minigraph.make(minigraph.scratch("reproduce"))
    (root / "tasks").mkdir()
    for name in ("__init__.py", "environment.py", "errors.py", "files.py"):
        shutil.copy(ROOT / "tasks" / name, root / "tasks" / name)
    (root / "tasks/params.py").write_text(PARAMS)
    (root / "tasks/release.py").write_text(STACK)
    stage = (root / "stage.py").read_text()
    manifest = '"stack": __import__("tasks.release").release.stack(None, None)'
    (root / "stage.py").write_text(stage.replace('"stack": {"threads": 2}', manifest).replace(
        "name, *inputs", DIES + "name, *inputs", 1).replace(
        "text = ", 'taste = os.environ.get("MINI_TASTE", "") if name == "sft" else ""\ntext = taste + ', 1))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    for name, entry in graph["stages"].items():
        entry["deps"].append("stage.py")
        entry["params"] = ["compute"] if name == "sft" else ["gate"]
        entry["cmd"] = entry["cmd"].replace(sys.executable, "python")
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    commit(root, "code")
    return night(root)


def commit(root: Path, message: str) -> str:
    """Commit all there is; returns the commit."""
    minigraph.run(root, "git", "add", "--all")
    minigraph.run(root, "git", "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--message", message)
    return git.head(root)


def night(root: Path) -> Path:
    """What a night does: run, commit what it made and nothing else, promote, commit the release."""
    minigraph.run(root, "python", "-m", "dvc", "repro", "--quiet", PYTHONPATH=str(root))
    git.commit(root, ["dvc.lock", "metrics"], "night")
    promote.promote(root, NIGHT)
    git.commit(root, promote.COMMITTED, "release")
    return root


@pytest.fixture
def released(tmp_path, monkeypatch) -> Path:
    """A copy of it, and the interpreter's folder first on PATH."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    return Path(shutil.copytree(_released(), tmp_path / "mini", symlinks=True))


def worktrees(root: Path) -> int:
    """How many work trees git knows."""
    return len(minigraph.run(root, "git", "worktree", "list").splitlines())


def again(root: Path, **options):
    """`reproduce` the live release; (what came of it, the lines said meanwhile)."""
    lines: list[str] = []
    return reproduce(root, promote.live(root), say=lines.append, **options), lines


def test_everything_is_made_again_and_is_the_same(released):
    """Each stage really runs, in the commit's own code; 6 folders, 6 metrics files, 2 parts and the manifest are identical;
    checkout, DVC cache and work trees are as before. Twice."""
    before = sorted(str(path) for path in released.rglob("*") if ".git" not in path.parts and ".nightshift" not in path.parts)
    for dry in (False, True):
        made, lines = again(released, dry=dry)
        if dry:
            assert made.artifacts == [] and made.passed
            continue
        assert made.passed and made.way == "computed" and made.failed == []
        assert [one.said for one in made.artifacts] == ["identical"] * ALL
        assert [step.stage for step in made.steps] == list(minigraph.STAGES)
        assert made.commit == promote.record(released, made.release)["git"]["commit"] != git.head(released)
        assert [line.split()[-1] for line in lines if line.startswith("  ")] == ["identical"] * len(minigraph.STAGES)
        assert made.lines()[-1] == f"{made.release}: reproduced: {ALL} of {ALL} artifacts that have to be identical are"
    after = sorted(str(path) for path in released.rglob("*") if ".git" not in path.parts and ".nightshift" not in path.parts)
    assert after == before and worktrees(released) == 1 and git.dirty(released) == []


def test_what_differs_is_named_to_the_byte(released, monkeypatch):
    """A stage that hears something no commit has: sft and all that follows differ, file by file and figure by figure."""
    monkeypatch.setenv("MINI_TASTE", "!")
    made, lines = again(released, stages=["evaluate"])
    assert not made.passed and [step.stage for step in made.steps] == ["prepare", "sft", "evaluate"]
    different = {one.path: one.differing for one in made.artifacts if not one.same and one.kind in ("output", "metrics")}
    letters = read_json(released / "metrics/sft.json")["letters"]
    assert different == {
        "artifacts/sft": ["sft.txt"],
        "metrics/sft.json": [f"letters: {letters} → {letters + 1}"],
        "artifacts/evaluate": ["challenger.json", "evaluate.txt"],
    }
    assert next(line for line in lines if line.startswith("  sft")).endswith("artifacts/sft differs, metrics/sft.json differs")
    assert made.lines()[-1] == f"{made.release}: NOT REPRODUCED: 3 of 7 artifacts that have to be identical are"


def test_on_another_processor_only_what_does_no_sums_is_promised(released, monkeypatch):
    """prepare and embed do not follow the stage that reads `compute`: they have to be identical; sft, also as a part, may
    differ. With another package nothing is promised, which is said before anything runs."""
    monkeypatch.setenv("MINI_ISA", "AVX512")
    monkeypatch.setenv("MINI_TASTE", "!")
    made, lines = again(released, stages=["sft", "embed"])
    assert made.stack == {"instruction_set": "AVX2 → AVX512"} and made.promised == ["prepare", "embed"]
    assert made.passed
    assert [one.path for one in made.artifacts if not one.same] == ["artifacts/sft", "metrics/sft.json", "artifacts/sft"]
    assert "  instruction_set: AVX2 → AVX512" in lines
    assert made.verdict.endswith("5 of 5 artifacts that have to be identical are; 0 of 3 others are too")
    monkeypatch.setenv("MINI_MILK", "2")
    made, lines = again(released, dry=True)
    assert made.stack["packages.milk"] == "1 → 2" and made.promised == []
    assert lines[-1].startswith("how long it takes is not known here: no night has run in this checkout; ")


def test_a_record_that_says_otherwise_is_caught(released):
    """The manifest in the record names another hash of a part: the bytes fit dvc.lock, and not the manifest."""
    path = released / f"releases/{promote.live(released)}.json"
    record = read_json(path)
    record["manifest"]["parts"]["embed"]["sha256"] = "0" * 64
    write_json(path, record)
    made, _ = again(released, stages=["embed"])
    assert [step.stage for step in made.steps] == ["prepare", "embed"]
    assert [(one.path, one.kind) for one in made.artifacts if not one.same] == [("artifacts/embed", "part embed")]
    assert made.elsewhere == ["sft (artifacts/sft)"] and not made.passed
    record["dvc"]["lock_sha256"] = "0" * 64
    write_json(path, record)
    with pytest.raises(GateError, match="no commit here has its"):
        again(released)
    with pytest.raises(GateError, match="is no release"):
        reproduce(released, "2001")


def test_from_cache_checks_bytes_and_names_what_is_missing(released):
    """Everything is there; a changed byte is found; what the cache lacks is missing, until the remote has it."""
    made, _ = again(released, from_cache=True)
    assert made.passed and [one.said for one in made.artifacts] == ["identical"] * ALL
    lock = yaml.safe_load((released / "dvc.lock").read_text())["stages"]
    [folder] = [out["md5"] for out in lock["embed"]["outs"] if out["path"] == "artifacts/embed"]
    [file] = json.loads(cached(released, folder).read_text())
    place = cached(released, file["md5"])
    place.chmod(0o644)
    good = place.read_bytes()
    place.write_bytes(good.replace(b"embed", b"EMBED"))
    place.chmod(0o444)
    made, _ = again(released, from_cache=True)
    assert not made.passed
    assert {one.path: one.differing for one in made.artifacts if not one.same and one.kind == "output"} == {
        "artifacts/embed": ["embed.txt"]}
    place.unlink()
    made, _ = again(released, from_cache=True)
    assert [one.said for one in made.artifacts if one.path == "artifacts/embed"] == ["missing", "missing"]
    assert not made.passed
    place.write_bytes(good)
    minigraph.dvc(released, "push", "--quiet")
    place.unlink()
    made, _ = again(released, from_cache=True)
    assert made.passed and not place.exists()


def cached(root: Path, md5: str) -> Path:
    """An object of DVC's cache."""
    return root / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def test_the_commit_is_the_one_that_has_what_the_night_read(released):
    """Promoted by hand after another commit had changed the code: the release names that one, and the night's is taken.
    A parameter that the night's commit has otherwise (somebody had edited it, and not committed) comes from dvc.lock."""
    back_to_the_night(released)
    edit(released / "params.yaml", "  correct: 0.6", "  correct: 0.7")
    at_night = commit(released, "night")
    edit(released / "stage.py", "0.875", "0.5")
    named(released, commit(released, "other code"))
    made, lines = again(released, stages=["sft"])
    assert made.commit == at_night and made.passed
    assert made.params == ["gate.correct: 0.7 → 0.6"] and "  gate.correct: 0.7 → 0.6" in lines
    assert [step.stage for step in made.steps] == ["prepare", "sft"]


def test_code_that_was_never_committed_is_refused_before_anything_runs(released):
    """The file is named, and no work tree is left; what was made can still be checked."""
    back_to_the_night(released)
    edit(released / "stage.py", "0.875", "0.5")
    named(released, commit(released, "night"))
    with pytest.raises(GateError, match=r"its night read what no commit has: stage\.py \(commit "):
        again(released)
    assert worktrees(released) == 1
    assert again(released, from_cache=True)[0].passed


def back_to_the_night(root: Path) -> None:
    """Another history that begins with what the night's commit has; the record of the release is kept."""
    minigraph.run(root, "git", "checkout", "--quiet", "--orphan", "other", "main~1")
    minigraph.run(root, "git", "checkout", "main", "--", "releases")
    minigraph.run(root, "git", "branch", "--quiet", "-D", "main")


def edit(path: Path, old: str, new: str) -> None:
    """Replace the one `old` in a file."""
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def named(root: Path, commit: str) -> None:
    """Let the live release's record name this commit."""
    path = root / f"releases/{promote.live(root)}.json"
    record = read_json(path)
    record["git"]["commit"] = commit
    write_json(path, record)


def test_kill_9_leaves_a_work_tree_that_the_next_one_removes(released, tmp_path):
    """Killed in mid-stage; dvc and the stage end with it; another call is refused while one is at work, and cleans up after."""
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-P", "-m", "tasks.cli", "reproduce", promote.live(released), "--in", str(tmp_path / "there")]
    env = minigraph.environment(MINI_SLEEP="sft=600")
    process = subprocess.Popen(command, cwd=released, env=env, stdout=subprocess.DEVNULL)
    log = released / HOME / f"{promote.live(released)}.log"
    until(lambda: log.is_file() and "sft: has begun" in log.read_text())
    with pytest.raises(BusyError, match=f"another reproduction is running here .process {process.pid}"):
        again(released)
    process.kill()
    process.wait()
    [left] = (tmp_path / "there").iterdir()
    until(lambda: not [pid for pid in Path("/proc").glob("[0-9]*") if working(pid, left)])
    assert worktrees(released) == 2
    made, _ = again(released, dry=True)
    assert made.artifacts == [] and list((tmp_path / "there").iterdir()) == [] and worktrees(released) == 1
    made, _ = again(released, stages=["prepare"], within=tmp_path / "there", keep=True)
    assert (Path(made.folder) / "artifacts/prepare/prepare.txt").is_file() and worktrees(released) == 2
    with pytest.raises(ParamsError, match="lies in the checkout"):
        again(released, within=released)
    assert worktrees(released) == 2  # what was kept is nobody's to remove


def working(process: Path, folder: Path) -> bool:
    """Whether a process of /proc works in a folder."""
    try:
        return Path(os.readlink(process / "cwd")).is_relative_to(folder)
    except OSError:
        return False


def test_this_code_is_asked_as_its_release_stage_asks():
    """The small repository above has a stack of its own; this one is what a release's manifest says of this machine."""
    told = stack.present(Workspace(ROOT, ROOT, ROOT))
    compute = params.load(ROOT / "params.yaml").compute
    assert told == json.loads(json.dumps(release.stack(compute, ROOT / "requirements.lock")))


def test_stages_work_alone_where_a_night_had_a_cluster(tmp_path):
    """Its address may be gone, and no byte depends on it. Whatever else params.yaml says stays, and so does one without."""
    path = tmp_path / "params.yaml"
    there = yaml.safe_load((ROOT / "params.yaml").read_text())
    for scale in ({**there["scale"], "engine": "ray", "address": "10.0.0.1:6379"}, None):
        written = {name: section for name, section in {**there, "scale": scale}.items() if section}
        path.write_text(yaml.safe_dump(written))
        run.work_alone(tmp_path)
        assert yaml.safe_load(path.read_text()) == {**written, **({"scale": {**scale, "engine": "local"}} if scale else {})}


def test_the_pins_of_requirements_lock_are_compared_with_what_is_installed():
    """A version that is here, one that is not, a package that is not, a pin for another system."""
    from importlib import metadata

    here = metadata.version("pydantic")
    lines = ["# made by uv", f"pydantic=={here}", "pyyaml==0.1", "no-such-thing==3.0", "pywin32==1 ; sys_platform == 'win32'"]
    assert stack.installed(lines) == {
        "installed.pyyaml": f"0.1 → {metadata.version('pyyaml')}", "installed.no-such-thing": "3.0 → not installed"}
    assert stack.installed((ROOT / "requirements.lock").read_text().splitlines()) == {}
