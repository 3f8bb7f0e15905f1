"""A paused run asks a person, and does what is answered: by the API, with the run in this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import minigraph
import pytest
from test_flows_nightly import GIT
from test_promote import night as leave

from tasks import approval, lock, promote, records
from tasks.files import read_json
from tests.waiting import until

SECONDS = 60


@pytest.fixture
def root(tmp_path, monkeypatch, api) -> Path:
    """A git repository in which a night has left a candidate that the gate lets out."""
    for name, value in {**GIT, "PYTHONPATH": str(minigraph.ROOT)}.items():
        monkeypatch.setenv(name, value)
    leave(tmp_path, "1")
    (tmp_path / "params.yaml").write_text((minigraph.ROOT / "params.yaml").read_text())
    (tmp_path / ".gitignore").write_text("/artifacts/\n/.nightshift/\n")
    minigraph.run(tmp_path, "git", "init", "--quiet", "--initial-branch", "main")
    minigraph.run(tmp_path, "git", "add", ".")
    minigraph.run(tmp_path, "git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "the house")
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Asked:
    """A run of the flow in a thread, and the person that it asks."""

    def __init__(self, **options):
        """Begin it in the present folder."""
        from flows.promote import Options, ask_and_promote

        def run() -> None:
            self.state = ask_and_promote(Options(push=False, **options), return_state=True)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def run(self):
        """What Prefect has of the run that waits in this folder, as soon as it does."""
        return waiting(Path.cwd())

    def ended(self) -> list[str]:
        """Its lines, when it has ended."""
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        return self.state.result()


def runs(root: Path, *names: str) -> list:
    """Runs of the flow that ask in this folder, by the names of their states."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[f"folder:{root}"])))
    return [run for run in found if run.state.name in names]


def waiting(root: Path):
    """The one run that is paused there, as soon as it is."""
    return until(lambda: runs(root, "Paused"))[0]


