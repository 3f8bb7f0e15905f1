"""Who hears what a night did: automations of Prefect's server that send messages, by a notification block of the team's.

    python -m deploy.notifications        as section notify of params.yaml says; again changes nothing

`make up`, `make deploy` and nightshift-deploy (containers) do it. The server sends, not the run: one that was killed tells
nothing. What is secret (a webhook's address, a key) only the server's block knows.

    failed      a run of deploy/prefect.yaml has Failed, TimedOut or Crashed; one that was cancelled is nobody's news
    waiting     a run pauses to ask whether a release may go live (nightly.approval: manual)
    held_back   the gate refuses a candidate, or new documents (flows/events.py)
    released    a release is live: by a night, an answer, new documents, a rollback (flows/events.py)
    missing     no run of flow nightly has completed for missing_hours; said again after twice as long

An automation is ours by its name. It stays switched off where a person has switched it off; all else in it is put right.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, get_args
from uuid import UUID

import httpx
import yaml

from tasks import environment

environment.apply()

from prefect.client.orchestration import SyncPrefectClient, get_client  # noqa: E402  (reads its environment when imported)
from prefect.events import AutomationCore, EventTrigger  # noqa: E402
from prefect.events.actions import SendNotification  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect.settings import get_current_settings  # noqa: E402

from flows import server  # noqa: E402
from flows.events import HELD_BACK, MOST, RELEASED  # noqa: E402
from tasks.errors import NightshiftError, ServiceError  # noqa: E402
from tasks.params import Notify, load  # noqa: E402
from tasks.params.service import About  # noqa: E402

PREFIX = "nightshift.notify."  # of an automation's name; what it is about follows
OURS = "Kept by make up and make deploy: section notify of params.yaml."
PLAN = Path("deploy/prefect.yaml")
FLOWS = ["nightly", "collect", "label", "reindex", "promote", "rollback"]  # as deployments of them are named, too

# What others write (names of files, a stage's last words, a person's comment) may hold what a chat takes for a mention or a
# link, or a webhook's block for the name of one of its own secrets. These look like it and are not.
HARMLESS = {"{": "(", "}": ")", "[": "(", "]": ")", "<": "‹", ">": "›", "@": "＠", "`": "´",
            **dict.fromkeys("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", "")}  # fmt: skip
TABLE = f"{{{', '.join(f'{ord(char)}: {instead!r}' for char, instead in HARMLESS.items())}}}"


def shown(value: str, most: int) -> str:
    """The part of a template that shows an expression's value: as one line, cut, and harmless."""
    return f"{{{{ ((({value}) or '') | string).translate({TABLE}).split() | join(' ') | truncate({most}, true, '…', 0) }}}}"


NAME, SAID, LINK = shown("event.resource.name", 80), shown("event.payload.said", MOST), "{{ flow_run | ui_url or '' }}"
STATE, DEPLOYMENT = shown("event.resource['prefect.state-name']", 20), shown("event.resource_in_role.deployment.name", 40)
WHY = shown("(event.resource['prefect.state-message'] or '').replace('Flow run encountered an exception: ', '')", 700)


class Message(NamedTuple):
    """When something is said, and what."""

    trigger: EventTrigger
    subject: str
    body: str


def messages(cfg: Notify, deployments: Sequence[str]) -> dict[About, Message]:
    """Of each kind. `deployments`: names of those whose failures are told."""
    hours, runs = f"{cfg.missing_hours:g}", [_related("deployment", list(deployments)), _related("flow", FLOWS)]
    failures = {f"prefect.flow-run.{state}" for state in ("Failed", "TimedOut", "Crashed")}
    apart = {"related:deployment:prefect.resource.id", "prefect.state-type"} if cfg.quiet_hours else set()
    nights = {"expect": {"prefect.flow-run.Completed"}, "match_related": _related("flow", "nightly")}
    releases = {"match": {"prefect.resource.id": "nightshift.release.*"}}
    return {
        "failed": Message(
            _at_once(failures, match_related=runs, for_each=apart, within=_seconds(cfg.quiet_hours)),
            f"{DEPLOYMENT}: {STATE}",
            f"Run {NAME}: {WHY}\n{LINK}",
        ),
        "waiting": Message(
            _at_once({"prefect.flow-run.Paused"}, match_related=_related("flow", "promote")),
            "a release waits for approval",
            f"{NAME} Resume on the run's page opens the form.\n{LINK}",
        ),
        "held_back": Message(_at_once({HELD_BACK}, **releases), f"{NAME} is held back by the gate", f"{SAID}\n{LINK}"),
        "released": Message(_at_once({RELEASED}, **releases), f"{NAME} is live", f"{SAID}\n{LINK}"),
        "missing": Message(  # `after` begins the time anew with each night; without it, windows follow each other blindly
            EventTrigger(posture="Proactive", within=max(_seconds(cfg.missing_hours), timedelta(seconds=10)),
                         after=nights["expect"], **nights),
            f"no night for {hours} hours",
            f"No run of nightly has completed for {hours} hours"
            "{% if event %}; the last one did {{ event.occurred.strftime('%Y-%m-%d %H:%M') }} UTC{% endif %}. "
            "nightshift doctor looks at server, worker and schedule.\n{{ deployment | ui_url or '' }}",
        ),
    }  # fmt: skip


