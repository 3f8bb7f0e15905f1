"""The log: several writers, torn lines, kill -9, ages by a clock, removal, modes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.feedback.entries import Answered, Passage, Said, answer_id, asked_at
from tasks.feedback.log import FOLDER, Log

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def answered(at: datetime = NOON, text: str = "When?", release: str = "r1") -> Answered:
    """An answer given at this time."""
    return Answered(id=answer_id(int(at.timestamp())), time=at, release=release, language="en", question=text,
                    passages=(Passage(source="documents/a.md", text="It opens at 9."),), answer="At 9. [1]")


def said(answer: Answered, rating: str = "down", **more: str) -> Said:
    """What a user said a minute later."""
    return Said(answer=answer.id, time=answer.time + timedelta(minutes=1), rating=rating, **more)


def log(root: Path, days: int = 30, at: datetime = NOON) -> Log:
    """The log as it is at this time."""
    return Log(root, days, lambda: at)


def test_ids_cannot_be_guessed_and_hold_their_second():
    """96 random bits beside the second, from the system's own source; what is no id of ours has no time."""
    ids = {answer_id(1_795_521_600) for _ in range(1000)}
    assert len(ids) == 1000 and len({id[-24:] for id in ids}) == 1000
    assert {asked_at(id) for id in ids} == {datetime(2026, 11, 24, 12, tzinfo=UTC)}
    for foreign in ("", "chatcmpl-", "chatcmpl-" + "g" * 32, "../../etc/passwd", answer_id(0) + "\n", "x" + answer_id(0)):
        assert asked_at(foreign) is None


def test_what_is_added_is_found(tmp_path):
    """Answer and feedback by id; the last word counts and replaces all of the one before; others are not known."""
    kept, answer, other = log(tmp_path), answered(text="几点？\n\"quoted\""), answered()
    kept.add(answer)
    kept.add(other)
    assert kept.find(answer.id).answered == answer and kept.find(answer.id).said is None
    kept.add(said(answer, reason="wrong", correction="At 10."))
    kept.add(said(answer, "up"))
    found = kept.find(answer.id)
    assert (found.said.rating, found.said.reason, found.said.correction, found.was_down) == ("up", None, None, True)
    assert kept.find(answer_id(int(NOON.timestamp()))) is None
    assert [entry.answered.id for entry in kept.entries()] == [answer.id, other.id]


def test_only_the_owner_reads_it(tmp_path):
    """0600 and 0700, whatever the umask is."""
    before = os.umask(0)
    try:
        kept, answer = log(tmp_path), answered()
        kept.add(answer)
        assert {oct(path.stat().st_mode & 0o777) for path in kept.folder.iterdir()} == {"0o600"}
        kept.add(answered())
        kept.remove(answer.id)
        assert {oct(path.stat().st_mode & 0o777) for path in kept.folder.iterdir()} == {"0o600"}
        assert oct(kept.folder.stat().st_mode & 0o777) == "0o700"
    finally:
        os.umask(before)


def test_feedback_goes_with_its_answer(tmp_path):
    """Said after midnight, it stands in the file of the answer's day, so that both go together."""
    kept, answer = log(tmp_path), answered(NOON.replace(hour=23, minute=59))
    kept.add(answer)
    kept.add(Said(answer=answer.id, time=NOON + timedelta(days=1), rating="up"))
    assert [path.name for path in kept.files()] == ["2026-11-24.jsonl"]


@pytest.mark.parametrize("after, known, files", [(29.99, True, 1), (30, False, 1), (30.49, False, 1), (30.5, False, 0)])
def test_age(tmp_path, after, known, files):
    """An answer of noon is known for 30 days to the second; its file goes when the last second of its day is over."""
    answer = answered()
    log(tmp_path).add(answer)
    later = log(tmp_path, at=NOON + timedelta(days=after))
    assert (later.find(answer.id) is not None) == known == bool(list(later.entries()))
    later.sweep()
    assert len(later.files()) == files
    assert later.sweep() == []


