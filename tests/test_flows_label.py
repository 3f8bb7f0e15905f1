"""The flow that asks people, on the test graph: what it says, what Prefect shows, and that it is alone."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import minigraph
import pytest
import yaml
from test_flows_nightly import GIT
from test_labelling_send import row, writes

from tasks import lock
from tasks.bootstrap import tracked_hash
from tasks.feedback.entries import Answered, Passage, Said, answer_id
from tasks.feedback.log import Log
from tasks.files import write_jsonl
from tests import label_studio_fixtures as fake
from tests.label_studio_fixtures import EMAIL, TOKEN, status


@pytest.fixture
def studio():
    """A server of this test."""
    with fake.studio() as state:
        yield state


@pytest.fixture
def root(tmp_path, monkeypatch, api, studio) -> Path:
    """A repository whose last night chose six prompts, and which knows the server."""
    for name, value in {**GIT, "PYTHONPATH": str(minigraph.ROOT), "LABEL_STUDIO_API_KEY": TOKEN}.items():
        monkeypatch.setenv(name, value)
    root = minigraph.make(tmp_path)
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    graph["stages"]["select"] = {"cmd": "true", "outs": ["artifacts/selected"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    selected = root / "artifacts/selected/selected.jsonl"
    selected.parent.mkdir(parents=True)
    write_jsonl(selected, [*(row(n) for n in range(4)), row(4, "random"), row(5, "feedback")])
    settle(root, url=studio.url, project="Testing", attempts=1)
    return root


def settle(root: Path, **changes: Any) -> None:
    """Change section labelling of params.yaml."""
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["labelling"] |= changes
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False, allow_unicode=True))


def corrected(root: Path) -> str:
    """A user has corrected an answer; its id."""
    now = datetime.now(UTC)
    answer, kept = answer_id(int(now.timestamp())), Log(root, 30)
    kept.add(Answered(id=answer, time=now, release="2026-11-23-aabbccdd", language="en", question="When does it open?",
                      passages=(Passage(source="a.md", text="It opens at 8."),), answer="At nine."))  # fmt: skip
    kept.add(Said(answer=answer, time=now, rating="down", correction="At eight."))
    return answer


def run(root: Path, **options: Any) -> tuple[list[str], dict[str, Any], str]:
    """One sending; its summary, the artifacts that Prefect has of it, and its log."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    from flows import server
    from flows.label import Options, label

    with contextlib.chdir(root):
        state = label(Options(**options), return_state=True)
    server.drain()
    number = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        found = {a.key: a for a in client.read_artifacts() if a.flow_run_id == number}
        logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[number])))
    return state.result(), found, "\n".join(line.message for line in logs)


def door(root: Path, *words: str) -> int:
    """`python -m flows.label` there; its exit code."""
    from flows.label import main

    with contextlib.chdir(root):
        return main(list(words))


def test_the_queue_is_filled_and_told(root, studio):
    """What was sent, by kind and reason: in the summary, in a table, in the log. A user's correction is among it."""
    answer, before = corrected(root), (tracked_hash(root / "data.dvc"), minigraph.run(root, "git", "rev-parse", "HEAD"))
    settle(root, queue=5)
    lines, artifacts, log = run(root)
    assert lines == [
        "5 tasks sent, 0 waited already (labelling.queue: 5)",
        "  1 compare: users were not content",
        "  3 compare: the reward model is least sure",
        "  1 correction: users were not content",
        "  2 left for later: the queue is full",
    ]
    sent = artifacts["label-sent"]
    assert yaml.safe_load(sent.data)[-1] == {"kind": "all", "why": "", "tasks": 5} and sent.description.startswith("Sent to")
    assert {"kind": "correction", "why": "users were not content", "tasks": 1} in yaml.safe_load(sent.data)
    assert lines[0] in log and TOKEN not in log + str(artifacts)
    asked = [task["data"]["prompt_id"] for task in studio.tasks.values()]
    assert sorted(asked) == sorted([answer, "prompt-5", "prompt-0", "prompt-1", "prompt-2"])
    lines, artifacts, _ = run(root)
    assert lines == ["0 tasks sent, 5 waited already (labelling.queue: 5)", "  5 left out: sent or judged before",
                     "  2 left for later: the queue is full"] and len(studio.tasks) == 5  # fmt: skip
    assert yaml.safe_load(artifacts["label-sent"].data) == [{"kind": "all", "why": "", "tasks": 0}]
    assert before == (tracked_hash(root / "data.dvc"), minigraph.run(root, "git", "rev-parse", "HEAD"))
    assert minigraph.ran(root) == []


