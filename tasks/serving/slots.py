"""Work in threads for requests on an event loop: so many at once, so many waiting, each for so long.

A slot belongs to the thread and not to the request: it is free when the work has ended, however slowly a client reads
or when it went away, and it is not free while a thread still works for a client that was told that its time is up.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tasks.serving.wire import Refusal

Item = TypeVar("Item")


class OutOfTime(Exception):
    """The request's time is up."""


class Gone(Exception):
    """The client has gone away, or the service is ending."""


class Ticket:
    """A request's time and whether it is still wanted. Made and cancelled on the event loop; `check` is for the thread
    that works on it."""

    def __init__(self, seconds: float):
        """`seconds` from now."""
        self.deadline, self._gone = time.monotonic() + seconds, threading.Event()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def left(self) -> float:
        """Seconds."""
        return max(0.0, self.deadline - time.monotonic())

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._gone.set()
        if not self.gone.done():
            self.gone.set_result(None)

    def check(self) -> None:
        """Raise when there is no use in going on."""
        if self._gone.is_set():
            raise Gone
        if not self.left():
            raise OutOfTime


class Slots:
    """`concurrent` pieces of work at once and `queue` waiting."""

    def __init__(self, concurrent: int, queue: int, seconds: float):
        """`seconds` is what one may take; it is what a client that is turned away is told to wait, at most."""
        self._free, self._queue, self._seconds, self._waiting = asyncio.Semaphore(concurrent), queue, seconds, 0
        self._pool = ThreadPoolExecutor(concurrent, thread_name_prefix="answers")
        self._running: set[Ticket] = set()

    async def run(self, work: Callable[[], Iterator[Item]], ticket: Ticket) -> AsyncIterator[Item]:
        """What `work` yields in a thread, as it comes. Refusal 429 when the queue is full, 503 when the wait for a slot
        took all the time, 504 when the work did."""
        await self._wait(ticket)
        loop, queue = asyncio.get_running_loop(), asyncio.Queue()

        def tell(item: Item | BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
                loop.call_soon_threadsafe(queue.put_nowait, item)

        def begin(work: Callable[[], Iterator[Item]]) -> None:
            last = None
            try:
                for item in work():
                    tell(item)
            except BaseException as error:
                last = error
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._end, ticket)  # before its end is heard of: who asks again then finds it free
            tell(last)

        self._running.add(ticket)
        self._pool.submit(begin, work)
        del work  # a client that reads slowly must not keep a whole release in memory
        try:
            while True:
                async with asyncio.timeout(ticket.left()):
                    item = await queue.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        except (TimeoutError, OutOfTime):
            raise Refusal(504, f"no answer within {self._seconds:g} seconds", "timeout") from None
        finally:
            ticket.cancel()

    def close(self) -> None:
        """End the work that is under way between two tokens."""
        for ticket in self._running:
            ticket.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _wait(self, ticket: Ticket) -> None:
        if not self._free.locked():
            await self._free.acquire()  # at once: nobody is before it
            return
        if self._waiting >= self._queue:
            raise Refusal(429, "too many questions at once", "queue_full", retry_after=max(1, math.ceil(self._seconds / 10)))
        self._waiting += 1
        turn = asyncio.ensure_future(self._free.acquire())
        try:
            done, _ = await asyncio.wait({turn, ticket.gone}, timeout=ticket.left(), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._give_back(turn)
            raise
        finally:
            self._waiting -= 1
        if turn not in done or ticket.gone.done():
            self._give_back(turn)
            if ticket.gone.done():
                raise Gone
            raise Refusal(503, "no turn came within the time", "overloaded", retry_after=math.ceil(self._seconds))

    def _give_back(self, turn: asyncio.Future[bool]) -> None:
        """Leave the queue, whether or not the turn has come just now."""
        turn.cancel()
        turn.add_done_callback(lambda it: None if it.cancelled() else self._free.release())

    def _end(self, ticket: Ticket) -> None:
        self._running.discard(ticket)
        self._free.release()
