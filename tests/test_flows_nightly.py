"""The Prefect door on the test graph: what runs, what is cached, what is committed, and what a failure leaves."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path

import minigraph
import pytest

from tasks import costs, records
from tasks.files import read_json

GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


class Night:
    """A repository, and its nights."""

    def __init__(self, root: Path):
        """`root` is a copy of the test graph."""
        self.root = root

    def run(self, **options) -> list[str]:
        """One night; its summary. What Prefect has recorded of it is in `states`, `logs` and `artifacts`."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterFlowRunId
        from prefect.logging.handlers import APILogWorker

        from flows.nightly import Options, nightly

        with contextlib.chdir(self.root):
            state = nightly(Options(**options), return_state=True)
        APILogWorker.drain_all(timeout=10)
        run = state.state_details.flow_run_id
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run])))
            self.states = {task.name: task.state.name for task in runs}
            self.logs = [
                log.message for log in client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), limit=200)
            ]
            self.artifacts = {artifact.key: artifact for artifact in client.read_artifacts() if artifact.flow_run_id == run}
        return state.result()

    def git(self, *words: str) -> str:
        """Output of a git command there."""
        return minigraph.run(self.root, "git", *words).strip()


@pytest.fixture(scope="module")
def night(tmp_path_factory, api):
    """The test graph after its first night, in a tree with local edits, by someone who has never configured git."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**GIT, "PYTHONPATH": str(minigraph.ROOT)}.items():
            patch.setenv(name, value)
        night = Night(minigraph.make(tmp_path_factory.mktemp("night")))
        (night.root / "stage.py").write_text((night.root / "stage.py").read_text() + "# a local edit\n")
        (night.root / "notes.txt").write_text("mine")
        night.summary = night.run()
        yield night


def test_a_first_night_runs_everything(night):
    """Each stage once, as a task of its name; its lines are in Prefect's log."""
    assert sorted(minigraph.ran(night.root)) == sorted(minigraph.STAGES)
    assert {name: night.states[name] for name in minigraph.STAGES} == dict.fromkeys(minigraph.STAGES, "Completed")
    assert night.states["data.dvc"] == "Cached"
    assert any(line == "sft: has begun" for line in night.logs)
    assert night.summary[0] == "6 ran, 1 cached"


def test_it_promotes_commits_and_pushes(night):
    """Two commits by the fallback identity; the release names the first; local edits stay; DVC's remote has it."""
    live = records.live(night.root)
    assert night.git("log", "--format=%an|%s").splitlines()[:2] == [
        f"Nightshift|Release {live}",
        f"Nightshift|Night of {live[:10]}",
    ]
    assert records.record(night.root, live)["git"]["commit"] == night.git("rev-parse", "HEAD~1")
    assert "right %: 87.5" in night.git("log", "-1", "--format=%b", "HEAD~1")
    changed = night.git("show", "--format=", "--name-only", "HEAD~1").split()
    assert changed == ["dvc.lock", *(f"metrics/{name}.json" for name in sorted(minigraph.STAGES))]
    assert night.git("status", "--porcelain") == "M stage.py\n?? notes.txt"
    assert f"release: {live} is live" in night.summary
    assert "pushed" in night.summary[-2] and (night.root / ".remote/files").is_dir()


def test_it_says_what_it_cost(night):
    """In the summary, as a row for later, as a page, and as a table in Prefect."""
    (run,) = costs.read(night.root)
    assert night.summary[-1] == f"cost: {costs.line(run)}" and set(run.stages) == set(minigraph.STAGES)
    assert all(one.ended > one.began and one.bytes > 0 for one in run.stages.values()) and 0 < run.overhead < 1
    assert (night.root / costs.PAGE).read_text().startswith("<!doctype html>")
    assert [row["stage"] for row in json.loads(night.artifacts["nightly-costs"].data)] == [
        row["stage"] for row in costs.table(run, [run])]


def test_prefect_shows_progress_figures_and_report(night):
    """The artifacts of the night."""
    assert night.artifacts["nightly-progress"].data == 100.0
    assert "87.5" in str(night.artifacts["nightly-figures"].data)
    assert "is live" in night.artifacts["nightly-report"].data


