"""Process-wide settings, and stages that end with the process that runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks import environment
from tasks.__main__ import STAGES
from tasks.errors import ParamsError
from tests.evaluation_fixtures import CPU

ROOT = Path(__file__).parent.parent

STAGE = "import time; from tasks import environment; environment.die_with_parent(); print('up', flush=True); time.sleep(60)"
# python, then sh, then the stage: what dvc does. Its command line, this text included, must name no runner by itself.
RUNNER = """
import subprocess, sys
subprocess.run(["/bin/sh", "-c", sys.argv[2] + "; true"])
"""


def test_what_the_user_set_wins(monkeypatch):
    """A setting from outside is kept, a missing one is filled in."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("OMP_WAIT_POLICY")
    environment.apply()
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


ANY = CPU.model_copy(update={"reproducible": "any-x86", "threads": 3})
DOOR = """
import os, pathlib, sys, yaml
import tasks.__main__ as door
from tasks.reports import Report
class Told(Report):
    settings: dict[str, str]
def stage(out: pathlib.Path) -> Told:
    return Told(settings={name: os.environ.get(name, "") for name in door.environment.ANY_X86})
door.stage_function = lambda name: stage
params = yaml.safe_load(open(sys.argv[1]))
params["compute"].update(device="cpu", reproducible=sys.argv[2])
open("params.yaml", "w").write(yaml.safe_dump(params))
door.run("stage", ["--out", "out", "--metrics", "told.json"])
"""


@pytest.mark.parametrize("mode", ["this-cpu", "any-x86"])
def test_a_stage_is_pinned_as_params_yaml_says(tmp_path, mode):
    """Through the door that every stage takes, in a process of its own: all settings, whatever was exported, or none."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_CORETYPE": "Zen"}
    given = {name: env.get(name, "") for name in environment.ANY_X86}
    done = subprocess.run([sys.executable, "-c", DOOR, ROOT / "params.yaml", mode], cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads((tmp_path / "told.json").read_text())["settings"]
    assert told == (environment.ANY_X86 if mode == "any-x86" else given)


def test_a_processor_that_cannot_is_refused_and_so_is_being_late(monkeypatch):
    """A Nehalem has no AVX2; a library that is loaded has made its choice. this-cpu asks for nothing and sets nothing."""
    monkeypatch.setattr(environment, "_processor", lambda key: "fpu sse4_2 fma")
    with pytest.raises(ParamsError, match="is any-x86 and this processor lacks avx2; take this-cpu"):
        environment.pin(ANY)
    monkeypatch.setattr(environment, "_processor", lambda key: "fpu sse4_2 fma avx2")
    monkeypatch.setitem(sys.modules, "numpy", sys)
    with pytest.raises(RuntimeError, match=r"numpy.* loaded before environment\.pin"):
        environment.pin(ANY)
    before = dict(os.environ)
    environment.pin(CPU)
    assert dict(os.environ) == before
    for name, value in {**environment.ANY_X86, "OMP_NUM_THREADS": "3"}.items():
        monkeypatch.setenv(name, value)
    environment.pin(ANY)  # they are all set: nothing comes too late


def test_no_stage_loads_a_numeric_library_before_it_works():
    """The door pins after it has imported the stage's module, so that import must not load what reads the settings."""
    code = f"""
import importlib, sys
from tasks import environment, params
for stage in {STAGES}:
    importlib.import_module(f"tasks.{{stage}}")
print([name for name in environment.READERS if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_stage_takes_a_square_root_that_makers_do_in_their_own_way():
    """torch.sqrt of fp32 on a CPU is MKL's, which rests on rsqrtps: docs/decisions/0022."""
    code = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tasks").rglob("*.py")}
    assert [str(path) for path, text in code.items() if re.search(r"\.sqrt\(\)|torch\.sqrt\(", text)] == []


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pidfds are Linux's")
@pytest.mark.parametrize("word, lives", [("dvc", False), ("editor", True)])
def test_kill_9_of_the_runner_ends_the_stage(tmp_path, word, lives):
    """runner → sh → stage: after kill -9 of a runner named dvc the stage is gone; under an unknown parent it stays."""
    script = tmp_path / "stage.py"
    script.write_text(f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n" + STAGE)
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, word, f"{sys.executable} {script}"], env=env, stdout=subprocess.PIPE)
    assert runner.stdout.readline() == b"up\n"
    stage = int((tmp_path / "pid").read_text())
    try:
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        deadline = time.monotonic() + (0.5 if lives else 5)
        while running(stage) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert running(stage) == lives
    finally:
        if running(stage):
            os.kill(stage, signal.SIGKILL)
        runner.stdout.close()


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_a_worker_knows_which_tests_belong_together(request):
    """`make test` keeps the tests of a file on one worker; a pytest that is newer than pytest-xdist would scatter them."""
    assert request.node.nodeid.endswith("@test_environment.py")
