"""What the server holds is what data/ holds: incremental, twice, edited, deleted, malformed, killed, and from an export."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path

import minigraph
import pytest
from collect_fixtures import OWNER, PROJECTS, SALT, Server, approved, choices, correction, house, question, rank, rows

from tasks import lock, withdrawn
from tasks.errors import DataError, ServiceError
from tasks.files import read_json, write_jsonl
from tasks.labelling import annotations, collect, inbox, people, quarantine
from tasks.labelling.annotations import CORRECTIONS, PREFERENCES
from tasks.params import Params


@pytest.fixture(autouse=True)
def salt(monkeypatch):
    """The secret of the pseudonyms."""
    monkeypatch.setenv("NIGHTSHIFT_ANNOTATOR_SALT", SALT)


@pytest.fixture
def made(tmp_path):
    """(root, params) of a fresh repository."""
    return house(tmp_path)


def settle(root: Path, params: Params, server: Server, **how) -> collect.Collected:
    """Collect and admit."""
    done = collect.collect(root, params, server, **how)
    inbox.admit(root, params)
    return done


def held(server: Server) -> dict[str, dict[str, dict]]:
    """File → key → row, of all that the server holds now: what any history has to end with."""
    name = lambda user: people.pseudonym(user, SALT)  # noqa: E731
    said = [annotations.read(task, None, name) for task in server.tasks.values()]
    return {file: {row["annotation"]: row for each in said for row in each.rows[file]} for file in (PREFERENCES, CORRECTIONS)}


def stored(root: Path) -> dict[str, dict[str, dict]]:
    """The same of data/."""
    return {file: {row["annotation"]: row for row in rows(root, file)} for file in (PREFERENCES, CORRECTIONS)}


def everything_written(root: Path) -> str:
    """All text in data/ and .nightshift/."""
    places = [p for folder in ("data", ".nightshift") for p in (root / folder).rglob("*") if p.is_file()]
    return "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in places)


def test_all_kinds_come_back_once(made):
    """Verdicts, ranks, skips and corrections of three projects; again there is nothing new, and nothing lands."""
    root, params = made
    server = Server()
    a, b, c, d = server.send(question(1), question(2, 3), correction(3), question(4))
    server.annotate(a, choices(verdict="A"), user=1)
    server.annotate(a, choices(verdict="tie"), user=2)
    server.annotate(b, rank("CAB"))
    server.annotate(c, approved("At three."))
    server.annotate(d, [], skip=True)
    done = settle(root, params, server)
    assert done.tasks == 4 and done.landed == {PREFERENCES: 4, CORRECTIONS: 1}
    assert done.counts == {"skipped": 1, "ties": 1, "left out: their annotator has withdrawn": 0}
    assert stored(root) == held(server) and {row["annotator"] for row in rows(root)} == {
        people.pseudonym(n, SALT) for n in (1, 2)
    }
    assert OWNER not in everything_written(root)
    again = collect.collect(root, params, server)
    assert not any(again.landed.values()) and inbox.waiting(root) == 0 and again.lines()[0].endswith("read: nothing new")


def test_only_what_has_changed_is_read(made):
    """From some minutes before the newest change seen, by the server's clock; `again` reads all."""
    root, params = made
    server = Server()
    numbers = server.send(*(question(n) for n in range(3)))
    server.annotate(numbers[0], choices(verdict="A"))
    settle(root, params, server)
    newest = server.tasks[numbers[0]]["updated_at"]
    assert server.asked == [None, None, None] and newest.startswith("2026-11-24T12:00:05")
    server.asked, server.seconds = [], 3600
    server.annotate(numbers[1], choices(verdict="B"))
    assert settle(root, params, server).tasks == 3  # all three changed less than ten minutes before 12:00:05
    assert server.asked[0] == "2026-11-24T11:50:05+00:00"
    server.asked = []
    assert collect.collect(root, params, server).tasks == 1 and server.asked[0] == "2026-11-24T12:50:02+00:00"
    assert collect.collect(root, params, server, again=True).tasks == 3
    assert read_json(root / collect.CURSOR).keys() == {"://None:None project 5"}


