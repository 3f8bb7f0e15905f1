"""Who hears what a night did: the block and the automations that deploy/notifications.py has made, and whether messages got out.

What params.yaml of the checkout asks for counts, as it does for make up and make deploy. A server that does not answer is
schedule.py's to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from tasks.doctor import schedule
from tasks.doctor.findings import Finding, Place, broken, note, ok, warning
from tasks.doctor.web import NoAnswerError
from tasks.errors import NightshiftError
from tasks.params import Notify, load
from tasks.params.service import About

PREFIX = "nightshift.notify."  # of the automations' names; what each is about follows
BEGUN, SENT, LOST = "prefect.automation.triggered", "prefect.automation.action.executed", "prefect.automation.action.failed"
PATIENCE = timedelta(minutes=2)  # for a message to get out
AGAIN = "make deploy where make up runs; else python -m deploy.notifications"


def messages(place: Place) -> Iterator[Finding]:
    """Block there, automations there and switched on, the last message of each got out."""
    found = schedule.address(place)
    try:
        cfg = load(place.checkout / "params.yaml").notify
        if found is not None:
            yield from _messages(found[0], cfg)
    except (NightshiftError, NoAnswerError):
        return  # other checks say what is wrong with params.yaml, and with the server


def _messages(url: str, cfg: Notify) -> Iterator[Finding]:
    if cfg.block is None:
        yield note("notify.block is null: nobody is told when a night fails (a notification block on Prefect's server tells)")
        return
    kind, _, name = cfg.block.partition("/")
    block = schedule.call(url, f"/block_types/slug/{kind}/block_documents/name/{name}")
    if block.status == 404:
        yield broken(f"notify.block: {cfg.block} is not on Prefect's server: nobody is told what nights did",
                     f"make it there ({url.removesuffix('/api')}/blocks/catalog/{kind}/create, name {name}); then {AGAIN}")
        return
    if block.status != 200 or not isinstance(block.content, dict):
        return
    names = {"automations": {"name": {"any_": [PREFIX + about for about in get_args(About)]}}}
    found = schedule.rows(schedule.call(url, "/automations/filter", names))
    there = {one["name"].removeprefix(PREFIX): one for one in found}
    wrong = list(_wrong(cfg, there, str(block.content["id"])))
    yield from wrong
    lost = list(_lost(url, there))
    yield from lost
    if not wrong and not lost:
        yield ok(f"messages about {', '.join(cfg.about)} go to {cfg.block}")


def _wrong(cfg: Notify, there: dict[str, dict[str, Any]], block: str) -> Iterator[Finding]:
    if absent := [about for about in cfg.about if about not in there]:
        yield warning(f"no automation sends messages about {', '.join(absent)}", AGAIN)
    if more := [about for about in there if about not in cfg.about]:
        yield warning(f"messages about {', '.join(more)} are sent, and notify.about does not ask for them", AGAIN)
    if other := [about for about, one in there.items() if [each.get("block_document_id") for each in one["actions"]] != [block]]:
        yield warning(f"messages about {', '.join(other)} do not go to {cfg.block}", AGAIN)
    for about in (about for about, one in there.items() if not one["enabled"]):
        yield warning(f"messages about {about} are switched off in Prefect",
                      f"prefect automation resume {PREFIX}{about}, or take it out of notify.about")


def _lost(url: str, there: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """Those whose last message did not get out. Why, the server knows; that may hold the webhook's address, and is not told here.

    A block that raises an error of its own (custom-webhook does) leaves no word of failure, only no word of success.
    """
    for about, one in there.items():
        asked = {"event": {"name": [BEGUN, SENT, LOST]}, "resource": {"id": [f"prefect.automation.{one['id']}"]}, "order": "DESC"}
        answer = schedule.call(url, "/events/filter", {"filter": asked, "limit": 1})
        for last in answer.content.get("events", []) if isinstance(answer.content, dict) else []:
            when = datetime.fromisoformat(last["occurred"])
            if last["event"] == LOST or (last["event"] == BEGUN and datetime.now(UTC) - when > PATIENCE):
                yield warning(f"the last message about {about} did not get out ({when:%Y-%m-%d %H:%M} UTC)",
                              f"look at the block, and at the log of Prefect's server ({schedule.UP}/prefect.log with make up)")
