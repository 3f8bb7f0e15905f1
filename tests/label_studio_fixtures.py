"""A small Label Studio on loopback for the default tier: the API as far as the client uses it, in memory, and its faults.

What the real server answers was copied from it (1.23.2); tests/test_label_studio_client.py holds this one and the real one
to the same behaviour. A fault is a function that gets the request in place of the server and may answer anything.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tasks import params
from tasks.params import Labelling

TOKEN = "d2f1a0c39b7e48650f1e2d3c4b5a69788796a5b4"  # as a token looks; hostile answers repeat it
COOKIE = "sessionid=8c1f0b7d2e"
EMAIL = "anna.muster@example.org"
ROOT = Path(__file__).parent.parent
Fault = Callable[["Handler"], bool]  # True: it has answered


def labelling(url: str | None, **changes: Any) -> Labelling:
    """Section labelling for a server, quick to give up."""
    found = params.load(ROOT / "params.yaml").labelling
    return found.model_copy(update={"url": url, "project": "Testing", "timeout_seconds": 5.0, **changes})


class Studio:
    """The server's state. `requests`: every (method, path) that came; `faults` are asked first, one after the other."""

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.tasks: dict[int, dict[str, Any]] = {}
        self.webhooks: dict[int, dict[str, Any]] = {}
        self.users = [{"id": 7, "email": EMAIL}]
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.clock = datetime(2026, 11, 25, 3, tzinfo=UTC)
        self.lock = threading.RLock()
        self.url = ""

    def now(self) -> str:
        """A moment after the one before."""
        self.clock += timedelta(microseconds=10)
        return self.clock.isoformat().replace("+00:00", "Z")

    def import_tasks(self, project: int, rows: list[dict[str, Any]]) -> None:
        """As the import does: nothing is looked at."""
        for row in rows:
            number = max(self.tasks, default=0) + 1
            self.tasks[number] = {"id": number, "project": project, "data": row["data"], "annotations": [],
                                  "total_annotations": 0, "cancelled_annotations": 0, "updated_at": self.now()}

    def judge(self, task: int, result: list[dict[str, Any]], skip: bool = False) -> None:
        """A person's judgement."""
        row = self.tasks[task]
        row["annotations"].append({"id": 100 * task + len(row["annotations"]), "completed_by": 7, "result": result,
                                   "was_cancelled": skip})
        row["cancelled_annotations" if skip else "total_annotations"] += 1
        row["updated_at"] = self.now()

    def hashes(self) -> list[str]:
        """What is there, doubles included."""
        return [row["data"]["task_hash"] for row in self.tasks.values()]

    def count(self, method: str, part: str) -> int:
        """Requests of this kind."""
        return sum(m == method and part in path for m, path in self.requests)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    studio: Studio

    def handle_any(self) -> None:
        """Fault or answer."""
        self.body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.studio.lock:
            self.studio.requests.append((self.command, self.path))
            self.studio.headers.append(dict(self.headers))
        for fault in list(self.studio.faults):
            if fault(self):
                return
        if self.headers.get("authorization") != f"Token {TOKEN}":
            self.answer(401, {"detail": f"Invalid token {self.headers.get('authorization')}."})
            return
        with self.studio.lock:
            self.answer(*self.act())

    do_GET = do_POST = do_PATCH = do_DELETE = handle_any

    def answer(self, status: int, body: Any, kind: str = "application/json", **more: str) -> None:
        """Send an answer; a body that is no bytes goes as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"content-type": kind, "content-length": str(len(data)), "set-cookie": f"{COOKIE}; Path=/", **more}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def act(self) -> tuple[int, Any]:
        """What the server does."""
        studio, url = self.studio, urlsplit(self.path)
        parts, asked = url.path.strip("/").split("/")[1:], {name: values[0] for name, values in parse_qs(url.query).items()}
        given = json.loads(self.body) if self.body else None
        if parts == ["projects"] and self.command == "GET":
            rows = [p for p in studio.projects.values() if asked.get("title", "") in p["title"]]
            return 200, {"count": len(rows), "results": [{k: p[k] for k in asked["include"].split(",")} for p in rows]}
        if parts == ["projects"]:
            number = len(studio.projects) + 1
            studio.projects[number] = {"id": number, "total_annotations_number": 0, **given}
            return 201, studio.projects[number]
        if parts[0] == "projects" and parts[-1] == "import":
            studio.import_tasks(int(parts[1]), given)
            return 201, {"task_count": len(given)}
        if parts[0] == "projects":
            studio.projects[int(parts[1])] |= given or {}
            return 200, studio.projects[int(parts[1])]
        if parts == ["tasks"]:
            rows = self._filtered([row for row in studio.tasks.values() if row["project"] == int(asked["project"])], asked)
            return 200, {"total": len(rows), "total_annotations": 0, "total_predictions": 0,
                         "tasks": rows[: int(asked["page_size"])]}
        if parts[0] == "tasks":
            del studio.tasks[int(parts[1])]
            return 204, b""
        if parts == ["users"]:
            return 200, studio.users
        if parts == ["webhooks"] and self.command == "GET":
            return 200, [hook for hook in studio.webhooks.values() if hook["project"] == int(asked["project"])]
        number = len(studio.webhooks) + 1 if parts == ["webhooks"] else int(parts[1])
        if self.command == "DELETE":
            del studio.webhooks[number]
            return 204, b""
        studio.webhooks[number] = {**studio.webhooks.get(number, {"id": number}), **given}
        return 201, studio.webhooks[number]

    def _filtered(self, rows: list[dict[str, Any]], asked: dict[str, str]) -> list[dict[str, Any]]:
        query = json.loads(asked["query"])
        for item in query["filters"]["items"]:
            name, want, cut = item["filter"].rpartition(":")[2], item["value"], item["operator"]
            at = {"greater": lambda v, w: v > w, "greater_or_equal": lambda v, w: v >= w, "equal": lambda v, w: v == w}[cut]
            rows = [row for row in rows if at(row[name], want)]
        return sorted(rows, key=lambda row: row[query["ordering"][0].rpartition(":")[2]])

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextlib.contextmanager
def studio() -> Iterator[Studio]:
    """A server on a free port."""
    state = Studio()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"studio": state}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def times(count: int, fault: Fault, method: str = "", part: str = "") -> Fault:
    """The fault for the first `count` requests of this method whose path has this part; afterwards the server is well."""
    left = [count]

    def limited(request: Handler) -> bool:
        if left[0] and method in request.command and part in request.path:
            left[0] -= 1
            return fault(request)
        return False

    return limited


def status(code: int, body: Any = None, **more: Any) -> Fault:
    """Answer with a status; the body repeats all that must not be told."""
    said = {"detail": f"{TOKEN} {COOKIE} {EMAIL}"} if body is None else body

    def fault(request: Handler) -> bool:
        request.answer(code, said, **more)
        return True

    return fault


def cut(request: Handler) -> bool:
    """End the connection in the middle of a body."""
    request.send_response(200)
    for name, value in {"content-type": "application/json", "content-length": "5000", "set-cookie": COOKIE}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(b'{"tasks": [')
    request.wfile.flush()
    request.close_connection = True
    return True


def after_all(fault: Fault) -> Fault:
    """Do what was asked, and then answer with the fault: the caller cannot know."""

    def done(request: Handler) -> bool:
        with request.studio.lock:
            request.act()
        return fault(request)

    return done
