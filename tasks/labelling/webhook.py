"""The receiver that Label Studio tells of new judgements: it counts them, and wakes a collection after so many.

It is a bell, not a source: what was judged is read from the server afterwards, by whoever the bell wakes or, without it,
by the next collection on time. So a lost call costs an hour at most, and a call brings nothing but its kind. Label Studio
signs nothing and makes the annotator wait for the answer; a shared secret says that it is the caller, and the answer is
given before anything else is done. Neither the body nor the secret is ever logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tasks.errors import ServiceError
from tasks.labelling import secrets
from tasks.labelling.label_studio import ACTIONS, HEADER
from tasks.params import Webhook
from tasks.serving import server
from tasks.serving.guard import read_body
from tasks.serving.wire import Refusal

PATH = "/label-studio"
KILOBYTES = 1024  # of a body; ours holds the event's name alone, somebody else's webhook may hold a whole task
SECONDS = 5.0  # for a body to come
SHORTEST = 16  # characters of a secret
log = logging.getLogger("nightshift.webhook")


class Bell:
    """Counts judgements, and rings after every `wake_after` of them."""

    def __init__(self, wake_after: int, ring: Callable[[int], None]):
        """`ring` gets how many there were; it may take its time, and fail."""
        self._after, self._ring = wake_after, ring
        self._count, self._lock = 0, threading.Lock()

    def count(self, judgements: int) -> int:
        """Add some; returns how many there are to ring for, 0 while they are too few."""
        with self._lock:
            self._count += judgements
            if self._count < self._after:
                return 0
            reached, self._count = self._count, 0
            return reached

    def ring(self, judgements: int) -> None:
        """Ring. A failure is logged: the next collection on time finds the same."""
        try:
            self._ring(judgements)
            log.info("%d new judgements: a collection is woken", judgements)
        except Exception as error:
            log.warning("%d new judgements, but no collection could be woken (%s)", judgements, type(error).__name__)


def checked(secret: str) -> str:
    """The secret, if it can be one; ServiceError for what no header carries as it is, or what anybody would know."""
    if len(secret) < SHORTEST or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ServiceError(secrets.WEBHOOK, f"is no secret: it needs {SHORTEST} letters and digits at least",
                           "unset it, and one is drawn; or export a longer one")
    return secret


def create_app(secret: str, bell: Bell) -> Starlette:
    """The application: POST /label-studio, with the secret in its header."""
    known = checked(secret).encode()

    async def receive(request: Request) -> Response:
        given = [value for name, value in request.headers.raw if name == HEADER.lower().encode()]
        if not hmac.compare_digest(given[0] if len(given) == 1 else b"", known):
            return JSONResponse({"error": f"{HEADER} is wrong or missing"}, 401, {"Connection": "close"})
        try:
            judgements = _judgements(await read_body(request, KILOBYTES, SECONDS))
        except Refusal as refusal:
            return JSONResponse(refusal.body(), refusal.status, refusal.headers())
        due = bell.count(judgements)
        ring = BackgroundTask(asyncio.to_thread, bell.ring, due) if due else None  # after the answer has gone
        return Response(status_code=204, background=ring)

    app = Starlette(routes=[Route(PATH, receive, methods=["POST"])])
    app.router.redirect_slashes = False  # a redirect would go to whatever host the request names
    return app


def serve(cfg: Webhook, secret: str, ring: Callable[[int], None], ready: Callable[[str, int], None]) -> None:
    """Listen until SIGINT or SIGTERM; `ready` gets host and port once they are taken."""
    import uvicorn

    listening = server.bind(cfg.host, cfg.port, "set labelling.webhook.port to another")
    listening.listen()  # now: what is judged while `ready` runs waits in the queue, and a start that is told of is one
    server.log_to(sys.stderr, log.name)
    host, port = listening.getsockname()[:2]
    ready(host, port)
    log.info("listening on %s", address(host, port))
    running = uvicorn.Server(server.settings(create_app(secret, Bell(cfg.wake_after, ring)), SECONDS))
    with contextlib.suppress(KeyboardInterrupt):
        running.run(sockets=[listening])


def address(host: str, port: int) -> str:
    """Where Label Studio finds the receiver."""
    return f"http://[{host}]:{port}{PATH}" if ":" in host else f"http://{host}:{port}{PATH}"


def _judgements(body: bytes) -> int:
    """How many judgements an event stands for; Refusal for what is no event."""
    try:
        event: Any = json.loads(body)
        action = event["action"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refusal(400, "no event of Label Studio", "invalid_body") from None
    if action not in ACTIONS:
        return 0
    many = event.get("annotation")
    return len(many) if action == "ANNOTATIONS_CREATED" and isinstance(many, list) else 1
