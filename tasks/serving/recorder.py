"""Answers into the feedback log while the service runs. An answer never waits for it and never fails by it.

A thread of its own masks and writes what the answers put into a bounded queue; a disk that is full costs records, not
answers, and is said once until it has room again. What a user says of an answer is written before it is confirmed.
What nobody has masked is in memory only.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from tasks.errors import ServiceError
from tasks.feedback.entries import Answered, Passage, Rating, Said, asked_at
from tasks.feedback.log import FOLDER, Log
from tasks.feedback.masking import mask
from tasks.formats.rows import clean
from tasks.params import Feedback, Params
from tasks.rag.answer import Answer
from tasks.rag.prompt import language_of
from tasks.terminal import plain

WAITING = 1000  # answers, at most, that are not written yet
LOOK = 60.0  # seconds between two looks at the day
log = logging.getLogger("nightshift.serve")


@dataclass(frozen=True)
class _Given:
    id: str
    release: str
    question: str
    answer: Answer


def _utc() -> datetime:
    return datetime.now(UTC)


class Recorder:
    """Keeps answers and what is said of them. Its thread runs from `start` to `stop`."""

    def __init__(self, root: Path, cfg: Feedback, now: Callable[[], datetime] = _utc, waiting: int = WAITING):
        """`now` is the clock that days are counted by."""
        self.cfg, self._log, self._now = cfg, Log(root, cfg.days, now), now
        # answers to write, somebody who waits until those before are written, or the end
        self._queue: queue.Queue[_Given | threading.Event | None] = queue.Queue(waiting)
        self._told: set[str] = set()  # what was logged already
        self._swept: date | None = None
        self._thread = threading.Thread(target=self._work, name="feedback-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=2)
            self._thread.join(5)

    def answered(self, id: str, release: str, question: str, answer: Answer) -> None:
        """An answer was given. Returns at once, whatever happens to it."""
        try:
            self._queue.put_nowait(_Given(id, release, question, answer))
        except queue.Full:
            self._lost("queue", "answers come faster than they can be written")

    def said(self, id: str, rating: Rating, reason: str | None, correction: str | None) -> bool:
        """Keep what a user said; False where the answer is not known, or no longer. OSError when it cannot be kept.
        Blocks: not for the event loop."""
        if asked_at(id) is None:
            return False
        self._settle()
        entry = self._log.find(id)
        if entry is None:
            return False
        answered = entry.answered
        told = _masked(correction or "", tuple(passage.text for passage in answered.passages))
        self._log.add(
            Said(
                answer=id,
                time=self._now(),
                rating=rating,
                reason=_masked(reason or "") or None,
                correction=told if told != answered.answer and told else None,
            )
        )
        return True

    def _settle(self) -> None:
        """Wait until the answers given so far are written, as far as they can be."""
        done = threading.Event()
        with contextlib.suppress(queue.Full):
            self._queue.put(done, timeout=5)
            done.wait(5)

    def _work(self) -> None:
        while True:
            try:
                given = self._queue.get(timeout=LOOK)
            except queue.Empty:
                self._sweep()
                continue
            if given is None:
                return
            if isinstance(given, threading.Event):
                given.set()
                continue
            self._sweep()
            self._write(given)

    def _write(self, given: _Given) -> None:
        try:
            self._log.add(_line(given, self._now()))
        except Exception as error:  # whatever it is, the next answer may do better
            self._lost("write", _why(error))
        else:
            self._told.discard("write")

    def _sweep(self) -> None:
        if self._swept != (today := self._now().date()):
            try:
                self._log.sweep()
                self._swept = today
                self._told.discard("queue")
            except OSError as error:
                self._lost("sweep", _why(error))

    def _lost(self, what: str, why: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.error("the feedback log cannot be written (%s); answers go on without it", why)


def open_log(root: Path, params: Params) -> Recorder | None:
    """What records the answers of a service; None where feedback.log is off. What is over its time goes in any case.

    ServiceError where nothing can be kept: said at the start, not with the first answer.
    """
    try:
        kept = Log(root, params.feedback.days)
        kept.sweep()
        if not params.feedback.log:
            return None
        kept.prepare()
    except OSError as error:
        raise ServiceError(str(FOLDER), f"cannot be written ({error.strerror})", "mend it, or set feedback.log: off") from None
    return Recorder(root, params.feedback)


def _line(given: _Given, now: datetime) -> Answered:
    notes = given.answer.notes
    return Answered(
        id=given.id,
        time=asked_at(given.id) or now,
        release=given.release,
        language=language_of(given.question),
        question=_masked(given.question),
        passages=tuple(
            Passage(source=hit.chunk.source, text=note) for hit, note in zip(given.answer.shown, notes, strict=True)
        ),
        answer=_masked(given.answer.text, notes),
    )


def _masked(text: str, beside: tuple[str, ...] = ()) -> str:
    """As it is kept: no control characters, which could hide what is to be masked, and no personal data."""
    return mask(clean(plain(clean(text).replace("\t", " "))), beside)


def _why(error: Exception) -> str:
    """Without the text that it may be about."""
    return error.strerror or "" if isinstance(error, OSError) else type(error).__name__
