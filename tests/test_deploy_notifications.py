"""Who hears what a night did: a server of `make up` that sends to a webhook on loopback. The words: test_deploy_messages.py."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.server.events.schemas.events import ReceivedEvent

from deploy import notifications
from tasks import home, params, promote, records
from tasks.params.service import About
from tests import minigraph
from tests.test_deploy_messages import NAMES, NASTY, of_run
from tests.up_fixtures import Up, block, commit, running
from tests.waiting import until

pytestmark = pytest.mark.service
TOKEN = "geheim-4711"


class Ears:
    """A receiver of webhooks on loopback, and what it has heard."""

    def __init__(self) -> None:
        """Listens at a free port."""
        heard = self.heard = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def hear(self, subject: str) -> str:
        """The text of the first message not yet asked for whose subject has this; waits for it."""
        found = until(lambda: [one for one in self.heard if subject in one["subject"]], lambda: (subject, self.heard))
        self.heard.remove(found[0])
        return found[0]["text"]


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Up]:
    """A checkout that is up; nobody is told anything yet."""
    with running(tmp_path_factory.mktemp("notified")) as made:
        yield made


@pytest.fixture(scope="module")
def ears(here) -> Iterator[Ears]:
    """The team's block is on the server and leads here; each failure is told."""
    ears = Ears()
    block(here.api, "custom-webhook/team", name="team", url=f"http://127.0.0.1:{ears.server.server_port}/",
          secrets={"token": TOKEN}, json_data={"subject": "{{subject}}", "text": "{{body}} by {{token}}"})  # fmt: skip
    said = deploy(here, block="custom-webhook/team", quiet_hours=0)
    assert "messages about failed, waiting, held_back, released, missing go to custom-webhook/team" in said and TOKEN not in said
    yield ears
    ears.server.shutdown()
    ears.server.server_close()


def deploy(here: Up, check: bool = True, **notify: Any) -> str:
    """What `make deploy` says with these parameters."""
    file = here.checkout / "params.yaml"
    content = yaml.safe_load(file.read_text())
    content["notify"] |= notify
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    return here.make("deploy", "--port", str(here.port), check=check)


def settle(here: Up, **notify: Any) -> None:
    """The same on messages alone, which takes no time."""
    cfg = params.load(here.checkout / "params.yaml").notify.model_copy(update=notify)
    with SyncPrefectClient(f"http://127.0.0.1:{here.port}/api", httpx_settings={"trust_env": False}) as client:
        notifications.settle(client, cfg, NAMES, "")


def automations(here: Up) -> dict[str, dict[str, Any]]:
    """What the server has of ours, by kind; and a person's own."""
    found = {one["name"].removeprefix(notifications.PREFIX): one for one in here.api.post("/automations/filter", json={}).json()}
    return {name: one for name, one in found.items() if name in (*get_args(About), "theirs")}


def begin(here: Up, data: str) -> str:
    """Ask for a night with this in its data and with what the checkout has; the run."""
    (here.checkout / "data/e.txt").write_text(data)
    minigraph.dvc(here.checkout, "add", "--quiet", "data")
    commit(here.checkout, ".")
    return here.start("nightly", push=False).json()["id"]


def night(here: Up, data: str) -> str:
    """The same to its end; the page of its run."""
    run = begin(here, data)
    assert here.wait(run)["type"] == "COMPLETED", here.told(run)
    return f"http://127.0.0.1:{here.port}/runs/flow-run/{run}"


def post(here: Up, event: ReceivedEvent) -> None:
    """An event as if it were now; ids of deployments by their names."""
    sent = event.model_dump(mode="json", exclude={"received"}) | {"occurred": datetime.now(UTC).isoformat()}
    for one in sent["related"]:
        one["prefect.resource.id"] = f"prefect.{one['prefect.resource.role']}.{one['prefect.resource.name']}"
    assert here.api.post("/events", json=[sent]).is_success


def test_a_block_that_is_not_there_is_said_before_anything_changes(here):
    """With the page that makes one; what is deployed stays as it was."""
    before = here.api.get("/deployments/name/nightly/nightly").json()["updated"]
    for named, said in (("slack-webhook/team", f"127.0.0.1:{here.port}/blocks/catalog/slack-webhook/create"),
                        ("slack/team", "take one of custom-webhook, ")):  # fmt: skip
        told = deploy(here, False, block=named)
        assert "make deploy: notify.block: " in told and said in told
    assert here.api.get("/deployments/name/nightly/nightly").json()["updated"] == before
    assert automations(here) == {}


def test_automations_are_kept_and_a_persons_own_are_left_alone(here, ears):
    """Again changes nothing; switched off stays off; what was changed in it is put right."""
    trigger = {"type": "event", "posture": "Reactive", "expect": ["x"]}
    theirs = {"name": "theirs", "trigger": trigger, "actions": [{"type": "do-nothing"}]}
    assert here.api.post("/automations/", json=theirs).status_code == 201
    before = automations(here)
    assert before.keys() == {*get_args(About), "theirs"}
    deploy(here)
    assert automations(here) == before
    mine = before["waiting"]
    changed = {**{key: mine[key] for key in ("name", "trigger", "actions")}, "description": "mine", "enabled": False}
    assert here.api.put(f"/automations/{mine['id']}", json=changed).is_success
    settle(here)
    after = automations(here)["waiting"]
    assert (after["id"], after["enabled"], after["description"]) == (mine["id"], False, mine["description"])
    here.api.patch(f"/automations/{mine['id']}", json={"enabled": True})
    assert automations(here)["theirs"] == before["theirs"]


