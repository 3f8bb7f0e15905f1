"""Into data/ in one move: checked, sorted, replaced, removed, refused; twice, out of order, and after a kill at any line."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import minigraph
import pytest
from collect_fixtures import Server, choices, house, question, rows

from tasks import lock, tracked, withdrawn
from tasks.bootstrap import tracked_hash
from tasks.errors import DataError, ServiceError
from tasks.files import write_jsonl
from tasks.labelling import inbox, quarantine
from tasks.labelling.annotations import CORRECTIONS, PREFERENCES, read
from tasks.labelling.inbox import Batch, admit, land
from tasks.labelling.people import plain
from tasks.params import Params


@pytest.fixture
def made(tmp_path):
    """(root, params) of a fresh repository."""
    return house(tmp_path)


def judged(n: int, verdict: str = "A", updated: str = "2026-11-24T12:00:00.000000Z") -> dict:
    """A preference row as collect makes it."""
    server = Server()
    (number,) = server.send(question(n))
    server.last = n
    server.annotate(number, choices(verdict=verdict))
    (row,) = read(server.tasks[number], None, plain).rows[PREFERENCES]
    return {**row, "updated": updated}


def batch(*found: dict, remove: tuple[str, ...] = ()) -> Batch:
    """A batch of preferences."""
    return Batch(PREFERENCES, "annotation", list(found), list(remove))


def test_rows_go_in_sorted_and_dvc_knows(made):
    """The file is sorted by key, data.dvc names the new bytes, the inbox is empty; other files are as they were."""
    root, params = made
    before, others = tracked_hash(root / "data.dvc"), (root / "data/a.txt").stat().st_mtime_ns
    land(root, batch(judged(3), judged(1)))
    land(root, batch(judged(2)))
    done = admit(root, params)
    assert [row["annotation"] for row in rows(root)] == sorted(row["annotation"] for row in map(judged, (1, 2, 3)))
    assert (done.added, done.replaced, done.removed, done.refused) == ({PREFERENCES: 3}, {}, {}, [])
    assert before != done.tracked == tracked_hash(root / "data.dvc") and "up to date" in minigraph.dvc(root, "status", "data.dvc")
    assert inbox.waiting(root) == 0 and (root / "data/a.txt").stat().st_mtime_ns == others
    assert f"{PREFERENCES}: 3 new" in done.lines()


def test_twice_changes_nothing(made):
    """Not a byte, not a time stamp, and DVC is not asked."""
    root, params = made
    land(root, batch(judged(1)))
    admit(root, params)
    files = [root / "data.dvc", root / "data" / PREFERENCES]
    before = [path.stat().st_mtime_ns for path in files]
    land(root, batch(judged(1)))
    done = admit(root, params)
    assert (done.added, done.tracked, done.lines()) == ({}, None, []) and [path.stat().st_mtime_ns for path in files] == before


def test_of_two_with_a_time_the_later_stays_whatever_comes_first(made, tmp_path):
    """An edit replaces; an older export that comes after it does not; the bytes are the same in both orders."""
    old, new = judged(1, "A"), judged(1, "B", "2026-11-24T13:00:00.000000Z")
    found = []
    for name, order in (("one", (old, new)), ("two", (new, old))):
        root, params = house(tmp_path / name)
        for row in order:
            land(root, batch(row))
            admit(root, params)
        found.append((root / "data" / PREFERENCES).read_bytes())
    assert found[0] == found[1] and json.loads(found[0])["ranking"] == [["B"], ["A"]]


def test_order_of_arrival_does_not_show(made, tmp_path):
    """Many rows in random batches: the same bytes and the same hash each time."""
    every, found = [judged(n) for n in range(12)], set()
    for seed in range(3):
        root, params = house(tmp_path / str(seed))
        draw = random.Random(seed)
        draw.shuffle(every)
        for start in range(0, 12, 5):
            land(root, batch(*every[start : start + 5]))
            if draw.random() < 0.5:
                admit(root, params)
        admit(root, params)
        found.add(((root / "data" / PREFERENCES).read_bytes(), tracked_hash(root / "data.dvc")))
    assert len(found) == 1


def test_removed_rows_go_and_an_empty_file_with_them(made):
    """What was deleted where it came from."""
    root, params = made
    before = tracked_hash(root / "data.dvc")
    land(root, batch(judged(1), judged(2)))
    admit(root, params)
    land(root, batch(remove=(judged(1)["annotation"], "ls9-unknown")))
    assert admit(root, params).removed == {PREFERENCES: 1} and [row["id"] for row in rows(root)] == ["prompt-2"]
    land(root, batch(remove=(judged(2)["annotation"],)))
    admit(root, params)
    assert not (root / "data" / PREFERENCES).exists() and tracked_hash(root / "data.dvc") == before


def test_what_stage_validate_would_refuse_does_not_get_in(made):
    """By the reader or by a check: quarantined with the reason; the others go in; mended it goes in and out of quarantine."""
    root, params = made
    long = params.validate_.max_answer_characters + 1
    too_long = judged(1) | {"answers": {"A": "x" * long, "B": "y"}}
    foreign, unreadable = judged(2) | {"language": "xx"}, judged(3) | {"ranking": "A"}
    partial = judged(4) | {"ranking": [["A"]]}
    land(root, batch(too_long, foreign, unreadable, partial, judged(5)))
    done = admit(root, params)
    assert [row["id"] for row in rows(root)] == ["prompt-5"] and len(done.refused) == 4
    told = {content["key"]: content["reason"] for content in quarantine.everything(root).values()}
    assert f"no answer has more than {long - 1} characters" in told[too_long["annotation"]]
    assert "the language is en or zh" in told[foreign["annotation"]]
    assert "'ranking' is not a list" in told[unreadable["annotation"]]
    assert "the ranking names each answer once" in told[partial["annotation"]]
    land(root, batch(judged(1), *(judged(n) for n in (2, 3, 4))))
    assert admit(root, params).refused == [] and len(rows(root)) == 5 and quarantine.everything(root) == {}


def test_an_edit_that_is_refused_takes_the_earlier_word_with_it(made):
    """Nobody says that any more."""
    root, params = made
    land(root, batch(judged(1)))
    admit(root, params)
    land(root, batch(judged(1, updated="2026-11-24T13:00:00.000000Z") | {"language": "xx"}))
    assert admit(root, params).removed == {PREFERENCES: 1} and rows(root) == []


def test_skips_ties_and_corrections_get_in(made):
    """One skip alone, and an approved correction beside it: each by the checks of its kind."""
    root, params = made
    land(root, batch(judged(1) | {"skipped": True, "ranking": []}))
    assert admit(root, params).refused == []
    messages = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At 8:03."}]
    row = {"id": "feedback-a", "messages": messages, "language": "en", "annotator": "label-studio-1", "annotation": "ls1-x"}
    land(root, batch(judged(2, "tie")))
    land(root, Batch(CORRECTIONS, "annotation", [row]))
    land(root, Batch("prompts/feedback.jsonl", "id", [{"id": "p", "messages": messages[:1], "language": "en"}]))
    assert admit(root, params).added == {PREFERENCES: 1, CORRECTIONS: 1, "prompts/feedback.jsonl": 1}
    assert rows(root, CORRECTIONS) == [row] and len(rows(root)) == 2


def test_people_who_have_withdrawn_do_not_come_back(made):
    """Left out, counted, and not kept anywhere; their rows in an older file go when it is written anew."""
    root, params = made
    land(root, batch(judged(1)))
    admit(root, params)
    write_jsonl(root / "data" / withdrawn.FILE, [{"annotator": "label-studio-1", "when": "2026-11-24T00:00:00Z"}])
    land(root, batch(judged(2), judged(3) | {"annotator": "label-studio-2"}))
    done = admit(root, params)
    assert (done.withdrawn, done.removed) == (1, {PREFERENCES: 1}) and [row["id"] for row in rows(root)] == ["prompt-3"]
    assert quarantine.everything(root) == {}


def test_a_fresh_clone_is_filled_before_anything_is_moved_in(tmp_path):
    """A data/ that held nothing but judgements would pass for the whole."""
    root, params = house(tmp_path)
    (root / "data").rename(root / "examples")
    land(root, batch(judged(1)))
    admit(root, params)
    assert (root / "data/a.txt").is_file() and len(rows(root)) == 1


@pytest.mark.parametrize(
    "file",
    ["../x.jsonl", "preferences/a/b.jsonl", "evaluation/facts.jsonl", "preferences/x.json", "x.jsonl", "preferences/.x.jsonl"],
)
def test_only_files_of_rows_below_data(made, file):
    """Neither outside data/ nor into the evaluation."""
    with pytest.raises(DataError, match="is no file that batches fill"):
        land(made[0], Batch(file, "id", []))


def test_rows_need_a_name_and_must_fit_into_a_file(made):
    """Said when they land, not in the night."""
    with pytest.raises(DataError, match="1 rows have no 'annotation'"):
        land(made[0], batch({"id": "x"}))
    with pytest.raises(DataError, match="a row that no file can hold"):
        land(made[0], batch({"annotation": "x", "text": "\ud83d"}))
    assert inbox.waiting(made[0]) == 0


def test_the_same_batch_does_not_pile_up(made):
    """Landed again while it waits, it is there once; another one comes after it."""
    root, _ = made
    first = land(root, batch(judged(1)))
    assert land(root, batch(judged(1))) == first and inbox.waiting(root) == 1
    assert land(root, batch(judged(2))) > first
    assert land(root, batch(judged(1))).name == "000000000003.json"  # after another word it is a word again


def test_a_file_that_somebody_else_fills_is_left_alone(made):
    """Its rows have no key: an error that names the line, and the batch stays."""
    root, params = made
    write_jsonl(root / "data" / PREFERENCES, [{"prompt": "p", "chosen": "a", "rejected": "b"}])
    land(root, batch(judged(1)))
    with pytest.raises(DataError, match=r"label-studio\.jsonl:1: has no 'annotation'"):
        admit(root, params)
    assert inbox.waiting(root) == 1 and len(rows(root)) == 1


def test_one_lock_for_all_who_write(made):
    """Held by another process: said with its number, and at once."""
    root, _ = made
    code = "import sys, time; from pathlib import Path; from tasks import lock\nwith lock.alone(Path.cwd()): print('held', flush=True); time.sleep(60)"  # noqa: E501
    other = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, env=minigraph.environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ServiceError, match=rf"another night is running here \(process {other.pid}\)"), lock.alone(root):
            pass
    finally:
        other.kill()
        other.wait()
    with lock.alone(root):
        pass


def admit_and_die(root: Path, params: Params, steps: int) -> int:
    """Admit in a process of its own that is killed (SIGKILL) before the next rename, removal or `dvc add` after so many; its
    exit code, 0 where it came through. A fork, for the checks take seconds to import."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = steps

    def dying(real):
        def call(*words, **more):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*words, **more)

        return call

    os.replace, os.unlink, Path.unlink = dying(os.replace), dying(os.unlink), dying(Path.unlink)
    tracked.track = dying(tracked.track)
    code = 1
    try:
        admit(root, params)
        code = 0
    finally:
        os._exit(code)


