"""How requests to Label Studio travel, and what is said when they fail. Nothing here knows what is asked.

The token goes to one address and nowhere else: over plain HTTP only to this machine, never along a redirect, through no
proxy to this machine. What a server answers is untrusted and may repeat the token, hold a session cookie or somebody's
e-mail address, so no message here quotes it: an error says the status and what to do.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar
from urllib.parse import urlsplit

import httpx

from tasks.errors import ParamsError, ServiceError
from tasks.labelling import secrets
from tasks.serving.guard import is_loopback

Answer = TypeVar("Answer")
PAUSE = 0.5  # seconds before the second attempt; doubled before each further one
PASSING = {408, 429, 500, 502, 503, 504}  # may be gone at the next attempt
REMEDIES = {
    401: f"make a token there (Account & Settings) and export {secrets.TOKEN}",
    403: "give the token's owner the right to manage projects, or take an administrator's token",
    404: "labelling.url must lead to Label Studio itself, and its projects must not be deleted meanwhile",
    413: "let the server, or the proxy before it, take larger requests",
}
MEANINGS = {
    401: "does not know the token",
    403: "does not permit this to the token's owner",
    404: "does not have what was asked for",
    413: "takes no request of this size",
    429: "is asked too often",
}


class Trouble(ServiceError):
    """The server did not do what it was asked."""

    def __init__(self, url: str, what: str, remedy: str, *, passing: bool = False, unsent: bool = False, late: bool = False):
        """`passing`: it may go well at the next attempt. `unsent`: the request surely has not arrived. `late`: the server
        may still be at it."""
        self.passing, self.unsent, self.late = passing, unsent, late
        super().__init__(url, what, remedy)


def address(url: str) -> str:
    """The address of a server, checked: https, or http to this machine. ParamsError otherwise."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ParamsError("labelling.url", "is no address", "write it like https://labels.example.org") from None
    if parts.username is not None or parts.password is not None:
        raise ParamsError("labelling.url", "holds a name or a password", f"take it out; the token belongs in {secrets.TOKEN}")
    if parts.scheme not in ("http", "https") or not host or port == 0 or parts.query or parts.fragment:
        raise ParamsError("labelling.url", f"{url!r} is no address of a server", "write it like https://labels.example.org")
    if parts.scheme == "http" and not is_loopback(host):
        raise ParamsError("labelling.url", f"{host} would get the token over plain HTTP",
                          "put a proxy with TLS before it and write https://; http:// is for this machine alone")
    return url.rstrip("/") + "/"


def client(url: str, timeout_seconds: float) -> httpx.Client:
    """A client for one address (as `address` gives it) that raises Trouble for every answer that is no success."""
    logging.getLogger("httpcore").setLevel(logging.INFO)  # below it, it logs the cookies of every answer
    return httpx.Client(
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 10.0)),
        follow_redirects=False,
        trust_env=not is_loopback(urlsplit(url).hostname or ""),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a session beside the token only brings CSRF checks
        event_hooks={"response": [lambda response: _check(url, response)]},
    )


def ask(url: str, call: Callable[[], Answer], attempts: int, *, reading: bool) -> Answer:
    """What `call` returns; Trouble otherwise, and only Trouble.

    A request that reads is made again when it may go well then; one that writes only when it surely has not arrived.
    """
    for attempt in range(1, attempts + 1):
        try:
            return _once(url, call)
        except Trouble as trouble:
            if attempt == attempts or not (trouble.unsent or (reading and trouble.passing)):
                raise
        pause(attempt)
    raise AssertionError("attempts is at least 1")


def pause(attempt: int) -> None:
    """Wait before the next attempt, longer each time and never in step with others."""
    time.sleep(PAUSE * 2 ** (attempt - 1) * (1 + random.random() / 4))


def _once(url: str, call: Callable[[], Answer]) -> Answer:
    try:
        return call()
    except ServiceError:
        raise
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Trouble(url, "is out of reach", "start it (make label-studio), or correct labelling.url",
                      passing=True, unsent=True) from None
    except httpx.TimeoutException:
        raise Trouble(url, "did not answer in time", "look at its load and its log, or raise labelling.timeout_seconds",
                      passing=True, late=True) from None
    except httpx.TransportError:
        raise Trouble(url, "ended the connection before its answer was whole", "look at its log; run again",
                      passing=True) from None
    except Exception as error:
        # Whatever the SDK makes of an answer that is not Label Studio's. Its own text may hold cookies: not quoted.
        if getattr(error, "status_code", None) == 401:  # an expired token; the SDK sees that by itself
            raise Trouble(url, MEANINGS[401], REMEDIES[401]) from None
        raise Trouble(url, f"answers with something that is not Label Studio's ({type(error).__name__})",
                      "labelling.url must lead to Label Studio itself; a broken answer may also be a proxy's") from None


def _check(url: str, response: httpx.Response) -> None:
    """Trouble for an answer that is no success, or that is a page where data was asked for."""
    status = response.status_code
    if response.has_redirect_location or 300 <= status < 400:
        raise Trouble(url, f"sends requests elsewhere (status {status}); the token was not sent on",
                      "write the address that it leads to into labelling.url")
    if status >= 400:
        what = MEANINGS.get(status, "refuses the request" if status < 500 else "failed")
        raise Trouble(url, f"{what} (status {status}{_incident(response)})",
                      REMEDIES.get(status, "its log has the reason"), passing=status in PASSING, late=status in (408, 504))
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (response.request.method == "DELETE" or status == 204):
        raise Trouble(url, "answers with a page, not with data: a login page, or a proxy's",
                      "labelling.url must lead to Label Studio itself, and no sign-on may stand before its API")


def _incident(response: httpx.Response) -> str:
    """The id by which Label Studio's log knows an error. Nothing else of its answer is told."""
    try:
        if int(response.headers.get("content-length", "1000000")) > 65536:
            return ""
        found = re.search(r'"id": ?"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"', response.read().decode("utf-8", "replace"))
    except (httpx.HTTPError, ValueError):
        return ""
    return f", incident {found[1]}" if found else ""
