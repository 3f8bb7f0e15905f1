"""tasks/serving/slots.py: a slot is the thread's and not the client's, and whoever leaves the queue is out of it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tasks.serving.slots import Gone, Slots, Ticket
from tasks.serving.wire import Refusal


async def drain(slots: Slots, work, ticket: Ticket) -> list:
    """All that the work yields."""
    return [item async for item in slots.run(work, ticket)]


def test_a_client_that_reads_slowly_holds_no_slot():
    """It takes one item of three and no more; the only slot serves the next one, and its own items wait for it."""
    async def scene() -> None:
        slots = Slots(1, 1, 30)
        slow = slots.run(lambda: iter("abc"), Ticket(30))
        assert await anext(slow) == "a"
        assert await drain(slots, lambda: iter("xyz"), Ticket(30)) == ["x", "y", "z"]
        assert [item async for item in slow] == ["b", "c"]

    asyncio.run(scene())


def test_who_gives_up_waiting_leaves_the_queue():
    """One works, one waits and goes away: its place in the queue is free at once, and the slot is not lost."""
    async def scene() -> None:
        slots, gate = Slots(1, 1, 30), threading.Event()
        working = asyncio.create_task(drain(slots, lambda: iter([gate.wait(30)]), Ticket(30)))
        await asyncio.sleep(0)
        left = Ticket(30)
        waiting = asyncio.create_task(drain(slots, lambda: iter("never"), left))
        await asyncio.sleep(0.05)
        with pytest.raises(Refusal) as full:
            await drain(slots, lambda: iter(""), Ticket(30))
        assert full.value.status == 429
        left.cancel()
        with pytest.raises(Gone):
            await waiting
        for _ in range(3):  # cancelled as a task, and out of time: the same
            cancelled = asyncio.create_task(drain(slots, lambda: iter("never"), Ticket(30)))
            await asyncio.sleep(0.02)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            with pytest.raises(Refusal) as late:
                await drain(slots, lambda: iter("never"), Ticket(0.02))
            assert late.value.status == 503
        gate.set()
        assert await working == [True]
        assert await drain(slots, lambda: iter("ok"), Ticket(30)) == ["o", "k"]
        assert await asyncio.gather(*(drain(slots, lambda: iter("k"), Ticket(30)) for _ in range(2))) == [["k"], ["k"]]

    asyncio.run(scene())


def test_what_the_work_raises_is_raised():
    """And by then the slot is free again, every time: nobody may wait here."""
    def broken():
        yield 1
        raise ValueError("x")

    async def scene() -> None:
        slots = Slots(1, 0, 30)
        for _ in range(2000):
            with pytest.raises(ValueError, match="x"):
                await drain(slots, broken, Ticket(30))
            assert await drain(slots, lambda: iter("ok"), Ticket(30)) == ["o", "k"]

    asyncio.run(scene())