def test_the_lock_is_the_one_plain_repro_writes(night, tmp_path):
    """Side by side or one after the other: dvc.lock has the same bytes."""
    other = minigraph.make(tmp_path)
    minigraph.dvc(other, "repro", "--force", "--no-run-cache")
    assert (night.root / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()


def test_a_second_night_with_nothing_changed_runs_commits_and_promotes_nothing(night):
    """All cached without asking DVC again, although the promotion has rewritten both champion files."""
    for name in ("champion.json", "champion-search.json"):
        assert read_json(night.root / name)["release"] == records.live(night.root), name
    before = night.git("rev-parse", "HEAD"), (night.root / "dvc.lock").read_bytes()
    minigraph.ran(night.root)
    summary = night.run()
    assert minigraph.ran(night.root) == []
    assert set(night.states[name] for name in ("data.dvc", *minigraph.STAGES)) == {"Cached"}
    assert (night.git("rev-parse", "HEAD"), (night.root / "dvc.lock").read_bytes()) == before
    assert summary == [
        "7 cached",
        f"release: nothing new; {records.live(night.root)} stays live",
        "remote: nothing new",
    ]


def test_a_failing_stage_fails_the_night_and_the_others_finish(night, monkeypatch):
    """Its own words and the remedy; who needs it is NotReady; embed, which does not, ran; nothing is promoted."""
    from flows.runs import NightFailedError

    live = records.live(night.root)
    (night.root / "data/a.txt").write_text("butter\n")
    monkeypatch.setenv("MINI_FAIL", "sft")
    with pytest.raises(
        NightFailedError, match=r"stage sft: data/a\.txt: is sour; take fresh milk; mend it and run again"
    ) as caught:
        night.run()
    assert caught.value.summary[0] == "4 ran, 1 failed, 2 skipped"
    assert [night.states[name] for name in ("embed", "retrieve", "sft", "evaluate", "release")] == [
        "Completed",
        "Completed",
        "Failed",
        "NotReady",
        "NotReady",
    ]
    assert (night.root / ".nightshift/logs/sft.log").read_text().startswith("Running stage 'sft'")
    assert records.live(night.root) == live
    monkeypatch.delenv("MINI_FAIL")
    minigraph.ran(night.root)
    summary = night.run(push=False)
    assert sorted(minigraph.ran(night.root)) == ["evaluate", "release", "sft"]
    assert f"release: {records.live(night.root)} is live (before: {live})" in summary


def test_rows_of_a_database_are_documents_of_the_night(night):
    """Taken before the graph is read, committed with the night; a database out of reach is said, and the night is not lost."""
    with sqlite3.connect(night.root / "helpdesk.db") as database:
        database.execute("create table tickets (subject text)")
        database.execute("insert into tickets values ('lamp')")
    database.close()
    text = (night.root / "params.yaml").read_text()
    source = "sql: [{name: tickets, url: 'sqlite:///helpdesk.db', query: select subject from tickets}]"
    (night.root / "params.yaml").write_text(text.replace("sql: []", source))
    snapshot, pointer = night.root / "data/documents/sql/tickets.jsonl", night.root / "data.dvc"
    before = pointer.read_text()
    night.run(push=False)
    assert snapshot.read_text() == '{"subject": "lamp"}\n' and night.states["data.dvc"] == "Completed"
    assert pointer.read_text() != before and "data.dvc" in night.git("log", "-3", "--format=", "--name-only").split()
    assert "tickets: 1 row, new" in night.logs and night.states["fetch sources"] == "Completed"
    (night.root / "helpdesk.db").unlink()
    before = pointer.read_text()
    summary = night.run(push=False)
    assert summary[0] == "7 cached" and "source tickets: NOT FETCHED" in summary[1]
    assert night.states["fetch sources"] == "Incomplete"
    assert snapshot.read_text() == '{"subject": "lamp"}\n' and pointer.read_text() == before
    (night.root / "params.yaml").write_text(text)
    night.run(push=False)
    assert snapshot.is_file() and "fetch sources" not in night.states


@pytest.mark.slow
def test_what_the_gate_holds_back_stays_a_candidate(night):
    """A refusal is no failure: committed, with its reason, and the live release stays."""
    live = records.live(night.root)
    (night.root / "data/a.txt").write_text("hold\n")
    summary = night.run(stages=["release"], push=False)
    assert f"release: held back by the gate: the milk. {live} stays live".lower() in [line.lower() for line in summary]
    assert records.live(night.root) == live


def door(root: Path, *words: str) -> int:
    """`python -m flows.nightly` there, as far as it goes without a server; its exit code."""
    from flows.nightly import main

    with contextlib.chdir(root):
        return main(list(words))


def test_dry_run_says_what_would_run_and_why(tmp_path, capsys):
    """No server, nothing written."""
    root = minigraph.make(tmp_path)
    assert door(root, "--dry-run", "--stages", "sft") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["data.dvc", "prepare", "sft"]
    assert "unchanged" in said[0] and "to run: data" in said[1]
    assert minigraph.ran(root) == []


def test_the_door_checks_first(tmp_path, capsys):
    """A typo in params.yaml, a folder without a graph, a second night at the same time: one line, before any server."""
    import fcntl

    root = minigraph.make(tmp_path)
    assert door(tmp_path) == 1
    assert "has no dvc.yaml" in capsys.readouterr().err
    (root / ".nightshift").mkdir()
    with open(root / ".nightshift/night.lock", "w") as file:
        file.write("4711")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        assert door(root) == 1
    assert "another night is running here (process 4711)" in capsys.readouterr().err
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("parallel:", "paralel:"))
    assert door(root) == 1
    assert "nightly.paralel" in (said := capsys.readouterr().err) and "did you mean 'parallel'?" in said