def _at_once(events: set[str], **rest: Any) -> EventTrigger:
    return EventTrigger(expect=events, posture="Reactive", threshold=1, **rest)


def _related(role: str, names: str | list[str]) -> dict[str, str | list[str]]:
    return {"prefect.resource.role": role, "prefect.resource.name": names}


def _seconds(hours: float) -> timedelta:
    return timedelta(seconds=round(hours * 3600))  # whole ones: what the server gives back is compared with this


def automations(cfg: Notify, block: UUID, deployments: Sequence[str]) -> dict[str, AutomationCore]:
    """What is to be on the server, by name."""
    found = {}
    for kind in (kind for kind in get_args(About) if kind in cfg.about):
        trigger, subject, body = messages(cfg, deployments)[kind]
        action = SendNotification(block_document_id=block, subject=f"Nightshift: {subject}", body=body)
        found[PREFIX + kind] = AutomationCore(name=PREFIX + kind, description=OURS, trigger=trigger, actions=[action])
    return found


def settle(client: SyncPrefectClient, cfg: Notify, deployments: Sequence[str], pages: str) -> list[str]:
    """Bring the server to it, and take away what is not wanted any more; a line on what people will hear.

    `pages`: address of Prefect's pages. ServiceError, with nothing changed, where the block is not there or is of another kind.
    """
    wanted = automations(cfg, _block(client, cfg.block, pages), deployments) if cfg.block else {}
    for name in (PREFIX + kind for kind in get_args(About)):
        first, *others = [*client.read_automations_by_name(name), None]
        for one in filter(None, others if name in wanted else [first, *others]):
            client.delete_automation(one.id)
        if name not in wanted:
            continue
        if first is None:
            client.create_automation(wanted[name])
            continue
        right = wanted[name].model_copy(update={"enabled": first.enabled})
        if right.model_dump() != first.model_dump(exclude={"id"}):  # for an update begins all waiting anew
            client.update_automation(first.id, right)
    if not wanted:
        return ["nobody is told what nights did: notify in params.yaml says who would be"]
    return [f"messages about {', '.join(name.removeprefix(PREFIX) for name in wanted)} go to {cfg.block}"]


def _block(client: SyncPrefectClient, named: str, pages: str) -> UUID:
    kind, _, name = named.partition("/")
    asked = {"block_schemas": {"block_capabilities": {"all_": ["notify"]}}}
    kinds = sorted({one["block_type"]["slug"] for one in client.request("POST", "/block_schemas/filter", json=asked).json()})
    if kind not in kinds:
        raise ServiceError("notify.block", f"{kind} is no kind of notification block there", f"take one of {', '.join(kinds)}")
    try:
        return client.read_block_document_by_name(name, kind, include_secrets=False).id
    except ObjectNotFound:
        raise ServiceError("notify.block", f"there is no block {named} on Prefect's server",
                           f"make it there ({pages}/blocks/catalog/{kind}/create, name {name}), then the same again") from None


def deployed(root: Path) -> list[str]:
    """Names of the deployments in deploy/prefect.yaml."""
    return [one["name"] for one in yaml.safe_load((root / PLAN).read_text(encoding="utf-8"))["deployments"]]


def main() -> int:
    """Entry point; exit code 0, or 1 with one line on stderr."""
    try:
        cfg = load(Path("params.yaml")).notify
        server.need_lasting("messages are sent by a server that stays")
        with get_client(sync_client=True) as client:
            for line in settle(client, cfg, deployed(Path.cwd()), get_current_settings().ui_url or ""):
                print(line)
    except (NightshiftError, httpx.HTTPError) as error:
        print(f"notifications: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
