"""Who hears what a night did: the messages' triggers and text, and a real server that sends them to a webhook on loopback."""

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
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.server.events.jinja_filters import all_filters
from prefect.server.events.schemas.automations import AutomationCreate
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import register_user_template_filters, render_user_template_sync

from deploy import notifications
from flows import events
from tasks import home, params, promote, records
from tasks.params.service import About
from tests import minigraph
from tests.up_fixtures import Up, block, commit, running

ROOT = Path(__file__).parent.parent
NAMES = notifications.deployed(ROOT)
TOKEN = "geheim-4711"
NASTY = "sft: {{ token }} {% for %}\n<!channel> @here [free](http://evil.example) `rm` \u202egnp.exe "


def on_server(**changes: Any) -> dict[str, AutomationCreate]:
    """What a server makes of the automations, by kind."""
    cfg = params.load(ROOT / "params.yaml").notify.model_copy(update=changes)
    made = notifications.automations(cfg, uuid4(), NAMES)
    return {name.removeprefix(notifications.PREFIX): AutomationCreate.model_validate(one.model_dump(mode="json"))
            for name, one in made.items()}  # fmt: skip


def of_run(state: str, flow: str = "nightly", deployment: str | None = "nightly", message: str | None = "why") -> ReceivedEvent:
    """The server's event on a run that has gone into a state."""
    id, related = uuid4(), {"flow": flow, **({"deployment": deployment} if deployment else {})}
    return ReceivedEvent(
        id=id, occurred=datetime(2026, 11, 24, 2, 5, tzinfo=UTC), event=f"prefect.flow-run.{state}",
        resource={"prefect.resource.id": f"prefect.flow-run.{id}", "prefect.resource.name": "odd-owl",
                  "prefect.state-name": state, "prefect.state-type": state.upper(),
                  **({"prefect.state-message": message} if message is not None else {})},
        related=[{"prefect.resource.id": f"prefect.{role}.{uuid4()}", "prefect.resource.role": role,
                  "prefect.resource.name": name} for role, name in related.items()])  # fmt: skip


def of_ours(event: str, said: str, name: str = "2026-11-24-0123abcd") -> ReceivedEvent:
    """An event of flows/events.py."""
    resource = {"prefect.resource.id": f"nightshift.release.{name}", "prefect.resource.name": name}
    return ReceivedEvent(id=uuid4(), occurred=datetime.now(UTC), event=event, payload={"said": said}, resource=resource)


def text(kind: str, event: ReceivedEvent | None, **changes: Any) -> tuple[str, str]:
    """Subject and body, as the server renders them."""
    register_user_template_filters(all_filters)
    action = on_server(**changes)[kind].actions[0]
    return tuple(render_user_template_sync(part, {"event": event}).strip() for part in (action.subject, action.body))


def test_automations_are_those_asked_for_and_a_server_takes_them():
    """A kind each, by fixed names; the least that a server takes for a missing night; each failure where none is to be quiet."""
    assert list(on_server()) == list(get_args(About)) == params.load(ROOT / "params.yaml").notify.about
    assert list(on_server(about=["released", "failed"])) == ["failed", "released"]
    assert on_server(missing_hours=0.001)["missing"].trigger.within.total_seconds() == 10
    assert on_server()["failed"].trigger.within.total_seconds() == 6 * 3600 and on_server()["failed"].trigger.for_each
    assert on_server(quiet_hours=0)["failed"].trigger.immediate and not on_server(quiet_hours=0)["failed"].trigger.for_each


@pytest.mark.parametrize("event, kinds", [
    (of_run("Failed"), {"failed"}), (of_run("Crashed", "reindex", "reindex"), {"failed"}), (of_run("TimedOut"), {"failed"}),
    (of_run("Cancelled"), set()),
    (of_run("Failed", deployment=None), set()),                 # by hand: somebody sits before it
    (of_run("Failed", "nightly", "theirs"), set()), (of_run("Failed", "theirs", "nightly"), set()),
    (of_run("Completed"), {"missing"}), (of_run("Completed", deployment=None), {"missing"}),
    (of_run("Completed", "reindex", "reindex"), set()),
    (of_run("Paused", "promote", "promote"), {"waiting"}), (of_run("Paused"), set()),
    (of_ours(events.RELEASED, "x"), {"released"}), (of_ours(events.HELD_BACK, "x"), {"held_back"}),
    (of_ours("nightshift.judgements", "x"), set()),
])  # fmt: skip
def test_each_event_is_the_business_of_the_right_automation(event, kinds):
    """By the server's own matching."""
    assert {kind for kind, one in on_server().items() if one.trigger.covers(event)} == kinds


def test_deployments_are_named_as_their_flows():
    """A failure is ours where both names are; who adds a deployment of such a flow hears of it too."""
    plan = yaml.safe_load((ROOT / notifications.PLAN).read_text())["deployments"]
    names = set()
    for one in plan:
        module, _, function = one["entrypoint"].rpartition(".")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        name = re.search(rf'@flow\(name=(\S+?),[^\n]*\ndef {function}\(', source)[1]
        names.add(re.search(r'^NAME = "(\w+)"', source, re.MULTILINE)[1] if name == "NAME" else name.strip('"'))
    assert names == set(notifications.FLOWS) and notifications.deployed(ROOT) == [one["name"] for one in plan]