def test_edits_replace_and_deletions_remove(made):
    """Also between two collections, and when a rejection follows an approval."""
    root, params = made
    server = Server()
    a, b = server.send(question(1), correction(2))
    one, two, three = (
        server.annotate(a, choices(verdict="A")),
        server.annotate(a, choices(verdict="B"), 2),
        server.annotate(b, approved("So.")),
    )
    settle(root, params, server)
    server.edit(a, one, result=choices(verdict="tie"))
    server.delete(a, two)
    server.edit(b, three, result=choices(decision="reject"))
    done = settle(root, params, server)
    assert done.removed == {PREFERENCES: 1, CORRECTIONS: 1}
    assert [row["ranking"] for row in rows(root)] == [[["A", "B"]]] and rows(root, CORRECTIONS) == []
    server.edit(a, one, result=[], was_cancelled=True)
    settle(root, params, server)
    assert stored(root) == held(server) and rows(root)[0]["skipped"] is True


def test_a_task_that_is_gone_takes_no_judgement_with_it(made):
    """An administrator tidies a project up: what people have said stays."""
    root, params = made
    server = Server()
    (a,) = server.send(question(1))
    server.annotate(a, choices(verdict="A"))
    settle(root, params, server)
    del server.tasks[a]
    settle(root, params, server, again=True)
    assert len(rows(root)) == 1


def test_the_same_question_sent_twice_is_two_tasks(made):
    """A deletion in one of them takes nothing from the other, though they ask the same."""
    root, params = made
    server = Server()
    a, b = server.send(question(1), question(1))
    server.annotate(a, choices(verdict="A"))
    left = server.annotate(b, choices(verdict="B"))
    settle(root, params, server)
    server.delete(b, left)
    settle(root, params, server)
    assert [row["place"] for row in rows(root)] == [f"5/{a}"]


def test_a_task_that_changes_while_it_is_read_comes_twice_and_its_newer_state_counts(made):
    """The judgement that was deleted in between is not taken for one that is there."""
    root, params = made

    class Busy(Server):
        """Deletes while it answers."""

        def changed(self, project, since):
            yield from super().changed(project, since)
            if project == 5 and any(task["annotations"] for task in self.tasks.values()):
                self.delete(100, 1)
                yield from super().changed(project, since)

    server = Busy()
    (a,) = server.send(question(1))
    server.annotate(a, choices(verdict="A"))
    settle(root, params, server)
    assert rows(root) == []


def test_malformed_ones_are_quarantined_until_they_are_mended(made):
    """Counted in the summary each time, kept with their reason; the row from before goes, and comes back when it is mended."""
    root, params = made
    server = Server()
    a, b = server.send(question(1), question(2, 3))
    one = server.annotate(a, choices(verdict="A"))
    two = server.annotate(b, rank("AB"))
    done = settle(root, params, server)
    assert [str(each) for each in done.quarantined] == [
        f"annotation 2 of task {b}, project 6: the rank is incomplete: 2 of 3 answers"
    ]
    server.edit(a, one, result=[])
    done = settle(root, params, server)
    assert rows(root) == [] and "1 quarantined: there is no verdict" in done.lines()
    assert {content["reason"] for content in quarantine.everything(root).values()} == {
        "there is no verdict",
        "the rank is incomplete: 2 of 3 answers",
    }
    assert OWNER not in everything_written(root)
    server.edit(a, one, result=choices(verdict="B"))
    server.edit(b, two, result=rank("ABC"))
    assert settle(root, params, server).quarantined == []
    assert quarantine.everything(root) == {} and stored(root) == held(server)
    server.edit(a, one, result=[])
    settle(root, params, server)
    server.delete(a, one)
    settle(root, params, server)
    assert quarantine.everything(root) == {} and stored(root) == held(server)


def test_what_was_refused_at_the_door_goes_with_its_annotation(made):
    """Well formed there, too long here: in quarantine until it is shorter, or deleted."""
    root, params = made
    server = Server()
    (a,) = server.send(correction(1))
    long = server.annotate(a, approved("x" * (params.validate_.max_answer_characters + 1)))
    settle(root, params, server)
    assert rows(root, CORRECTIONS) == [] and len(quarantine.everything(root)) == 1
    server.delete(a, long)
    settle(root, params, server)
    assert quarantine.everything(root) == {}