@pytest.mark.parametrize("torn", [b"", b'{"kind":"answer","id":"chatcm', b'{"kind":"ans\xe5\x8d', b"\n", b"[]\n{}\nnull\n\xff\n"])
def test_a_torn_line_spoils_no_other(tmp_path, torn):
    """Whatever a killed writer or a full disk left at the end of the file, lines before and after it are read."""
    kept, before, after = log(tmp_path), answered(), answered()
    kept.add(before)
    with open(kept.files()[0], "ab") as file:
        file.write(torn)
    kept.add(after)
    kept.add(said(before))
    assert [entry.answered.id for entry in kept.entries()] == [before.id, after.id]
    assert kept.find(before.id).said.rating == "down"


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tasks.feedback.entries import Answered, Passage, answer_id
from tasks.feedback.log import Log
at = datetime(2026, 11, 24, 12, tzinfo=UTC)
kept = Log(Path(sys.argv[1]), 30, lambda: at)
for number in range(int(sys.argv[2])):
    text = f"{sys.argv[3]}-{number} " + "长" * 3000
    kept.add(Answered(id=answer_id(int(at.timestamp())), time=at, release="r", language="en", question=text,
                      passages=(Passage(source="a", text="b"),), answer="c"))
    print(number, flush=True)
"""


def writer(root: Path, count: int, name: str) -> subprocess.Popen:
    """A process that adds `count` answers and says each number once it is kept."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(root), str(count), name], stdout=subprocess.PIPE, text=True)


def test_two_processes_and_many_threads_write_one_file(tmp_path):
    """Every line of every writer is there, whole, while one answer is taken out again and again."""
    kept, gone = log(tmp_path), [answered(text=f"gone-{n}") for n in range(20)]
    processes = [writer(tmp_path, 100, name) for name in "ab"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(kept.add, [*gone, *(answered(text=f"thread-{n} {'x' * 5000}") for n in range(200))]))
        assert all(pool.map(lambda answer: kept.remove(answer.id) is not None, gone))
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    told = [entry.answered.question.split()[0] for entry in kept.entries()]
    wanted = [f"{name}-{n}" for name in "ab" for n in range(100)] + [f"thread-{n}" for n in range(200)]
    assert sorted(told) == sorted(wanted)
    assert all(json.loads(line) for line in kept.files()[0].read_bytes().splitlines() if line)


def test_kill_9_between(tmp_path):
    """A writer that is killed has lost nothing that it had kept, and the next one goes on."""
    kept = log(tmp_path)
    for round in range(3):
        process = writer(tmp_path, 100_000, f"round{round}")
        time.sleep(0.3)
        for _ in range(20):
            last = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        last = ([last, *process.stdout.read().splitlines()])[-1]
        process.wait()
        told = {entry.answered.question.split()[0] for entry in kept.entries()}
        assert {f"round{round}-{n}" for n in range(int(last) + 1)} <= told
    kept.add(answer := answered())
    assert kept.find(answer.id)


def test_one_answer_is_removed_for_good(tmp_path):
    """Its question, its answer, all that was said of it, and torn lines that could hold some of it; the rest stays."""
    kept, answer, other = log(tmp_path), answered(text="Secret?"), answered()
    for line in (answer, other, said(answer, reason="Secret"), said(other, "up")):
        kept.add(line)
    with open(kept.files()[0], "ab") as file:
        file.write(b'{"question":"Secret')
    (kept.folder / ".2026-11-24.jsonl.part").write_text("Secret")  # of a removal that was killed
    assert kept.remove(answer.id).answered == answer
    assert not [path for path in kept.folder.iterdir() if b"Secret" in path.read_bytes()]
    assert kept.remove(answer.id) is None and kept.remove("chatcmpl-x") is None
    [entry] = kept.entries()
    assert entry.answered == other and entry.said.rating == "up"


def test_purge_and_a_log_that_is_not_there(tmp_path):
    """All of it goes; asking an empty folder makes none."""
    kept, answer = log(tmp_path), answered()
    assert (kept.purge(), kept.sweep(), list(kept.entries())) == (0, [], [])
    assert kept.find(answer.id) is None and kept.remove(answer.id) is None
    assert not (tmp_path / FOLDER).exists()
    kept.add(answer)
    (kept.folder / "notes.jsonl").write_text("not ours, but in our folder")
    assert kept.purge() == 2 and kept.find(answer.id) is None and kept.files() == []


def test_a_full_disk_is_an_error(tmp_path):
    """/dev/full in the place of the day's file: nothing is kept, and it is said."""
    kept = log(tmp_path)
    kept.prepare()
    (kept.folder / "2026-11-24.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        kept.add(answered())
