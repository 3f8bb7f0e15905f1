"""`make up` for real: supervisord, a Prefect server, a worker, and nights of the small graph that they start."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from deploy import up
from tasks import git, home, params, records
from tests import browser, minigraph
from tests.up_fixtures import commit, running
from tests.waiting import PATIENCE, until

ROOT = Path(__file__).parent.parent
DEPLOYMENTS = yaml.safe_load((ROOT / "deploy/prefect.yaml").read_text())["deployments"]


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A checkout that is up."""
    with running(tmp_path_factory.mktemp("up")) as made:
        yield made


def test_the_settings_name_what_there_is(tmp_path):
    """Programs by params.yaml; a percent sign and a space in a path survive; Label Studio elsewhere is not started here."""
    cfg = params.load(ROOT / "params.yaml")
    there = home.Home(tmp_path / "a 100%/home", tmp_path / "a 100%", "main")
    assert [one.name for one in up.programs(there, cfg, 4200)] == ["prefect", "worker", "label-studio"]
    labelled = cfg.labelling.model_copy(update={"url": "https://labels.example.org"})
    found = list(up.programs(there, cfg.model_copy(update={"labelling": labelled}), 4200))
    assert [one.name for one in found] == ["prefect", "worker", "receiver"]
    text = up.settings(there.checkout / up.FOLDER, found)
    assert re.findall(r"^\[program:(.+)\]$", text, re.MULTILINE) == ["prefect", "worker", "receiver"]
    assert f"directory={tmp_path}/a 100%%/home\n" in text and "autorestart=true" in text


def test_every_deployment_has_what_a_person_needs():
    """The six flows; a description and tags; entrypoints that exist; the second nightly is refused, a collection waits."""
    assert [one["name"] for one in DEPLOYMENTS] == ["nightly", "collect", "label", "reindex", "promote", "rollback"]
    for one in DEPLOYMENTS:
        module, _, function = one["entrypoint"].rpartition(".")
        assert f"def {function}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()
        assert one["description"] and one["tags"] and one["work_pool"]["name"] == up.POOL
    strategy = {one["name"]: one.get("concurrency_limit", {}).get("collision_strategy") for one in DEPLOYMENTS}
    assert strategy["nightly"] == "CANCEL_NEW" and strategy["collect"] == "ENQUEUE"


@pytest.mark.service
def test_a_night_from_the_form_runs_in_the_home(here):
    """What is wrong is refused by the server; what is uncommitted in the checkout, and a second night, do not meet it."""
    assert here.start("nightly", stages=["sfft"]).status_code == here.start("nightly", parallel=99).status_code == 409
    (here.checkout / "stage.py").write_text("raise SystemExit('a person is at work here')\n")
    first, second = (here.start("nightly", push=False, parallel=1).json()["id"] for _ in range(2))
    assert sorted([here.wait(first)["type"], here.wait(second)["type"]]) == ["CANCELLED", "COMPLETED"]
    root = here.checkout / home.FOLDER
    assert records.live(root) and records.live(here.checkout) is None
    assert git.branch(here.checkout) == "main" and git.dirty(here.checkout) == ["stage.py"]
    assert git.log(root, "nights")[0].subject == f"Release {records.live(root)}"
    minigraph.run(here.checkout, "git", "checkout", "--quiet", "stage.py")
    for quiet in ("collect", "reindex", "rollback"):  # hourly with nobody who labels; nothing new; nothing to go back to
        run = here.start(quiet).json()["id"]
        assert here.wait(run)["type"] == ("FAILED" if quiet == "rollback" else "COMPLETED"), here.told(run)