def state(root: Path) -> dict[str, bytes]:
    """Everything that counts: all of data/, its pointer, what waits and what is in quarantine."""
    work = root / ".nightshift"
    places = [*root.glob("data/**/*"), root / "data.dvc", *work.glob("inbox/[!.]*"), *work.glob("quarantine/[!.]*")]
    return {str(path.relative_to(root)): path.read_bytes() for path in places if path.is_file()}


@pytest.mark.slow
def test_a_kill_at_any_step_loses_and_doubles_nothing(tmp_path):
    """Before the n-th step, every n; once more, and all is as if undisturbed, down to DVC's hash of data/."""
    first, second = judged(1), judged(1, "B", "2026-11-24T13:00:00.000000Z")
    start, params = house(tmp_path / "start")
    land(start, batch(judged(7)))
    admit(start, params)
    land(start, batch(first, judged(2), judged(3) | {"language": "xx"}))
    land(start, batch(second, remove=(judged(7)["annotation"],)))
    land(start, Batch("prompts/feedback.jsonl", "id", [{"id": "p", "messages": first["messages"], "language": "en"}]))
    whole = Path(shutil.copytree(start, tmp_path / "whole"))
    admit(whole, params)
    wanted = state(whole)
    for n in range(60):
        root = Path(shutil.copytree(start, tmp_path / str(n)))
        code = admit_and_die(root, params, n)
        admit(root, params)
        assert state(root) == wanted and not tracked.pending(root), n
        shutil.rmtree(root)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    else:
        pytest.fail("never came through")
    assert n >= 8


def test_landing_is_whole_or_not_at_all(made):
    """A half-written batch is none: what a kill leaves beside is passed over."""
    root, params = made
    land(root, batch(judged(1)))
    (root / inbox.INBOX / ".4711.part").write_text('{"file": "pref')
    (root / inbox.INBOX / "notes.txt").write_text("x")
    assert inbox.waiting(root) == 1 and admit(root, params).added == {PREFERENCES: 1}
    assert os.path.exists(root / inbox.INBOX / "notes.txt")
