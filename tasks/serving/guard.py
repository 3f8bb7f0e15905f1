"""Who may ask, how much a request may bring, what every response carries, and the one line that is logged of it.

With keys set, each route under /v1 wants one. Without keys the service is for this machine alone, and then a web page
from elsewhere must not use it through somebody's browser: the Host header has to be a loopback name (DNS rebinding),
no CORS header is ever sent, and bodies have to be application/json, which a foreign page cannot send unasked.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import logging
import secrets
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tasks.errors import ParamsError
from tasks.serving.wire import Refusal

VARIABLE = "NIGHTSHIFT_API_KEY"
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
log = logging.getLogger("nightshift.serve")


def keys_of(value: str | None) -> tuple[bytes, ...]:
    """Digests of the comma-separated keys of an environment variable."""
    return tuple(_digest(key.strip().encode("utf-8", "surrogateescape")) for key in (value or "").split(",") if key.strip())


def is_loopback(host: str) -> bool:
    """Whether a name or address, as it is bound or as a Host header has it, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_bind(host: str, keys: tuple[bytes, ...]) -> None:
    """ParamsError for an address that others reach and no key."""
    if not keys and not is_loopback(host):
        raise ParamsError("serve.host", f"{host} can be reached from elsewhere", f"set {VARIABLE}, or take 127.0.0.1")


class Guard:
    """ASGI middleware around everything. Puts `authorised`, `request_id` and `seen` (for the log) into the scope's state."""

    def __init__(self, app: ASGIApp, keys: tuple[bytes, ...]):
        """`keys` are digests; none: this machine alone."""
        self.app, self.keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, request_id = time.monotonic(), secrets.token_hex(6)
        state = scope.setdefault("state", {})
        state |= {"authorised": self._authorised(scope), "request_id": request_id, "seen": {}}
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                more = HEADERS | {"x-request-id": request_id}
                message["headers"] = [
                    *(pair for pair in message.get("headers", []) if pair[0].lower().decode("latin-1") not in more),
                    *((name.encode(), value.encode()) for name, value in more.items()),
                ]
            await send(message)

        try:
            refusal = self._refusal(scope, state["authorised"])
            if refusal:
                await respond(refusal, answer)
            else:
                await self.app(scope, receive, answer)
        finally:
            seen = state["seen"]
            log.info(
                "%s %s %s %d %.3fs %d+%d tokens %s",
                request_id,
                scope["method"] if scope["method"].isalpha() else "?",
                getattr(scope.get("route"), "path", "-"),  # never what a client wrote
                seen.get("status", status),
                time.monotonic() - began,
                seen.get("prompt_tokens", 0),
                seen.get("tokens", 0),
                seen.get("release", "-"),
            )

    def _authorised(self, scope: Scope) -> bool:
        if not self.keys:
            return True
        scheme, _, key = _header(scope, b"authorization").partition(" ")
        given = _digest(key.strip().encode("latin-1"))  # the bytes that were sent
        # every key is compared, each in constant time
        return bool(sum([hmac.compare_digest(given, known) for known in self.keys])) and scheme.lower() == "bearer"

    def _refusal(self, scope: Scope, authorised: bool) -> Refusal | None:
        if not self.keys and not is_loopback(_host(_header(scope, b"host"))):
            return Refusal(403, "this service answers only to localhost", "wrong_host")
        if not authorised and scope["path"].startswith("/v1"):
            return Refusal(401, "a valid API key is needed: Authorization: Bearer KEY", "invalid_api_key")
        return None


async def respond(refusal: Refusal, send: Send) -> None:
    """Send a refusal without any framework."""
    body = json.dumps(refusal.body(), ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers()}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


async def read_body(request: Request, kilobytes: int, seconds: float) -> bytes:
    """The body, as far as it may be long, counted while it comes; Refusal 413, 415, or 408 when it comes too slowly."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "send application/json", "unsupported_media_type")
    most, body = kilobytes * 1024, bytearray()
    too_long = Refusal(413, f"a body may have {kilobytes} KiB", "body_too_large")
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or int(announced) > most:
        raise too_long
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > most:
                    raise too_long
    except TimeoutError:
        raise Refusal(408, "the body did not come in time", "timeout") from None
    except ClientDisconnect:
        raise Refusal(400, "the body did not come whole", "incomplete") from None
    return bytes(body)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _header(scope: Scope, name: bytes) -> str:
    values: list[Any] = [value for key, value in scope["headers"] if key == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