@pytest.mark.service
@pytest.mark.skipif(browser.program() is None, reason=f"tier service: no browser here ({', '.join(browser.PROGRAMS)})")
def test_a_person_starts_a_night_in_the_page_and_watches_it(here):
    """A value out of bounds is refused in words; the night then shows its stages as tasks, their lines, and what came out."""
    from playwright.sync_api import sync_playwright

    (here.checkout / "data/e.txt").write_text("from the page\n")
    minigraph.dvc(here.checkout, "add", "--quiet", "data")
    commit(here.checkout, "data.dvc")
    number = here.api.get("/deployments/name/nightly/nightly").json()["id"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.program(), args=["--no-sandbox"])
        page = chromium.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(f"http://127.0.0.1:{here.port}/deployments/deployment/{number}/run")
        name = page.locator("input[type=text]").first.input_value()
        submit = page.get_by_role("button", name="Submit")
        page.locator("input[type=number]").fill("99")
        submit.click()
        page.get_by_text("99 is greater than the maximum of 16").first.wait_for()
        page.locator("input[type=number]").fill("1")
        asked = {"flow_runs": {"name": {"any_": [name]}}}
        while not (found := here.api.post("/flow_runs/filter", json=asked).json()):
            submit.click()  # as a person does when SQLite was locked
            with contextlib.suppress(AssertionError):
                until(lambda: here.api.post("/flow_runs/filter", json=asked).json(), seconds=30)
        run = found[0]["id"]
        page.goto(f"http://127.0.0.1:{here.port}/runs/flow-run/{run}")
        for line in ("took in 1 commit of main", "sft: has begun"):
            page.get_by_text(line).first.wait_for()
        live = r"release: \S+ is live"
        assert here.wait(run)["type"] == "COMPLETED" and re.search(live, here.told(run, live))
        page.get_by_text("Task Runs", exact=True).first.click()
        page.get_by_text("evaluate", exact=True).first.wait_for()
        page.get_by_text("Artifacts", exact=True).last.click()
        page.get_by_text("nightly-figures").first.wait_for()
        chromium.close()


@pytest.mark.service
def test_a_person_is_asked_by_a_run_of_its_own(here):
    """approval: manual, committed in the checkout. The night ends; another run waits with the form; an answer makes it live."""
    root = here.checkout / home.FOLDER
    before = records.live(root)
    text = (here.checkout / "params.yaml").read_text()
    (here.checkout / "params.yaml").write_text(text.replace("approval: auto", "approval: manual"))
    (here.checkout / "data/c.txt").write_text("cream\n")
    minigraph.dvc(here.checkout, "add", "--quiet", "data")
    commit(here.checkout, "params.yaml", "data.dvc")
    run = here.start("nightly", push=False).json()["id"]
    assert here.wait(run)["type"] == "COMPLETED" and records.live(root) == before
    line = r"approval: asked for in run .+/flow-run/(\S+)"
    asking = re.search(line, here.told(run, line))[1]
    assert re.search(r"took in \d+ commits? of main", here.told(run))
    assert here.wait(asking, "PAUSED")["type"] == "PAUSED"
    said = {"decision": "approve", "comment": "fine", "name": "A"}
    answer = here.api.post(f"/flow_runs/{asking}/resume", json={"run_input": said})
    assert answer.json()["status"] == "ACCEPT"
    assert here.wait(asking)["name"] == "Approved" and records.live(root) != before
    (here.checkout / "params.yaml").write_text(text)
    commit(here.checkout, "params.yaml")


@pytest.mark.service
@pytest.mark.parametrize("stage", ["sft", "release"])
@pytest.mark.parametrize("victim", ["prefect worker", "prefect server", "the flow"])
def test_kill_9_in_the_middle_and_the_next_night_finishes(here, victim, stage):
    """Of worker, server, flow (of more: tests/test_recovery.py): supervisord brings back its own, the next night ends with a
    release, and no process of the killed one is left."""
    root = here.checkout / home.FOLDER
    with (here.checkout / "data/d.txt").open("a") as file:
        file.write(f"{victim} in {stage}\n")
    minigraph.dvc(here.checkout, "add", "--quiet", "data")
    commit(here.checkout, "data.dvc")
    before = records.live(root)
    (root / ".nightshift").mkdir(exist_ok=True)
    (root / ".nightshift/sleep").write_text(f"{stage}=8")
    run = here.start("nightly", push=False).json()["id"]
    until(lambda: any(f"stage.py {stage}" in command for command in here.processes().values()), lambda: here.told(run))
    flow = int(here.api.get(f"/flow_runs/{run}").json()["infrastructure_pid"])
    os.kill(flow if victim == "the flow" else here.one(victim), signal.SIGKILL)
    (root / ".nightshift/sleep").unlink()

    def through() -> bool:  # not while the server is down, and not while the killed night still ends
        with contextlib.suppress(httpx.HTTPError, KeyError):
            return here.night(push=False)["type"] == "COMPLETED" and records.live(root) != before
        return False

    until(through)
    assert git.dirty(root) == []
    left = [command for command in here.processes().values() if "stage.py" in command]
    assert left == [] and len([c for c in here.processes().values() if "worker start" in c and "guard.py" not in c]) == 1


