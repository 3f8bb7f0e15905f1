"""Messages on nights: which event is told by which automation, and what is said, by the code of Prefect's server itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import pytest
import yaml
from prefect.server.events.jinja_filters import all_filters
from prefect.server.events.schemas.automations import AutomationCreate
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import register_user_template_filters, render_user_template_sync

from deploy import notifications
from flows import events
from tasks import params
from tasks.params.service import About

ROOT = Path(__file__).parent.parent
NAMES = notifications.deployed(ROOT)
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
