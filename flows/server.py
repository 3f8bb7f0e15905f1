"""The Prefect API that a night reports to: the configured one, or one started for this night and ended with it.

Prefect can start such a server by itself, but that one outlives a `kill -9` of the flow and starts only when the flow
does. Ours is a child like the stages are (flows/guard.py) and starts while the rest of the night gets ready. It keeps
its history where Prefect keeps it, so `prefect server start` shows the past nights afterwards.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from flows import processes
from tasks.errors import ServiceError

VARIABLE = "PREFECT_API_URL"
PATIENCE = 120.0  # seconds a server may take to start
EXPECTED = 10.0  # seconds a configured server may take to answer


@contextlib.contextmanager
def api(root: Path) -> Iterator[str]:
    """URL of the API for one night. ServiceError when the configured one does not answer or ours won't start."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    configured = get_current_settings().api.url
    if configured:
        if not healthy(configured, time.monotonic() + EXPECTED):
            raise ServiceError(
                VARIABLE, f"{configured} does not answer", "start that server, or unset it: a night runs without one"
            )
        yield configured
        return
    process, url = _start(root)
    try:
        import dvc.repo  # noqa: F401  (about 1 s that the night needs anyway, while the server starts)

        if not healthy(url, time.monotonic() + PATIENCE, process):
            tail = (root / ".nightshift/prefect.log").read_text(errors="replace").strip().splitlines()[-5:]
            raise ServiceError("prefect", "its server did not start: " + " | ".join(tail), "see .nightshift/prefect.log")
        os.environ[VARIABLE] = url
        refresh_global_settings_context()
        try:
            yield url
        finally:
            drain()
    finally:
        os.environ.pop(VARIABLE, None)
        refresh_global_settings_context()
        processes.stop(process)


def need_lasting(why: str) -> None:
    """ServiceError unless a server is named that is there before and after this process; `why` says what for."""
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        raise ServiceError(
            VARIABLE, f"is not set, and {why}", f"prefect server start, then export {VARIABLE}=http://127.0.0.1:4200/api"
        )


def _start(root: Path) -> tuple[subprocess.Popen, str]:
    import prefect

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    no_proxy = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"]))
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = no_proxy
    folder = root / ".nightshift"
    folder.mkdir(exist_ok=True)
    (folder / "prefect.log").write_bytes(b"")
    process = processes.start(
        [
            sys.executable,
            "-m",
            "uvicorn",
            "--app-dir",
            str(prefect.__module_path__.parent),
            "--factory",
            "prefect.server.api.server:create_app",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--log-level",
            "error",
            "--lifespan",
            "on",
        ],
        root,
        {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"},
        log=folder / "prefect.log",
    )
    return process, f"http://127.0.0.1:{port}/api"


def healthy(url: str, deadline: float, process: subprocess.Popen | None = None) -> bool:
    """Whether the API at `url` answers before `deadline` (of time.monotonic) and before `process`, its server, has ended.

    No proxy stands before a server on this machine.
    """
    here = urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
    while time.monotonic() < deadline and (process is None or process.poll() is None):
        try:
            with opener.open(f"{url.rstrip('/')}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def drain() -> None:
    """Send what is still queued: logs and task states travel behind the work."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=10)
    EventsWorker.drain_all(timeout=10)