@pytest.mark.service
def test_missed_nights_are_made_up_for_once(here):
    """Three that were due while nobody worked: one runs, the others are cancelled, and one release comes of it."""
    root = here.checkout / home.FOLDER
    (here.checkout / "data/f.txt").write_text("while nobody worked\n")
    minigraph.dvc(here.checkout, "add", "--quiet", "data")
    commit(here.checkout, "data.dvc")
    known = len(records.records(root))
    os.kill(here.one("prefect worker"), signal.SIGSTOP)
    number = here.api.get("/deployments/name/nightly/nightly").json()["id"]
    runs = []
    for days in (3, 2, 1):
        due = (datetime.now(UTC) - timedelta(days=days)).isoformat()
        state = {"type": "SCHEDULED", "name": "Late", "state_details": {"scheduled_time": due}}
        body = {"parameters": {"options": {"push": False}}, "state": state}
        runs.append(here.api.post(f"/deployments/{number}/create_flow_run", json=body).json()["id"])
    os.kill(here.one("prefect worker"), signal.SIGCONT)
    assert sorted(here.wait(run)["type"] for run in runs) == ["CANCELLED", "CANCELLED", "COMPLETED"]
    assert len(records.records(root)) == known + 1


@pytest.mark.service
def test_nights_can_run_on_another_machine(here):
    """A pool of its own in prefect.yaml: make deploy makes it, another worker takes the nights, the rest stays here."""
    plan, root = here.checkout / "deploy/prefect.yaml", here.checkout / home.FOLDER
    text = plan.read_text()
    plan.write_text(text.replace("work_pool: *pool", "work_pool: {<<: *pool, name: nightshift-gpu}", 1))
    commit(here.checkout, "deploy/prefect.yaml")
    here.make("deploy", "--port", str(here.port))
    api = f"http://127.0.0.1:{here.port}/api"
    env = minigraph.environment(PREFECT_API_URL=api, NIGHTSHIFT_HOME=str(root), PYTHONPATH=str(root))
    with subprocess.Popen([sys.executable, "-m", "deploy.worker", "nightshift-gpu"], cwd=root, env=env) as worker:
        try:
            night, rest = here.start("nightly", push=False).json()["id"], here.start("label").json()["id"]
            assert here.wait(night)["type"] == "COMPLETED", here.told(night)
            here.wait(rest)
            found = [here.api.get(f"/flow_runs/{run}").json()["work_pool_name"] for run in (night, rest)]
            assert found == ["nightshift-gpu", up.POOL]
        finally:
            worker.kill()  # it has nothing to do: asked to end, it waits for what it believes to run
    plan.write_text(text)
    commit(here.checkout, "deploy/prefect.yaml")
    here.make("deploy", "--port", str(here.port))


@pytest.mark.service
def test_down_ends_all_of_it_and_nothing_else(here):
    """Also when supervisord is killed: its programs end with it. `make up` then starts again where it was."""
    other = subprocess.Popen(["sleep", "60"])
    try:
        assert len(here.processes()) >= 4
        supervisord = int((here.checkout / up.FOLDER / "supervisord.pid").read_text())
        os.kill(supervisord, signal.SIGKILL)
        until(lambda: not here.processes(), here.processes)
        assert here.make("status").strip() == here.make("down").strip() == "nothing runs here"
        here.make("up", "--port", str(here.port), "--without", "label-studio")
        assert here.make("status").count("RUNNING") == 2
        assert here.api.get("/deployments/name/nightly/nightly").status_code == 200
        assert "all of it has ended" in here.make("down") and here.processes() == {}
        assert other.poll() is None
        assert "branch nights has what was committed there" in here.make("leave")
        assert home.of(here.checkout) == here.checkout
    finally:
        other.kill()
        other.wait()
