"""The flow of collections on the test graph: what is taken in, committed, left waiting, and what a night makes of it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import minigraph
import pytest
import yaml
from collect_fixtures import OWNER, SALT, Server, choices, house, question, rows
from test_flows_nightly import GIT

from tasks import lock
from tasks.bootstrap import tracked_hash
from tasks.labelling import collect as judgements
from tasks.labelling import inbox


@pytest.fixture
def root(tmp_path, monkeypatch, api) -> Path:
    """A fresh repository, and an export of three judgements, one of them malformed, beside it."""
    for name, value in {**GIT, "PYTHONPATH": str(minigraph.ROOT), "NIGHTSHIFT_ANNOTATOR_SALT": SALT}.items():
        monkeypatch.setenv(name, value)
    root, _ = house(tmp_path)
    server = Server()
    a, b, c = server.send(question(1), question(2), question(3))
    server.annotate(a, choices(verdict="A"))
    server.annotate(b, choices(verdict="tie"))
    server.annotate(c, [])
    server.export(root.parent / "export.json")
    return root


def run(root: Path, **options) -> tuple[list[str], dict]:
    """One collection from the export; its summary, and the artifacts that Prefect has of it."""
    from prefect.client.orchestration import get_client

    from flows.collect import Options, collect

    with contextlib.chdir(root):
        state = collect(Options(**{"files": [root.parent / "export.json"], **options}), return_state=True)
    with get_client(sync_client=True) as client:
        found = {a.key: a for a in client.read_artifacts() if a.flow_run_id == state.state_details.flow_run_id}
    return state.result(), found


def test_judgements_are_taken_in_and_committed(root):
    """One commit of data.dvc alone; a table; a summary that counts; again nothing is new and nothing is committed."""
    (root / "notes.txt").write_text("mine")
    lines, artifacts = run(root)
    commit = minigraph.run(root, "git", "rev-parse", "HEAD").strip()
    assert lines[:2] == ["3 tasks read: 2 rows for preferences/label-studio.jsonl, 1 ties", "1 quarantined: there is no verdict"]
    assert f"commit: {commit[:10]}" == lines[-1] and len(rows(root)) == 2
    assert minigraph.run(root, "git", "show", "--format=%s", "--name-only").split("\n")[0].startswith("Judgements of 20")
    assert minigraph.run(root, "git", "show", "--format=", "--name-only").split() == ["data.dvc"]
    assert {"what": "quarantined", "count": 1} in yaml.safe_load(artifacts["collected"].data)
    assert OWNER not in "\n".join(lines) + artifacts["collected"].data
    lines, _ = run(root)
    assert lines[0] == "3 tasks read: nothing new" and minigraph.run(root, "git", "rev-parse", "HEAD").strip() == commit


def test_what_is_collected_in_the_middle_of_a_night_waits(root):
    """The lock is another's: said, landed, not in data/, not committed; the next collection takes it in."""
    before = tracked_hash(root / "data.dvc")
    with lock.alone(root):
        lines, _ = run(root)
    assert "1 batches wait in .nightshift/inbox: another night is running here" in lines[-1]
    assert rows(root) == [] and tracked_hash(root / "data.dvc") == before and inbox.waiting(root) == 1
    lines, _ = run(root, commit=False)
    assert len(rows(root)) == 2 and not any(line.startswith("commit") for line in lines)
    assert minigraph.run(root, "git", "status", "--porcelain").split() == ["M", "data.dvc"]


def test_a_refused_commit_is_said_and_the_judgements_are_in(root):
    """A hook that says no."""
    hook = root / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\necho not on a Friday >&2\nexit 1\n")
    hook.chmod(0o755)
    lines, _ = run(root)
    assert "not on a Friday" in lines[-1] and lines[-1].startswith("NOT COMMITTED") and len(rows(root)) == 2


def test_the_door(root, capsys):
    """--from with a whole and with half a file; --dry-run leaves nothing; without a server it says what to name."""
    from flows.collect import main

    with contextlib.chdir(root):
        assert main(["--dry-run", "--from", "../export.json"]) == 0
        assert "3 tasks read: 2 rows" in capsys.readouterr().out and inbox.waiting(root) == 0 and not rows(root)
        (root.parent / "half.json").write_text((root.parent / "export.json").read_text()[:1000])
        assert main(["--dry-run", "--from", "../half.json"]) == 1
        assert "half.json:1: is not whole JSON" in capsys.readouterr().err
        assert main(["--dry-run"]) == 1
        assert "labelling.url: is null: there is no server to collect from" in capsys.readouterr().err


def bring_in(root: Path) -> tuple[list[str], list[str]]:
    """What a night does first: its lines and its notices."""
    from prefect import flow

    from flows import labelling, runs

    @flow
    def night() -> tuple[list[str], list[str]]:
        begun = runs.begin(False)
        return labelling.bring_in(begun), begun.notices

    with contextlib.chdir(root), lock.alone(root):
        return night()


def test_a_night_takes_in_what_waits(root, tmp_path):
    """Under its own lock; where nothing waits it does nothing, and a second time neither."""
    assert bring_in(root) == ([], [])
    params = judgements.load(root / "params.yaml")
    judgements.collect(root, params, [root.parent / "export.json"])
    lines, notices = bring_in(root)
    assert lines[0] == "preferences/label-studio.jsonl: 2 new" and notices == [] and len(rows(root)) == 2
    assert bring_in(root) == ([], [])


def test_a_server_that_is_down_costs_the_night_a_notice(root, monkeypatch):
    """And what waits in the inbox is taken in all the same."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["labelling"] |= {"url": f"http://127.0.0.1:{port}", "attempts": 1, "timeout_seconds": 2}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))
    judgements.collect(root, judgements.load(root / "params.yaml"), [root.parent / "export.json"])
    lines, (notice,) = bring_in(root)
    assert notice.startswith("collect: ") and notice.endswith("the night goes on without") and "0" * 40 not in notice
    assert lines[0] == "preferences/label-studio.jsonl: 2 new"


def test_a_batch_that_cannot_be_admitted_costs_the_night_a_notice(root):
    """It stays where it is, with what to do about it."""
    (root / "data/preferences").mkdir()
    (root / "data/preferences/label-studio.jsonl").write_text('{"prompt": "p"}\n')
    inbox.land(root, inbox.Batch("preferences/label-studio.jsonl", "annotation", [{"annotation": "ls1-aa"}]))
    lines, (notice,) = bring_in(root)
    assert lines == [] and "has no 'annotation'; keep rows of other kinds in another file" in notice
    assert inbox.waiting(root) == 1


def test_a_served_collection_knows_its_parameters(api):
    """Whoever serves a flow has it pickled for a process of its own, where parameters come as JSON."""
    import cloudpickle

    from flows.collect import collect

    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).validate_parameters({'options': {'again': True}}))"
    done = subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(collect), cwd=minigraph.ROOT, capture_output=True)
    assert b"again=True" in done.stdout, done.stderr.decode()
