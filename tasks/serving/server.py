"""`nightshift serve`: check, bind, load, answer, until it is told to end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from pathlib import Path

from tasks.errors import ServiceError
from tasks.params import Params
from tasks.serving.guard import VARIABLE, check_bind, keys_of
from tasks.serving.live import Live
from tasks.serving.recorder import open_log

HEADER_BYTES = 16 * 1024  # of a request's head


def serve(root: Path, params: Params) -> None:
    """Serve the live release until SIGINT or SIGTERM; what is being answered then is still answered.

    The port is taken before the model is loaded: what cannot be bound should be said at once.
    """
    import uvicorn

    from tasks.serving.service import create_app

    cfg, keys = params.serve, keys_of(os.environ.get(VARIABLE))
    check_bind(cfg.host, keys)
    listening = bind(cfg.host, cfg.port)
    log_to(sys.stderr)
    recorder = open_log(root, params)
    live = Live(root, params)
    host, port = listening.getsockname()[:2]
    log = logging.getLogger("nightshift.serve")
    log.info("%s answers on http://%s:%d", live.current().id, f"[{host}]" if ":" in host else host, port)
    server = uvicorn.Server(settings(create_app(live, cfg, keys, recorder), cfg.answer_seconds))
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has ended what it had to end, and passes it on
        server.run(sockets=[listening])


def settings(app: object, seconds: float) -> object:
    """How uvicorn runs it: HTTP alone, no trust in forwarded addresses, its own log of requests off."""
    import uvicorn

    return uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="on", log_config=None, access_log=False, proxy_headers=False,
        server_header=False, h11_max_incomplete_event_size=HEADER_BYTES, timeout_graceful_shutdown=int(seconds) + 1,
    )


def bind(host: str, port: int, remedy: str = "take another: nightshift serve --port 8322") -> socket.socket:
    """A socket with this address, not yet listening; ServiceError with this remedy when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ServiceError(f"{host}:{port}", f"cannot be listened on ({error.strerror or error})", remedy) from None
    return listening


def log_to(stream: object, ours: str = "nightshift.serve") -> None:
    """One handler for our lines and for what uvicorn has to complain about."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name, level in ((ours, logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