def test_what_the_messages_say():
    """Which deployment, what happened, why."""
    failed = text("failed", of_run("Failed", message="Flow run encountered an exception: stage sft: data/a.txt: is sour"))
    assert failed == ("Nightshift: nightly: Failed", "Run odd-owl: stage sft: data/a.txt: is sour")
    said = "2026-11-24-0123abcd is live, by a night (before: 2026-11-23-4567cdef)"
    assert text("released", of_ours(events.RELEASED, said)) == ("Nightshift: 2026-11-24-0123abcd is live", said)
    assert text("held_back", of_ours(events.HELD_BACK, "said", "89ab"))[0] == "Nightshift: 89ab is held back by the gate"
    assert text("missing", None, missing_hours=30)[1].startswith("No run of nightly has completed for 30 hours. nightshift ")
    assert "; the last one did 2026-11-24 02:05 UTC. " in text("missing", of_run("Completed"))[1]


def test_what_others_wrote_does_nothing_in_a_message():
    """No template of the server's or of the block's, mention, link or second line comes of it; it is cut."""
    for subject, body in (text("failed", of_run("Failed", message=NASTY * 30)), text("released", of_ours("x", NASTY * 60, NASTY)),
                          text("failed", of_run("Failed", NASTY, NASTY, message=NASTY))):  # fmt: skip
        assert "((token))" in body.replace(" ", "") and "\n" not in subject + body and len(subject) < 150 and len(body) <= 1500
        assert not set("{}[]<>@`\u202e") & set(subject + body)
    assert text("failed", of_run("Failed", message=NASTY * 30))[1].endswith("…")
    assert text("failed", of_run("Crashed", message=None)) == ("Nightshift: nightly: Crashed", "Run odd-owl:")


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
        end = time.monotonic() + 90
        while not (found := [one for one in self.heard if subject in one["subject"]]):
            assert time.monotonic() < end, (subject, self.heard)
            time.sleep(0.1)
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


@pytest.mark.service
def test_a_block_that_is_not_there_is_said_before_anything_changes(here):
    """With the page that makes one; what is deployed stays as it was."""
    before = here.api.get("/deployments/name/nightly/nightly").json()["updated"]
    for named, said in (("slack-webhook/team", f"127.0.0.1:{here.port}/blocks/catalog/slack-webhook/create"),
                        ("slack/team", "take one of custom-webhook, ")):  # fmt: skip
        told = deploy(here, False, block=named)
        assert "make deploy: notify.block: " in told and said in told
    assert here.api.get("/deployments/name/nightly/nightly").json()["updated"] == before
    assert automations(here) == {}


@pytest.mark.service
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


@pytest.mark.service
def test_a_release_is_told_with_its_run(here, ears):
    """By a night; with no other release before it."""
    page = night(here, "more milk\n")
    live = records.live(here.checkout / home.FOLDER)
    assert ears.hear(f"Nightshift: {live} is live") == f"{live} is live, by a night\n{page} by {TOKEN}"


@pytest.mark.service
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


@pytest.mark.service
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


@pytest.mark.service
def test_a_night_that_fails_and_one_that_is_killed(here, ears):
    """Why, as the stage has said it; and what the worker says of a run that has died. Nothing else was said all the while."""
    stage, root = here.checkout / "stage.py", here.checkout / home.FOLDER
    before = stage.read_text()
    stage.write_text(before.replace('f"{name}: data/a.txt: is sour; take fresh milk"', repr(NASTY)).replace(
        'os.environ.get("MINI_FAIL", "")', '"sft"'))
    run = begin(here, "sour\n")
    assert here.wait(run)["type"] == "FAILED"
    said = ears.hear("Nightshift: nightly: Failed")
    assert re.match(r"Run [a-z-]+: .*stage sft: \(\( token \)\) \(% for %\)", said) and said.endswith(f"{run} by {TOKEN}"), said
    stage.write_text(before)
    (root / ".nightshift/sleep").write_text("sft=60")
    run = begin(here, "killed\n")
    end = time.monotonic() + 120
    while not any("stage.py sft" in command for command in here.processes().values()):
        assert time.monotonic() < end, here.told(run)
        time.sleep(0.1)
    os.kill(int(here.api.get(f"/flow_runs/{run}").json()["infrastructure_pid"]), signal.SIGKILL)
    said = ears.hear("Nightshift: nightly: Crashed")
    assert "exited with status code: -9" in said and said.endswith(f"{run} by {TOKEN}"), said
    (root / ".nightshift/sleep").unlink()
    assert ears.heard == []


@pytest.mark.service
def test_what_fails_again_and_again_is_told_once_in_a_while(here, ears):
    """quiet_hours: of two failures of a deployment the first; another one's, and a crash, are told as well."""
    settle(here, quiet_hours=1)
    for name, state in (("reindex", "Failed"), ("reindex", "Failed"), ("collect", "Failed"), ("reindex", "Crashed")):
        event = of_run(state, name, name).model_dump(mode="json", exclude={"received"})
        event["related"][1]["prefect.resource.id"] = f"prefect.deployment.{name}"
        event["occurred"] = datetime.now(UTC).isoformat()
        assert here.api.post("/events", json=[event]).is_success
    for subject in ("reindex: Failed", "collect: Failed", "reindex: Crashed"):
        ears.hear(f"Nightshift: {subject}")
    assert ears.heard == []


@pytest.mark.service
def test_a_missing_night_is_told_and_nothing_where_nobody_wants_to_hear(here, ears):
    """Ten seconds are the least that the server takes. Then the block is taken out: ours go, a person's own stays."""
    settle(here, about=["missing"], missing_hours=0.003)
    said = ears.hear("Nightshift: no night for 0.003 hours")
    assert said.startswith("No run of nightly has completed for 0.003 hours")
    assert automations(here).keys() == {"missing", "theirs"}
    settle(here, block=None)
    assert automations(here).keys() == {"theirs"}