def test_people_who_have_withdrawn_are_not_collected(made):
    """Neither their rows nor what of theirs is malformed; said as a number."""
    root, params = made
    server = Server()
    a, b = server.send(question(1), question(2))
    server.annotate(a, choices(verdict="A"), user=7)
    server.annotate(b, [], user=7)
    server.annotate(b, choices(verdict="A"), user=8)
    write_jsonl(root / "data" / withdrawn.FILE, [{"annotator": people.pseudonym(7, SALT), "when": "2026-11-24T00:00:00Z"}])
    done = settle(root, params, server)
    assert [row["annotator"] for row in rows(root)] == [people.pseudonym(8, SALT)] and quarantine.everything(root) == {}
    assert "1 left out: their annotator has withdrawn" in done.lines()[0]
    assert people.pseudonym(7, SALT) not in (root / "data" / PREFERENCES).read_text()


def test_a_server_that_is_lost_in_the_middle(made):
    """What of a project has come is not half landed; the projects before are; the cursor of the lost one stays."""
    root, params = made

    class Lost(Server):
        """Ends in the second project."""

        def changed(self, project, since):
            for task in super().changed(project, since):
                yield task
                if project == 6:
                    raise ServiceError("http://127.0.0.1:9", "does not answer", "start it")

    server = Lost()
    a, b = server.send(question(1), question(2, 3))
    server.annotate(a, choices(verdict="A"))
    server.annotate(b, rank("ABC"))
    with pytest.raises(ServiceError, match="does not answer"):
        collect.collect(root, params, server)
    inbox.admit(root, params)
    assert [row["id"] for row in rows(root)] == ["prompt-1"] and len(read_json(root / collect.CURSOR)) == 1
    server.__class__ = Server
    settle(root, params, server)
    assert stored(root) == held(server)


def test_a_dry_run_leaves_nothing(made):
    """It says what would come."""
    root, params = made
    server = Server()
    a, b = server.send(question(1), question(2))
    server.annotate(a, choices(verdict="A"))
    server.annotate(b, [])
    done = collect.collect(root, params, server, dry=True)
    assert done.landed[PREFERENCES] == 1 and len(done.quarantined) == 1
    assert inbox.waiting(root) == 0 and quarantine.everything(root) == {} and not (root / collect.CURSOR).exists()


def test_a_broken_cursor_costs_a_second_reading(made):
    """Nothing else."""
    root, params = made
    server = Server()
    (a,) = server.send(question(1))
    server.annotate(a, choices(verdict="A"))
    settle(root, params, server)
    (root / collect.CURSOR).write_text('{"half')
    assert settle(root, params, server).tasks == 1 and server.asked[-3:] == [None] * 3 and len(rows(root)) == 1


def test_one_collection_at_a_time(made):
    """Two at once could land an older state after a newer one."""
    root, params = made
    params.labelling.__dict__["timeout_seconds"] = 0.1  # a frozen section; this one waits too long for a test
    with lock.held(root / collect.LOCK, "x", "y"), pytest.raises(ServiceError, match="another collection is running here"):
        collect.collect(root, params, Server())


def test_from_an_export(made, tmp_path):
    """The same rows as from the server; nothing is deleted, and an older export takes no later word back."""
    root, params = made
    server = Server()
    a, b, c = server.send(question(1), question(2, 3), correction(3))
    one, two = server.annotate(a, choices(verdict="A")), server.annotate(b, rank("CAB"))
    server.annotate(c, choices(decision="reject"))
    old = server.export(tmp_path / "old.json")
    collect.collect(root, params, [old])
    inbox.admit(root, params)
    assert stored(root) == held(server) and OWNER not in everything_written(root)
    server.edit(a, one, result=choices(verdict="B"))
    server.edit(c, 3, result=approved("So."))
    settle(root, params, server)
    collect.collect(root, params, [old])
    inbox.admit(root, params)
    assert stored(root) == held(server)
    server.delete(b, two)
    collect.collect(root, params, [server.export(tmp_path / "new.json")])
    inbox.admit(root, params)
    assert len(rows(root)) == 2  # an export may be of some tasks only, or older


