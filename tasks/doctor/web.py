"""One question to a server that may be away, slow, endless or somebody else's: an answer within seconds, or why there is none."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from tasks.serving.guard import is_loopback

SECONDS = 3.0  # to connect, and for the whole answer
LARGEST = 4 * 2**20  # bytes of an answer


class Answer(NamedTuple):
    """HTTP status, and the content where it is JSON (None otherwise)."""

    status: int
    content: Any


class NoAnswerError(Exception):
    """The server did not answer; the text says how, and no more: what it says itself may hold anything."""


def ask(url: str, *, headers: Mapping[str, str] | None = None, body: Any = None) -> Answer:
    """GET, or POST where there is a `body` (sent as JSON). Redirects are not followed, so headers go nowhere else."""
    end, content = time.monotonic() + SECONDS, bytearray()
    method = "GET" if body is None else "POST"
    try:
        with (
            httpx.Client(timeout=SECONDS, trust_env=not is_loopback(urlsplit(url).hostname or "")) as client,
            client.stream(method, url, headers=dict(headers or {}), json=body) as answer,
        ):
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > LARGEST or time.monotonic() > end:
                    raise NoAnswerError("sends without end")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):
        raise NoAnswerError("is no address of a server") from None
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise NoAnswerError("does not answer") from None
    except httpx.TimeoutException:
        raise NoAnswerError(f"took the connection and said nothing for {SECONDS:.0f} s") from None
    except httpx.HTTPError:
        raise NoAnswerError("ends the connection, or does not speak HTTP there") from None
    try:
        return Answer(answer.status_code, json.loads(content))
    except (ValueError, RecursionError):
        return Answer(answer.status_code, None)


def listens(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=SECONDS):
            return True
    except OSError:
        return False
