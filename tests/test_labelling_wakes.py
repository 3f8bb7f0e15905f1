"""A judgement in a real Label Studio wakes a collection: webhook, receiver, Prefect event, run of the flow, row in data/."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import minigraph
import pytest
from test_flows_label import settle
from test_flows_nightly import GIT

from deploy.processes import free_ports
from tasks import params
from tasks.labelling import html
from tasks.labelling.label_studio import connect
from tests.labelling_fixtures import a_task, client
from tests.waiting import until

pytestmark = pytest.mark.service


@contextlib.contextmanager
def program(log: Path, *words: str, cwd: Path) -> Iterator[subprocess.Popen]:
    """A program and all that it starts, for as long as the block lasts; what it says goes to `log`."""
    with open(log, "wb") as output:
        process = subprocess.Popen(words, cwd=cwd, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def healthy(url: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_a_judgement_wakes_a_collection(label_studio_project, tmp_path, monkeypatch):
    """Nobody collects by hand and no hour passes: the row is there, by a run of the deployment, and committed."""
    root, server, project = label_studio_project
    port = free_ports(1)
    url = f"http://127.0.0.1:{port}/api"
    for name, value in {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_UI_ENABLED": "0", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    python, logs = sys.executable, {name: tmp_path / f"{name}.log" for name in ("prefect", "collect", "webhook")}
    with contextlib.ExitStack() as stack:
        start = [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        stack.enter_context(program(logs["prefect"], *start, cwd=root))
        until(lambda: healthy(url), logs["prefect"])
        monkeypatch.setenv("PREFECT_API_URL", url)
        stack.enter_context(program(logs["collect"], python, "-m", "flows.collect", "--serve", cwd=root))
        stack.enter_context(program(logs["webhook"], python, "-m", "flows.webhook", cwd=root))
        until(lambda: "wake a collection" in logs["webhook"].read_text(), logs["webhook"])
        until(lambda: deployed(url), logs["collect"])
        verdict = {"value": {"choices": ["B"]}, "from_name": "verdict", "to_name": "prompt", "type": "choices"}
        with client(server) as api:
            task = api.get("/api/tasks", params={"project": project}).json()["tasks"][0]["id"]
            api.post(f"/api/tasks/{task}/annotations/", json={"result": [verdict], "lead_time": 4.0}).raise_for_status()
        path = root / "data/preferences/label-studio.jsonl"
        until(lambda: path.is_file() and committed(root), logs["collect"])
    [row] = [json.loads(line) for line in path.read_text().splitlines()]
    assert (row["ranking"], row["seconds"], row["skipped"]) == ([["B"], ["A"]], 4.0, False)
    said = "".join(log.read_text(errors="replace") for log in logs.values())
    assert server.token not in said and server.password not in said and "@localhost" not in said


def deployed(url: str) -> bool:
    """Whether the collection is a deployment by now."""
    request = urllib.request.Request(f"{url}/deployments/filter", b"{}", {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return any(each["name"] == "collect" for each in json.load(answer))


def committed(root: Path) -> bool:
    """Whether the flow has committed the data."""
    return minigraph.run(root, "git", "log", "-1", "--format=%s").startswith("Judgements of ")


@pytest.fixture
def label_studio_project(label_studio, tmp_path, monkeypatch):
    """A repository that knows the server, with projects of its own and one task in the first."""
    secrets = {"LABEL_STUDIO_API_KEY": label_studio.token, "NIGHTSHIFT_ANNOTATOR_SALT": "salt"}
    secrets["NIGHTSHIFT_WEBHOOK_SECRET"] = "s" * 40
    for name, value in {**GIT, **secrets, "PYTHONPATH": str(minigraph.ROOT)}.items():
        monkeypatch.setenv(name, value)
    root = minigraph.make(tmp_path)
    webhook = {"host": "127.0.0.1", "port": 0, "wake_after": 1}
    settle(root, url=label_studio.url, project=f"Wakes {os.getpid()}", webhook=webhook)
    cfg = params.load(root / "params.yaml").labelling
    task = a_task(["The manager is Neil Bell. [2]", "The notes do not say."])
    with connect(cfg.url, label_studio.token, cfg) as studio:
        project = studio.ensure_projects()["compare"]
        studio.add(project, [{**task.data(), **html.shown(task)}])
    return root, label_studio, project
