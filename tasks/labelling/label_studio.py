"""Label Studio, through its SDK: the only module that talks to the server.

It promises three things. A task is there once: imports are never repeated blindly, for the server itself would take the
same task twice. A change is read: pages are cut by time, not by number, so that a judgement which comes in while we read
moves no other one out of sight. And what goes wrong is said in one line without token, cookie or anybody's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tasks.errors import ServiceError
from tasks.labelling import config, controls, secrets, transport, wire
from tasks.labelling.task import Kind
from tasks.labelling.transport import Trouble
from tasks.labelling.wire import Row
from tasks.params import Labelling

CHUNK = 250  # tasks of one import
PAGE = 500  # tasks of one page, without their annotations
CHANGES = 250  # and with them
HEADER = "X-Nightshift-Secret"
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
Answer = TypeVar("Answer")


def connect(url: str, token: str, cfg: Labelling) -> LabelStudio:
    """A connection that is not used yet. ParamsError for an address that must not get the token."""
    where = transport.address(url)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ServiceError(secrets.TOKEN, "has characters that no token has", "copy it again: Account & Settings in Label Studio")
    return LabelStudio(where, token, cfg)


class LabelStudio:
    """A server, as far as labelling needs it. All errors are ServiceError."""

    def __init__(self, url: str, token: str, cfg: Labelling):
        """See `connect`."""
        from label_studio_sdk import LabelStudio as Client

        self.url, self._cfg = url, cfg
        self._http = transport.client(url, cfg.timeout_seconds)
        # the SDK repeats requests that write, too: its retries are off, ours are in transport.py
        self._client = transport.ask(url, lambda: Client(
            base_url=url, api_key=token, httpx_client=self._http, timeout=cfg.timeout_seconds, max_retries=0), 1, reading=True)

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def __enter__(self) -> LabelStudio:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def find_projects(self) -> dict[Kind, int]:
        """Our projects that are there: kind → id. The oldest counts where several have the title."""
        wanted = {project.title: kind for kind, project in self._wanted().items()}
        found: dict[Kind, int] = {}
        page, seen = 1, 0
        while True:
            rows, count = self._read(lambda page=page: wire.projects(self._client.projects.list(
                page=page, page_size=PAGE, title=self._cfg.project, include="id,title").response))
            for number, title in rows:
                if kind := wanted.get(title):
                    found[kind] = min(number, found.get(kind, number))
            seen, page = seen + len(rows), page + 1
            if not rows or seen >= count:
                return found

    def ensure_projects(self) -> dict[Kind, int]:
        """Our projects: kind → id; made where they are missing, brought up to date where that breaks no judgement."""
        found = self.find_projects()
        for kind, project in self._wanted().items():
            fields = dataclasses.asdict(project)
            if kind not in found:
                found[kind] = self._write(lambda fields=fields: int(self._client.projects.create(**fields).id))
                continue
            there = self._read(lambda kind=kind: self._client.projects.get(found[kind]).model_dump(mode="json"))
            changed = {name: value for name, value in fields.items() if there.get(name) != value}
            judged = there.get("total_annotations_number") != 0
            if "label_config" in changed and judged and not controls.fits(str(there.get("label_config")), project.label_config):
                raise ServiceError(f"project {project.title!r}", "holds judgements that its new page could not show",
                                   "collect them, then rename that project in Label Studio: a new one is made")
            if changed:
                self._write(lambda kind=kind, changed=changed: self._client.projects.update(found[kind], **changed))
        return {kind: found[kind] for kind in self._wanted()}

    def task_hashes(self, project: int) -> set[str]:
        """`task_hash` of every task that is there, judged or not."""
        return {wire.hash_of(row) for row in self._tasks(project)}

    def settle(self, project: int) -> set[str]:
        """As `task_hashes`; of tasks that are there twice, untouched ones go until one is left.

        Only an import that was given up and arrived after all makes such tasks (`add`).
        """
        same: dict[str, list[Row]] = {}
        for row in self._tasks(project):
            same.setdefault(wire.hash_of(row), []).append(row)
        for rows in same.values():
            kept = next((row for row in rows if not wire.untouched(row)), rows[0])
            for row in rows:
                if row is not kept and wire.hash_of(row) and wire.untouched(row):
                    self._write(lambda row=row: self._client.tasks.delete(str(row["id"])))
        return set(same)

    def waiting(self, project: int) -> int:
        """Tasks that nobody has judged or skipped. One that waits for its second judgement, or was skipped, does not count:
        where only one person judges, such tasks would fill the queue for ever."""
        untouched = [wire.where(name, "equal", "Number", 0) for name in ("total_annotations", "cancelled_annotations")]
        return self._page(project, untouched, "id", 1, fields="task_only", include="id,data")[1]

    def add(self, project: int, tasks: Sequence[Row]) -> int:
        """Import tasks (each is what becomes its `data`, with a `task_hash`), in chunks, in this order; returns how many.

        When an import fails in a way that leaves open whether it arrived, what is there now decides about the rest. After
        a time-out nothing is sent again: the server may still be at it.
        """
        rest = list({task["task_hash"]: task for task in tasks}.values())
        count, unsure, attempt = len(rest), False, 1
        while rest:
            chunk = rest[:CHUNK]
            try:
                self._import(project, chunk)
                rest, attempt = rest[len(chunk) :], 1
                continue
            except Trouble as trouble:
                if trouble.late or not trouble.passing:
                    raise
                unsure = unsure or not trouble.unsent
                transport.pause(attempt)
                there = self.task_hashes(project)
                left = [task for task in rest if task["task_hash"] not in there]
                if len(left) == len(rest) and attempt >= self._cfg.attempts:
                    raise
                attempt, rest = attempt + 1 if len(left) == len(rest) else 1, left
        if unsure:
            self.settle(project)
        return count

    def changed(self, project: int, since: str | None) -> Iterator[Row]:
        """Tasks with all their annotations that changed after `since` (ISO 8601; None: all), the oldest change first.

        A task that changes while this runs comes twice, the newer state last; none is left out.
        """
        operator, after, size, seen = "greater", since and wire.moment(since), CHANGES, set()
        while True:
            filters = [wire.where("updated_at", operator, "Datetime", after)] if after else []
            rows, total = self._page(project, filters, "updated_at", size, fields="all")
            fresh = [row for row in rows if wire.state(row) not in seen]
            yield from fresh
            if len(rows) >= total:
                return
            if not fresh and len(rows) < size:
                raise Trouble(self.url, "shows too few tasks on a page", "raise TASK_API_PAGE_SIZE_MAX there")
            last = rows[-1]["updated_at"]
            same = {wire.state(row) for row in rows if row["updated_at"] == last}  # these come again
            seen = seen | same if last == after else same
            operator, after, size = "greater_or_equal", last, 2 * size if last == after else CHANGES

    def users(self) -> dict[int, str]:
        """Who may judge: id → e-mail address."""
        return self._read(lambda: {int(user.id): str(user.email) for user in self._client.users.list()})

    def ensure_webhook(self, project: int, url: str, secret: str) -> None:
        """Let the project tell `url` of new and changed judgements: the event alone, for the whole of it holds a token.

        A webhook of ours is known by its header; one that pointed elsewhere is turned, not doubled.
        """
        wanted: Row = {"url": url, "headers": {HEADER: secret}, "is_active": True, "send_payload": False,
                       "send_for_all_actions": False, "actions": sorted(ACTIONS)}
        ours = self._read(lambda: [
            {**hook.model_dump(mode="json"), "actions": sorted(hook.actions or ())}
            for hook in self._client.webhooks.list(project=str(project))
            if hook.project == project and HEADER in (hook.headers or {})
        ])
        for extra in ours[1:]:
            self._write(lambda extra=extra: self._client.webhooks.delete(extra["id"]))
        if not ours:
            self._write(lambda: self._client.webhooks.create(project=project, **wanted))
        elif any(ours[0][name] != value for name, value in wanted.items()):
            self._write(lambda: self._client.webhooks.update(ours[0]["id"], **wanted))

    def _wanted(self) -> dict[Kind, config.Project]:
        return config.projects(self._cfg.project, self._cfg.overlap)

    def _import(self, project: int, chunk: Sequence[Row]) -> None:
        got = self._write(lambda: self._client.projects.import_tasks(
            project, request=[{"data": task} for task in chunk]).model_dump())
        if got.get("task_count") != len(chunk):
            raise Trouble(self.url, "did not say that it took the tasks", "run again: what is there is not sent again",
                          passing=True)

    def _tasks(self, project: int) -> Iterator[Row]:
        """Every task by its id, without annotations."""
        last, fields = 0, "id,data,total_annotations,cancelled_annotations"
        while True:
            rows, total = self._page(project, [wire.where("id", "greater", "Number", last)], "id", PAGE, fields="task_only",
                                     include=fields)
            yield from rows
            if not rows or len(rows) >= total:
                return
            last = rows[-1]["id"]

    def _page(self, project: int, filters: Sequence[Row], order: str, size: int, **more: str) -> tuple[list[Row], int]:
        """The first rows that the filters let through, as plain dicts, and how many there are in all."""
        query = wire.query(filters, order)

        def call() -> tuple[list[Row], int]:
            got = self._client.tasks.list(project=project, page_size=size, query=query, **more).response
            rows = [wire.task(task.model_dump(mode="json"), timed="include" not in more) for task in got.tasks]
            return rows, int(got.total)

        return self._read(call)

    def _read(self, call: Callable[[], Answer]) -> Answer:
        return transport.ask(self.url, call, self._cfg.attempts, reading=True)

    def _write(self, call: Callable[[], Answer]) -> Answer:
        return transport.ask(self.url, call, self._cfg.attempts, reading=False)
