"""What the servers beside us share: free ports, a clear no to a taken one, an end when their parent ends."""

from __future__ import annotations

import ctypes
import signal
import socket
import sys

from tasks.errors import ServiceError


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports of the loopback interface that nobody listens on."""
    for _ in range(100):
        sockets = [socket.socket() for _ in range(count)]
        try:
            sockets[0].bind(("127.0.0.1", 0))
            first = sockets[0].getsockname()[1]
            for further, one in enumerate(sockets[1:], 1):
                one.bind(("127.0.0.1", first + further))
            return first
        except (OSError, OverflowError):
            continue  # a neighbour is taken, or there is none
        finally:
            for one in sockets:
                one.close()
    raise ServiceError("127.0.0.1", f"found no {count} free neighbouring ports", "end what listens on them")


def refuse_taken(server: str, port: int, option: str) -> None:
    """ServiceError when somebody listens on this port; `option` is what gives another."""
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise ServiceError(server, f"port {port} is taken", f"end what listens there, or give {option}")


_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def end_with_parent() -> None:
    """In the child: a server of a test that is killed must not live on (Linux; PR_SET_PDEATHSIG)."""
    if _LIBC:
        _LIBC.prctl(1, signal.SIGTERM, 0, 0, 0)
