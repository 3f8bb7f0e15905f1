"""What the flow asks of DVC, on a real repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import minigraph
import pytest

from flows import dvc, processes
from tasks.errors import ServiceError


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    """The test graph after `dvc repro --force --no-run-cache`; tests copy it or leave it as it is."""
    root = minigraph.make(tmp_path_factory.mktemp("done"))
    minigraph.dvc(root, "repro", "--force", "--no-run-cache")
    return root


def test_graph_is_dvcs_own(done):
    """Order, needs and status as DVC has them; an edit is named, and what follows it is not unchanged."""
    graph = dvc.read(done, 10)
    assert graph.names == ["data.dvc", "prepare", "sft", "embed", "evaluate", "retrieve", "release"]
    assert graph["release"].needs == ("data.dvc", "embed", "evaluate", "retrieve", "sft")
    assert graph.unchanged() == set(graph.names)
    assert graph.with_ancestors(["evaluate"]) == ["data.dvc", "prepare", "sft", "evaluate"]
    with pytest.raises(ServiceError, match=r"no stage 'sfft'; take from: data\.dvc, prepare"):
        graph.with_ancestors(["sfft"])
    champion = done / "champion.json"
    before = champion.read_text()
    champion.write_text('{"release": "r1"}\n')
    graph = dvc.read(done, 10)
    assert graph["evaluate"].changed == ("champion.json",)
    assert graph.unchanged() == {"data.dvc", "prepare", "sft", "embed", "retrieve"}
    assert graph.unchanged(frozenset({"champion.json"})) == set(graph.names)
    (done / "artifacts/embed/embed.txt").unlink()
    assert dvc.read(done, 10).unchanged(frozenset({"champion.json"})) == {"data.dvc", "prepare", "sft"}
    # a flow that runs only some stages is not concerned by what has changed in the others
    assert "evaluate" in dvc.read(done, 10).unchanged(frozenset({"champion.json"}), {"prepare", "sft", "evaluate"})
    champion.write_text(before)
    minigraph.dvc(done, "checkout", "--force")


def test_order_of_dvc_lock_does_not_depend_on_who_was_first(done):
    """A lock whose stages came in another order becomes the bytes a plain repro wrote; a second time does nothing."""
    from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update

    path = done / "dvc.lock"
    wanted = path.read_bytes()
    data = parse_yaml_for_update(wanted.decode(), str(path))
    for name in ("evaluate", "prepare", "sft"):
        data["stages"][name] = data["stages"].pop(name)
    path.write_text(dumps_yaml(data))
    assert path.read_bytes() != wanted
    order = dvc.read(done, 10).names
    assert dvc.order_lock(done, order)
    assert path.read_bytes() == wanted
    assert not dvc.order_lock(done, order)


def test_order_of_a_committed_lock_wins(tmp_path, done):
    """`dvc repro` updates known stages in place: so does the flow, and only new ones go by the graph's order."""
    root = Path(minigraph.shutil.copytree(done, tmp_path / "mini", symlinks=True))
    from dvc.utils.serialize._yaml import dumps_yaml, parse_yaml_for_update

    path = root / "dvc.lock"
    data = parse_yaml_for_update(path.read_text(), str(path))
    stages = data["stages"]
    kept = {name: stages[name] for name in stages}
    for name in list(stages):
        del stages[name]
    for name in ("embed", "prepare"):
        stages[name] = kept[name]
    path.write_text(dumps_yaml(data))
    minigraph.run(root, "git", "add", "dvc.lock")
    minigraph.run(root, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "lock")
    for name in ("release", "sft", "retrieve", "evaluate"):
        stages[name] = kept[name]
    path.write_text(dumps_yaml(data))
    dvc.order_lock(root, dvc.read(root, 10).names)
    after = list(parse_yaml_for_update(path.read_text(), str(path))["stages"])
    assert after == ["embed", "prepare", "sft", "evaluate", "retrieve", "release"]


def test_a_busy_stage_waits_and_tries_again(done):
    """Another process holds the files of embed (DVC fails at once: "is busy"); once it is gone, the stage goes on."""
    processes.reopen()
    holder = subprocess.Popen(["sleep", "300"])
    busy = {"read": {}, "write": {str(done / "artifacts/embed"): {"pid": holder.pid, "cmd": "dvc repro embed"}}}
    (done / ".dvc/tmp/rwlock").write_text(json.dumps(busy))
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        if "next try" in line:
            holder.kill()
            holder.wait()

    outcome = dvc.repro(done, "embed", 300, on_line)
    assert outcome.state == "cached" and outcome.tries == 2
    assert any("is busy" in line for line in lines)


@pytest.mark.slow
def test_patience_ends(done):
    """A lock that never opens fails the stage, with DVC's words, instead of waiting for ever."""
    processes.reopen()
    busy = {"read": {}, "write": {str(done / "artifacts/embed"): {"pid": os.getpid(), "cmd": "dvc repro embed"}}}
    (done / ".dvc/tmp/rwlock").write_text(json.dumps(busy))
    outcome = dvc.repro(done, "embed", 0, lambda _: None)
    (done / ".dvc/tmp/rwlock").unlink()
    assert outcome.state == "failed" and "is busy" in "\n".join(outcome.ended.lines)


def test_the_repositorys_lock_is_waited_for(done):
    """DVC's other lock, held for longer than the three seconds after which it would give up by itself."""
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, zc.lockfile, time; lock = zc.lockfile.LockFile(sys.argv[1]);print('held', flush=True); time.sleep(300)",
            str(done / ".dvc/tmp/lock"),
        ],
        stdout=subprocess.PIPE,
    )
    holder.stdout.readline()
    threading.Timer(5, holder.kill).start()
    began = time.monotonic()
    assert dvc.read(done, 120).names[0] == "data.dvc"
    assert time.monotonic() - began > 3
    holder.wait()