def test_a_dry_run_by_the_flow_and_by_the_door(root, studio, capsys):
    """Both say what would go; nothing does."""
    lines, artifacts, _ = run(root, dry_run=True)
    assert lines[0] == "6 tasks to send, 0 waited already (labelling.queue: 100)"
    assert artifacts["label-sent"].description.startswith("Would be sent to")
    assert door(root, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert writes(studio) == [] and not studio.tasks


def test_a_night_at_work_does_not_matter(root, studio, capsys):
    """Sending touches no data: it needs no night's lock. The door says how long it took."""
    with lock.alone(root):
        assert door(root) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("6 tasks sent, 0 waited already (labelling.queue: 100), in ") and said[0].endswith(" s")
    assert len(studio.tasks) == 6


def test_two_at_a_time_are_refused(root, studio, capsys):
    """A second sending while the first waits for the server: one line, nothing doubled. The lock goes with a kill -9."""
    came, go = threading.Event(), threading.Event()

    def wait(request: fake.Handler) -> bool:
        if request.command == "POST" and "import" in request.path:
            came.set()
            assert go.wait(60)
        return False

    studio.faults.append(wait)
    first = subprocess.Popen([sys.executable, "-m", "flows.label"], cwd=root, stdout=subprocess.PIPE)
    try:
        assert came.wait(60)
        assert door(root) == 1 and door(root, "--dry-run") == 1
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 2 and all(f"another sending is running here (process {first.pid})" in line for line in said)
        first.send_signal(signal.SIGKILL)
        first.wait()
    finally:
        first.kill()
        go.set()
        first.communicate()
    studio.faults.clear()
    assert door(root) == 0 and len(studio.hashes()) == len(set(studio.hashes())) == 6


def refused(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the door says when it does not do it."""
    assert door(root, *words) == 1
    output = capsys.readouterr()
    assert not output.out and "Traceback" not in output.err and TOKEN not in output.err and EMAIL not in output.err
    return output.err


def test_the_door_says_what_is_wrong(root, studio, capsys, monkeypatch):
    """One line with what to do: no server, a wrong token, a broken server, a bad row, no output, no token, no graph."""
    studio.faults.append(status(401))
    assert refused(root, capsys).startswith(f"label: {studio.url}")
    studio.faults[:] = [status(500)]
    assert "failed (status 500" in refused(root, capsys, "--dry-run")
    studio.faults.clear()
    selected = root / "artifacts/selected/selected.jsonl"
    write_jsonl(selected, [row(0), {}])
    assert "selected.jsonl:2: is no row of stage select" in refused(root, capsys)
    selected.unlink()
    assert "run a night: make nightly" in refused(root, capsys)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    write_jsonl(selected, [row(0)])
    assert "LABEL_STUDIO_API_KEY: is not set" in refused(root, capsys)
    settle(root, url="http://labels.example.org")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    assert "plain HTTP" in refused(root, capsys)
    settle(root, url=None)
    assert "labelling.url: is null" in refused(root, capsys, "--dry-run")
    (root / "dvc.yaml").unlink()
    assert "has no dvc.yaml" in refused(root, capsys)
    assert not studio.tasks


def ask_next(root: Path) -> tuple[list[str], list[str]]:
    """What a night does last: its lines and its notices."""
    from prefect import flow

    from flows import labelling, runs

    @flow
    def night() -> tuple[list[str], list[str]]:
        begun = runs.begin(False)
        return labelling.ask_next(begun), begun.notices

    with contextlib.chdir(root), lock.alone(root):
        return night()


def test_a_night_asks_people_last(root, studio):
    """It fills the queue; where the server fails, that is a notice and the tasks go next time; without a server, nothing."""
    studio.faults.append(status(403))
    lines, (notice,) = ask_next(root)
    assert lines == [] and notice.startswith("label: ") and notice.endswith("the night goes on without") and TOKEN not in notice
    studio.faults.clear()
    lines, notices = ask_next(root)
    assert lines[0].startswith("6 tasks sent") and notices == [] and len(studio.tasks) == 6
    settle(root, url=None)
    assert ask_next(root) == ([], [])
