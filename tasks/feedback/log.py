"""The feedback log: .nightshift/feedback/<UTC day>.jsonl, for the owner's eyes, appended to by any number of processes.

A line is written by one call at the file's end, with a line break before and after it, so lines of several writers
never mix and one that a killed writer tore spoils no other; a torn line is passed over. What is said of an answer goes
into the file of the answer's day: an answer is found in one file, and both go together when their time is over.
Writers hold a shared flock, whoever rewrites or removes a file an exclusive one; the kernel takes both back when a
process ends, however it ends. Nothing here masks: who adds a line has masked it (serving/recorder.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tasks.feedback.entries import Answered, Entry, Said, asked_at

FOLDER = Path(".nightshift/feedback")
_LINE: TypeAdapter[Answered | Said] = TypeAdapter(Answered | Said)


class Log:
    """The log of one repository."""

    def __init__(self, root: Path, days: int, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        """Lines count for `days` after their answer was given. Touches nothing yet."""
        self.folder, self.days, self.now = root / FOLDER, days, now

    def add(self, line: Answered | Said) -> None:
        """Append a line; OSError when it is not there, whole, afterwards. What users say is on the disk on return."""
        asked = asked_at(line.id if isinstance(line, Answered) else line.answer)
        if asked is None:
            raise ValueError("an answer's id is needed to know its day")
        data = f"\n{line.model_dump_json()}\n".encode()
        with self._locked(fcntl.LOCK_SH):
            handle = os.open(self._file(asked.date()), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.write(handle, data) < len(data):  # another writer may come between: a second try would not mend it
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if isinstance(line, Said):
                    os.fsync(handle)
            finally:
                os.close(handle)

    def find(self, id: str) -> Entry | None:
        """The answer with this id and what was said of it; None when it is not known, or no longer."""
        asked = asked_at(id)
        if asked is None or self._over(asked):
            return None
        return _joined(_lines(self._file(asked.date()), id)).get(id)

    def entries(self) -> Iterator[Entry]:
        """All that count, the earliest day first; a day at a time is in memory."""
        for path in self.files():
            yield from (entry for entry in _joined(_lines(path)).values() if not self._over(asked_at(entry.answered.id)))

    def files(self) -> list[Path]:
        """The days' files, the earliest first."""
        return sorted(path for path in self.folder.glob("*.jsonl") if _day(path)) if self.folder.is_dir() else []

    def sweep(self) -> list[str]:
        """Remove the days whose every line is over, and what a killed removal has left; their names."""
        if not self.folder.is_dir():
            return []
        before, removed = self.now().date() - timedelta(days=self.days), []
        with self._locked(fcntl.LOCK_EX):
            for part in self.folder.glob(".*.part"):
                part.unlink()
            for path in self.files():
                if _day(path) < before:
                    path.unlink()
                    removed.append(path.stem)
        return removed

    def remove(self, id: str) -> Entry | None:
        """Take an answer and all that was said of it out of the log; what that was, None where there is nothing."""
        asked = asked_at(id)
        if asked is None or not self.folder.is_dir():
            return None
        path = self._file(asked.date())
        with self._locked(fcntl.LOCK_EX):
            gone = _joined(_lines(path, id)).get(id)
            if gone is None:
                return None
            kept = [line for line in _raw(path) if (read := _read(line)) and _id(read) != id]
            part = path.with_name(f".{path.name}.part")
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as file:
                file.writelines(b"\n" + line + b"\n" for line in kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            return gone

    def purge(self) -> int:
        """Remove everything; how many files that was."""
        if not self.folder.is_dir():
            return 0
        with self._locked(fcntl.LOCK_EX):
            paths = [*self.folder.glob("*.jsonl"), *self.folder.glob(".*.part")]
            for path in paths:
                path.unlink()
            return len(paths)

    def prepare(self) -> None:
        """Make the folder; OSError where lines cannot be kept there."""
        with self._locked(fcntl.LOCK_SH):
            pass

    def _file(self, day: date) -> Path:
        return self.folder / f"{day.isoformat()}.jsonl"

    def _over(self, asked: datetime | None) -> bool:
        return asked is None or asked + timedelta(days=self.days) <= self.now()

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how)
            yield
        finally:
            os.close(handle)


def _day(path: Path) -> date | None:
    try:
        return date.fromisoformat(path.stem)
    except ValueError:
        return None


def _raw(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            yield from (line.strip() for line in file if line.strip())
    except FileNotFoundError:
        return


def _lines(path: Path, id: str = "") -> Iterator[Answered | Said]:
    """What can be read; with `id`, lines that name it."""
    needle = id.encode()
    for line in _raw(path):
        if needle in line and (read := _read(line)):
            yield read


def _read(line: bytes) -> Answered | Said | None:
    try:
        return _LINE.validate_json(line)
    except ValidationError:
        return None


def _id(line: Answered | Said) -> str:
    return line.id if isinstance(line, Answered) else line.answer


def _joined(lines: Iterator[Answered | Said]) -> dict[str, Entry]:
    """Answers with what was last said of each; words on an answer that is not there are passed over."""
    answers: dict[str, Answered] = {}
    said: dict[str, Said] = {}
    down: set[str] = set()
    for line in lines:
        if isinstance(line, Answered):
            answers.setdefault(line.id, line)
        else:
            said[line.answer] = line
            if line.rating == "down":
                down.add(line.answer)
    return {id: Entry(answer, said.get(id), id in down) for id, answer in answers.items()}
