#!/usr/bin/env python3
"""Loopback leads elsewhere: what connects to 127.0.0.1:PORT speaks with HOST:PORT of another container.

    nightshift-forward PORT HOST:PORT

Bytes pass as they are, in both directions, until both sides have closed; a target that does not answer closes the connection
at once, as a server that is down does. Standard library alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

CHUNK = 65536  # bytes


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def forward(port: int, host: str, target: int) -> asyncio.Server:
    """Listens on loopback `port` (0: a free one) and leads to `host`:`target`; OSError when the port is taken."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, target)
        except OSError as error:
            print(f"nightshift-forward: {host}:{target} does not answer: {error}", file=sys.stderr, flush=True)
            writer.close()
            return
        try:
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        finally:
            writer.close()
            back.close()

    return await asyncio.start_server(connected, "127.0.0.1", port)


async def _main(port: str, target: str) -> None:
    host, _, number = target.rpartition(":")
    async with await forward(int(port), host, int(number)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