def test_a_release_is_told_with_its_run(here, ears):
    """By a night; with no other release before it."""
    page = night(here, "more milk\n")
    live = records.live(here.checkout / home.FOLDER)
    assert ears.hear(f"Nightshift: {live} is live") == f"{live} is live, by a night\n{page} by {TOKEN}"


def test_a_person_is_called_to_decide(here, ears):
    """approval: manual. One message that a run waits, one that the release is live and who said so."""
    file = here.checkout / "params.yaml"
    before = file.read_text()
    file.write_text(before.replace("approval: auto", "approval: manual"))
    night(here, "cream\n")
    file.write_text(before)
    commit(here.checkout, "params.yaml")
    said = ears.hear("Nightshift: a release waits for approval")
    asking = re.search(r"^may ([0-9a-f]{8}) go live\? Resume on the run's page opens the form\.\n\S+/flow-run/(\S+) by", said)
    answer = {"run_input": {"decision": "approve", "comment": "{{ token }} <@all>", "name": "Anna"}}
    assert here.api.post(f"/flow_runs/{asking[2]}/resume", json=answer).json()["status"] == "ACCEPT"
    heard = ears.hear(f"{asking[1]} is live")
    assert re.match(rf"\S+-{asking[1]} is live, approved by Anna \(\(\( token \)\) ‹＠all›\)\n\S+/flow-run/{asking[2]} by", heard)
    assert heard.count(TOKEN) == 1


def test_going_back_is_told_also_where_the_shell_did_it_and_so_is_a_refusal(here, ears):
    """At once by the deployment; by the next night where no flow was there to say it, beside the gate's reasons."""
    root = here.checkout / home.FOLDER
    left = records.live(root)
    assert here.wait(here.start("rollback").json()["id"])["type"] == "COMPLETED"
    live = records.live(root)
    assert ears.hear(f"{live} is live").startswith(f"{live} is live, rolled back from {left}\n")
    with contextlib.chdir(root):
        promote.rollback(root, datetime.now(UTC), left)
    page = night(here, "hold\n")
    assert ears.hear(f"{left} is live").startswith(f"{left} is live, by the shell, or by a run that was ended before it could")
    name = records.candidate(root)[0][:8]
    said = f"Candidate {name} is held back: the milk. {left} stays live\n{page} by {TOKEN}"
    assert ears.hear(f"Nightshift: {name} is held back by the gate") == said


def test_a_night_that_fails_and_one_that_is_killed(here, ears):
    """Why, as the stage has said it; and what the worker says of a run that has died. Nothing else was said all the while."""
    stage, root = here.checkout / "stage.py", here.checkout / home.FOLDER
    before = stage.read_text()
    stage.write_text(before.replace('f"{name}: data/a.txt: is sour; take fresh milk"', repr(NASTY)).replace(
        'os.environ.get("MINI_FAIL", "")', '"sft"'))
    run = begin(here, "sour\n")
    assert here.wait(run)["type"] == "FAILED"
    said = ears.hear("Nightshift: nightly: Failed")
    assert re.match(r"Run [a-z-]+: .*stage sft: .*\(\( token \)\) \(% for %\)", said) and said.endswith(f"{run} by {TOKEN}"), said
    stage.write_text(before)
    (root / ".nightshift/sleep").write_text("sft=60")
    run = begin(here, "killed\n")
    until(lambda: any("stage.py sft" in command for command in here.processes().values()), lambda: here.told(run))
    os.kill(int(here.api.get(f"/flow_runs/{run}").json()["infrastructure_pid"]), signal.SIGKILL)
    said = ears.hear("Nightshift: nightly: Crashed")
    assert "exited with status code: -9" in said and said.endswith(f"{run} by {TOKEN}"), said
    (root / ".nightshift/sleep").unlink()
    assert ears.heard == []


def test_what_fails_again_and_again_is_told_once_in_a_while(here, ears):
    """quiet_hours: of two failures of a deployment the first; another one's, and a crash, are told as well."""
    settle(here, quiet_hours=1)
    for name, state in (("reindex", "Failed"), ("reindex", "Failed"), ("collect", "Failed"), ("reindex", "Crashed")):
        post(here, of_run(state, name, name))
    for subject in ("reindex: Failed", "collect: Failed", "reindex: Crashed"):
        ears.hear(f"Nightshift: {subject}")
    assert ears.heard == []


def test_a_missing_night_is_told_and_nothing_where_nobody_wants_to_hear(here, ears):
    """Ten seconds are the least that the server takes; a night in between begins them anew. Then the block is taken out: ours
    go, a person's own stays."""
    settle(here, about=["missing"], missing_hours=0.003)
    time.sleep(6)
    began = time.monotonic()
    post(here, of_run("Completed"))
    said = ears.hear("Nightshift: no night for 0.003 hours")
    assert time.monotonic() - began > 10
    assert said.startswith("No run of nightly has completed for 0.003 hours; the last one did 20")
    assert automations(here).keys() == {"missing", "theirs"}
    settle(here, block=None)
    assert automations(here).keys() == {"theirs"}