def resume(run, **said: str) -> str:
    """Fill in the form; what Prefect makes of it."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.resume_flow_run(run.id, said).status.value


def git(root: Path, *words: str) -> str:
    """Output of a git command there."""
    return minigraph.run(root, "git", *words).strip()


def test_a_yes_makes_it_live_once(root):
    """While it waits the folder is free; what is no answer is refused; release and words are committed; then nothing waits."""
    asked = Asked()
    run = asked.run()
    name = records.candidate(root)[0][:8]
    assert run.name == f"may {name} go live?"
    with lock.alone(root):
        assert lock.is_held(root / approval.ASKING)
    second = Asked().ended()
    assert len(second) == 1 and "is running here" in second[0] and records.live(root) is None
    assert [resume(run, decision="maybe"), resume(run), resume(run, decision="approve", name="x" * 81)] == ["REJECT"] * 3
    assert resume(run, decision="approve", comment="good\nwork", name="Ada") == "ACCEPT"
    assert resume(run, decision="reject") == "ABORT"
    lines = asked.ended()
    live = records.live(root)
    assert live.endswith(name) and lines[0] == f"{live} is live, approved by Ada (good work)"
    assert git(root, "log", "-1", "--format=%s|%b") == f"Release {live}|Approved by Ada (good work)"
    assert git(root, "status", "--porcelain") == ""
    assert (asked.state.name, asked.state.message) == ("Approved", lines[0])
    assert Asked().ended() == [f"nothing waits for approval; {live} stays live"]


def test_a_no_is_committed_and_a_night_does_not_undo_it(root):
    """What a person wrote is stored as one line and shown escaped; an automatic night says so and leaves it."""
    import logging

    from flows import steps
    from tasks import params

    asked = Asked()
    resume(asked.run(), decision="reject", comment="<b>\x1b[31mno")
    name = records.candidate(root)[0][:8]
    assert asked.ended()[0] == f"{name} was rejected (<b>[31mno); nothing is live yet"
    assert read_json(root / f"releases/rejected/{name}.json")["comment"] == "<b>[31mno"
    assert git(root, "show", "--format=%s", "--name-only").split() == ["Rejected", name, f"releases/rejected/{name}.json"]
    assert asked.state.name == "Rejected" and records.live(root) is None
    tonight = steps.Night(root, params.load(root / "params.yaml"), None, datetime.now(UTC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "get_run_logger", lambda: logging.getLogger("test"))  # there is no run here
        said = steps.promote_release.fn(tonight, True)
    assert said.startswith("rejected on 20") and records.live(root) is None
    again = Asked(again=True)
    resume(again.run(), decision="approve")
    assert again.ended()[0] == f"{records.live(root)} is live, approved"


def test_nobody_answers(root):
    """0.001 hours are 3.6 seconds: the live release stays, it is said plainly, and no run has failed."""
    path = root / "params.yaml"
    path.write_text(path.read_text().replace("approval_hours: 12", "approval_hours: 0.001"))
    asked = Asked()
    name = records.candidate(root)[0][:8]
    (line,) = asked.ended()
    assert line.startswith(f"{name}: nobody answered until 20") and line.endswith("; nothing is live yet")
    assert asked.state.name == "Not answered" and approval.waiting(root).name == name


def test_what_happens_meanwhile_ends_the_request(root):
    """Promoted by hand: live already. A newer night: its candidate takes the place. Cancelled in the UI: it ends."""
    from prefect.client.orchestration import get_client
    from prefect.states import Cancelling

    asked = Asked()
    asked.run()
    live = promote.promote(root, datetime.now(UTC)).release
    assert asked.ended() == [f"{live[-8:]}: {live} is live already; {live} stays live"]
    params = (root / "params.yaml").read_text()
    leave(root, "2")
    (root / "params.yaml").write_text(params)
    old, asked = records.candidate(root)[0][:8], Asked()
    asked.run()
    leave(root, "3")
    (root / "params.yaml").write_text(params)
    new = records.candidate(root)[0][:8]
    assert asked.ended() == [f"{old}: a newer candidate ({new}) has taken its place; {live} stays live"]
    asked = Asked()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(asked.run().id, Cancelling())
    asked.thread.join(SECONDS)
    assert [run.name for run in runs(root, "Cancelled")] == [f"may {new} go live?"] and records.live(root) == live
    said = f"may {new} go live?: was cancelled in Prefect; python -m flows.promote asks again; {live} stays live"
    assert asked.state.message == said


def test_an_answer_to_a_killed_process_is_heard(root):
    """kill -9 while it waits; a yes to the run it has left; the next process does it, and closes that run."""
    command = [sys.executable, "-m", "flows.promote", "--no-push"]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    run = waiting(root)
    os.kill(process.pid, signal.SIGKILL)
    said = process.communicate()[0]
    assert f"press Resume on {os.environ['PREFECT_API_URL'].removesuffix('/api')}/runs/flow-run/{run.id}" in said
    assert resume(run, decision="approve") == "ACCEPT" and records.live(root) is None
    assert Asked().ended()[0] == f"{records.live(root)} is live, approved"
    assert [each.id for each in runs(root, "Cancelled")] == [run.id] and runs(root, "Running", "Paused") == []


def test_without_a_server_that_stays_nobody_is_asked(root, monkeypatch, capsys):
    """One line with the remedy; the candidate stays."""
    from prefect.context import refresh_global_settings_context

    from flows import asking
    from flows import promote as flow

    path = root / "params.yaml"
    path.write_text(path.read_text().replace("approval: auto", "approval: manual"))
    with monkeypatch.context() as patch:
        patch.delenv("PREFECT_API_URL")
        refresh_global_settings_context()
        assert flow.main([]) == 1
        assert asking.afterwards(yes=False, push=True, commit=True) == 0
    refresh_global_settings_context()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("promote: PREFECT_API_URL: is not set, and a person's answer needs a server")
    assert "prefect server start, then export" in first and second.endswith("the candidate waits for nightshift promote")
    assert approval.waiting(root) is not None


def test_pages_are_served_while_they_are_asked_about(tmp_path):
    """As they were at first, to whoever has the address; nothing in them runs; afterwards nobody answers."""
    from flows import pages

    (tmp_path / "index.html").write_text("<h1>一</h1>")
    (tmp_path / "README.md").write_text("# card")
    with pages.serving({"report": tmp_path / "index.html", "card": tmp_path / "README.md"}) as links:
        (tmp_path / "index.html").write_text("another night's")
        with opened(links["report"]) as answer:
            assert answer.read().decode() == "<h1>一</h1>"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        with opened(links["card"]) as answer:
            assert (answer.read(), answer.headers["Content-Type"]) == (b"# card", "text/plain; charset=utf-8")
        top = links["report"].rsplit("/", 2)[0]
        assert top.startswith("http://127.0.0.1:")
        for wrong in (f"{top}/", f"{top}/index.html", f"{links['report']}/../README.md"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                opened(wrong)
    with pytest.raises(urllib.error.URLError):
        opened(links["report"])


def opened(url: str):
    """A GET past any proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10)


def test_a_served_promotion_knows_its_parameters(api):
    """Whoever serves the flow has it pickled for a process of its own, where parameters come as JSON."""
    import cloudpickle

    from flows.promote import ask_and_promote

    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).validate_parameters({'options': {'again': True}}))"
    pickled = cloudpickle.dumps(ask_and_promote)
    done = subprocess.run([sys.executable, "-c", code], input=pickled, cwd=minigraph.ROOT, capture_output=True)
    assert b"again=True" in done.stdout, done.stderr.decode()