def test_exports_laid_end_to_end(made, tmp_path):
    """The same task twice in one file, once older: all its annotations, each as it was said last."""
    params = made[1]
    server = Server()
    a, c = server.send(question(1), correction(3))
    one, gone = server.annotate(a, choices(verdict="A")), server.annotate(a, choices(verdict="B"), 2)
    two = server.annotate(c, approved("So."))
    old = json.loads(server.export(tmp_path / "old.json").read_text())
    server.delete(a, gone)
    server.edit(a, one, result=choices(verdict="tie"))
    server.edit(c, two, result=choices(decision="reject"))
    new = json.loads(server.export(tmp_path / "new.json").read_text())
    for name, told in (("one", [*old, *new]), ("two", [*new, *old])):
        (tmp_path / "both.json").write_text(json.dumps(told))
        root = house(tmp_path / name)[0]
        collect.collect(root, params, [tmp_path / "both.json"])
        found = inbox.present(root, PREFERENCES, "annotation").values()
        assert sorted(row["ranking"] for row in found) == [[["A", "B"]], [["B"], ["A"]]]
        assert inbox.present(root, CORRECTIONS, "annotation") == {}


@pytest.mark.parametrize(
    "spoil, what",
    [
        (lambda text: text[: len(text) // 2], r"e\.json:1: is not whole JSON \(.*\); nothing of it was taken"),
        (lambda text: text.replace('"annotations"', '"annotation"'), "e.json:row 1: is no task with its annotations"),
        (lambda text: '{"tasks": 1}', "is no list of tasks"),
        (lambda text: "<html>502</html>", "is not whole JSON"),
    ],
)
def test_half_an_export_is_refused_whole(made, tmp_path, spoil, what):
    """With its file and place, and with the other file that was named beside it: all or nothing."""
    root, params = made
    server = Server()
    (a,) = server.send(question(1))
    server.annotate(a, choices(verdict="A"))
    good, bad = server.export(tmp_path / "good.json"), server.export(tmp_path / "e.json")
    bad.write_text(spoil(bad.read_text()))
    with pytest.raises(DataError, match=what):
        collect.collect(root, params, [good, bad])
    assert inbox.waiting(root) == 0 and quarantine.everything(root) == {}


def test_a_foreign_export_is_quarantined_and_said_in_a_line(made, tmp_path):
    """Another project's export, or broken numbers in it: no row, no crash."""
    root, params = made
    task = (
        '{"id": 1, "project": 183, "data": {"prompt": "What?"}, "annotations": [{"id": 68045, "completed_by": 2, '
        '"lead_time": NaN, "result": [{"value": {"selected": "left\\ud83d"}}], "updated_at": "2023-04-17T21:54:20Z"}]}'
    )
    path = tmp_path / "e.json"
    path.write_text(f"[{task}, {task.replace('68045', '68046')}]")
    done = collect.collect(root, params, [path])
    assert done.lines()[:2] == [
        "2 tasks read: nothing new",
        "2 quarantined: its task is none of Nightshift's (no 'nightshift' in its data)",
    ]
    assert inbox.waiting(root) == 0 and len(quarantine.everything(root)) == 2


def act(server: Server, draw: random.Random) -> None:
    """Something that people do."""
    task = server.tasks[draw.choice(list(server.tasks))]
    kind = {number: name for name, number in PROJECTS.items()}[task["project"]]
    results = {
        "compare": lambda: choices(verdict=draw.choice(["A", "B", "tie"])) if draw.random() < 0.9 else [],
        "rank": lambda: rank("".join(draw.sample("ABC", 3)), confirmed=draw.random() < 0.9),
        "correction": lambda: approved(f"Text {draw.random()}") if draw.random() < 0.7 else choices(decision="reject"),
    }[kind]
    there = task["annotations"]
    what = draw.choice(["new", "new", "edit", "skip", "delete"]) if there else "new"
    if what == "new":
        server.annotate(task["id"], results(), draw.randrange(4), skip=draw.random() < 0.2)
    elif what == "delete":
        server.delete(task["id"], draw.choice(there)["id"])
    else:
        skip = what == "skip"
        server.edit(task["id"], draw.choice(there)["id"], result=[] if skip else results(), was_cancelled=skip)


class Died(BaseException):
    """As a kill: nothing after it runs."""


@pytest.mark.parametrize("seed", range(4))
def test_any_history_ends_with_what_the_server_holds(tmp_path, monkeypatch, seed):
    """Random judgements, edits, skips, deletions, collections, full readings, admissions and deaths at random writes."""
    root, params = house(tmp_path)
    draw, server = random.Random(seed), Server()
    server.send(
        *(question(n) for n in range(4)), *(question(n, 3) for n in range(10, 13)), *(correction(n) for n in range(20, 23))
    )
    real, left = collect.write_json, [0]

    def dying(*words):
        left[0] -= 1
        if left[0] == 0:
            raise Died
        return real(*words)

    land = inbox.land

    def landing(*words):
        found = land(*words)
        dying(root / ".nightshift/x.json", {})
        return found

    monkeypatch.setattr(collect, "write_json", dying)
    monkeypatch.setattr(inbox, "land", landing)
    died = 0
    for _ in range(60):
        what = draw.random()
        if what < 0.7:
            act(server, draw)
        elif what < 0.97:
            left[0] = draw.choice([0, 0, 1, 2, 3, 4])
            try:
                collect.collect(root, params, server, again=draw.random() < 0.1)
            except Died:
                died += 1
            left[0] = 0
        else:
            inbox.admit(root, params)
        if draw.random() < 0.05:
            server.seconds += 3600
    settle(root, params, server)
    assert died and stored(root) == held(server)


KILLED = """
    import json, os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from collect_fixtures import Server
    from tasks import params
    from tasks.labelling import collect
    left, real = int(sys.argv[1]), {name: getattr(os, name) for name in ("replace", "link")}
    def dying(name):
        def call(*words, **more):
            global left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real[name](*words, **more)
        return call
    for name in real:
        setattr(os, name, dying(name))
    server, root = Server(), Path.cwd()
    server.tasks = {int(k): v for k, v in json.loads(Path(sys.argv[3]).read_text()).items()}
    collect.collect(root, params.load(root / "params.yaml"), server)
"""


def test_a_kill_at_any_file_costs_a_second_reading(made, tmp_path):
    """A real SIGKILL before the n-th file appears, every n: the cursor never moves before what was read has landed."""
    root, params = made
    server = Server()
    a, b, c = server.send(question(1), question(2, 3), correction(3))
    server.annotate(a, choices(verdict="A"))
    server.annotate(b, rank("CAB"))
    server.annotate(b, rank("CA"))
    server.annotate(c, approved("So."))
    (tmp_path / "tasks.json").write_text(json.dumps(server.tasks))
    for n in range(20):
        for path in [root / collect.CURSOR, *(root / inbox.INBOX).glob("*"), *(root / quarantine.FOLDER).glob("*")]:
            path.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-c",
            textwrap.dedent(KILLED),
            str(n),
            str(Path(__file__).parent),
            str(tmp_path / "tasks.json"),
        ]
        done = subprocess.run(command, cwd=root, env=minigraph.environment(), capture_output=True, text=True)
        landed = {
            row["annotation"] for file in (PREFERENCES, CORRECTIONS) for row in inbox.present(root, file, "annotation").values()
        }
        read = {name.rsplit(" ", 1)[1] for name in (read_json(root / collect.CURSOR) if (root / collect.CURSOR).exists() else {})}
        assert {key for key in landed if key.startswith("ls1-")} or "5" not in read
        collect.collect(root, params, server)
        known = {file: inbox.present(root, file, "annotation") for file in (PREFERENCES, CORRECTIONS)}
        assert known == held(server) and len(quarantine.everything(root)) == 1, n
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    else:
        pytest.fail("never came through")
    assert n >= 6
