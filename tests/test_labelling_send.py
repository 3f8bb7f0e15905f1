"""Sending: what users complained of first and in any case, the rest up to the queue, nothing twice, and nothing by a dry run.

The server is the one of label_studio_fixtures.py; a kill is a kill -9 of a process that sends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from collect_fixtures import correction

from tasks import params, records
from tasks.errors import DataError, NightshiftError, ParamsError, ServiceError
from tasks.files import write_jsonl
from tasks.labelling.send import judged, send
from tasks.labelling.task import Task
from tasks.params import Params
from tests import label_studio_fixtures as fake
from tests.label_studio_fixtures import TOKEN, Studio, after_all, labelling, status, times

REPOSITORY = Path(__file__).parent.parent


def row(n: int, why: str = "uncertain", answers: int = 2, **more: Any) -> dict[str, Any]:
    """A row of stage select's output."""
    return {
        "id": f"prompt-{n}", "messages": [{"role": "user", "content": f"When does store {n} open?"}], "language": "en",
        "answers": [f"It opens at {hour}." for hour in range(8, 8 + answers)], "rewards": [0.5] * answers, "score": 0.5,
        "sureness": 0.5, "difference": 0.5, "why": why, "model": "sft-0123456789ab", **more,
    }  # fmt: skip


@pytest.fixture
def studio():
    """A server of this test."""
    with fake.studio() as state:
        yield state


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository after a night: the real graph, ten prompts to ask about, the last one a user's complaint."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    (tmp_path / "dvc.yaml").write_text((REPOSITORY / "dvc.yaml").read_text())
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases/LIVE").write_text("2026-11-23-aabbccdd\n")
    choose(tmp_path, [*(row(n) for n in range(8)), row(8, "random"), row(9, "feedback")])
    return tmp_path


def choose(root: Path, rows: list[dict[str, Any]]) -> Path:
    """Stage select's output; its path."""
    path = records.output_of(root, "select") / "selected.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(path, rows)
    return path


def cfg(studio: Studio | None, **changes: Any) -> Params:
    """params.yaml with this server."""
    whole = params.load(REPOSITORY / "params.yaml")
    return whole.model_copy(update={"labelling": labelling(studio and studio.url, **changes)})


def there(studio: Studio, title: str = "Testing: compare") -> list[str]:
    """Prompts of a project's tasks, in the order in which they were sent."""
    project = next(number for number, each in studio.projects.items() if each["title"] == title)
    return [task["data"]["prompt_id"] for task in studio.tasks.values() if task["project"] == project]


def writes(studio: Studio) -> list[tuple[str, str]]:
    """Requests that could change something."""
    return [request for request in studio.requests if request[0] != "GET"]


def test_what_users_complained_of_goes_first(root, studio):
    """Complaints and corrections before the rest, which keeps the stage's order; each kind in its own project."""
    choose(root, [row(0), row(1, answers=4), row(2, "random"), row(3, "feedback"), row(4), row(5, "feedback", 3)])
    sent = send(root, cfg(studio), extra=[correction(1), correction(2)])
    assert there(studio) == ["prompt-3", "prompt-0", "prompt-2", "prompt-4"]
    assert there(studio, "Testing: rank") == ["prompt-5", "prompt-1"]
    assert there(studio, "Testing: corrections") == ["answer-1", "answer-2"]
    assert sent.tasks == {("compare", "feedback"): 1, ("compare", "uncertain"): 2, ("compare", "random"): 1,
                          ("rank", "feedback"): 1, ("rank", "uncertain"): 1, ("correction", "feedback"): 2}  # fmt: skip
    assert (sent.there, sent.beyond, sent.waiting, sent.dry) == (0, 0, 0, False)


@pytest.mark.parametrize("queue", [1, 2, 3])
def test_complaints_do_not_wait_for_the_queue(root, studio, queue):
    """Where the queue is short, corrections and complaints are sent all the same, and others only where it has room."""
    sent = send(root, cfg(studio, queue=queue), extra=[correction(1)])
    first = ["answer-1", "prompt-9", "prompt-0"][: max(2, queue)]
    assert {task["data"]["prompt_id"] for task in studio.tasks.values()} == set(first) and sent.beyond == 11 - len(first)


def test_a_task_can_be_read_back(root, studio):
    """Texts, order and origin travel with it, beside what is shown; the release is the one that is live."""
    choose(root, [row(0, answers=3, messages=[{"role": "user", "content": "<b>*When?*</b>"}])])
    send(root, cfg(studio))
    (sent,) = (task["data"] for task in studio.tasks.values())
    task = Task.model_validate(sent)
    assert (task.kind, task.release, task.model) == ("rank", "2026-11-23-aabbccdd", "sft-0123456789ab")
    shown = [task.answers[letter] for letter in "ABC"]
    assert [shown[task.order.index(place)] for place in range(3)] == row(0, answers=3)["answers"]
    assert [item["id"] for item in sent["items"]] == ["A", "B", "C"] and "<em>When?</em>" in sent["prompt_html"]
    assert "<b>" not in sent["prompt_html"]


def test_the_queue_is_filled_and_no_further(root, studio):
    """Of all kinds together; what people have judged or skipped makes room, and a smaller queue takes nothing away."""
    choose(root, [row(n, answers=2 + n % 2) for n in range(10)])
    sent = send(root, cfg(studio, queue=4))
    assert (sent.tasks.total(), sent.beyond, sent.waiting) == (4, 6, 0)
    full = send(root, cfg(studio, queue=4))
    assert (full.tasks.total(), full.there, full.beyond, full.waiting) == (0, 4, 6, 4)
    studio.judge(1, [{"value": {}}])
    studio.judge(2, [], skip=True)
    more = send(root, cfg(studio, queue=4))
    assert (more.tasks.total(), more.waiting, more.beyond) == (2, 2, 4)
    assert (send(root, cfg(studio, queue=1)).tasks.total(), len(studio.tasks)) == (0, 6)


def test_nothing_is_sent_twice(root, studio):
    """Again nothing goes; nor with its answers in another order, nor when the same row stands there twice."""
    rows = [row(n) for n in range(5)]
    choose(root, [*rows, *rows[:2]])
    assert send(root, cfg(studio)).tasks.total() == 5 and len(set(studio.hashes())) == len(studio.hashes()) == 5
    before = writes(studio)
    choose(root, [{**each, "answers": each["answers"][::-1]} for each in rows])
    again = send(root, cfg(studio))
    assert (again.tasks.total(), again.there) == (0, 5) and writes(studio) == before
    choose(root, [*rows, row(0, answers=3)])
    assert send(root, cfg(studio)).tasks == {("rank", "uncertain"): 1}  # another question about the same prompt


def test_what_was_judged_before_is_not_sent_to_a_new_server(root, studio):
    """data/ knows it: preferences and approved corrections, by their field `task`. Other rows and broken lines are no matter."""
    with fake.studio() as old:
        send(root, cfg(old), extra=[correction(1)])
        hashes = {task["data"]["prompt_id"]: task["data"]["task_hash"] for task in old.tasks.values()}
    preferences, instructions = root / "data/preferences", root / "data/instructions/team/feedback.jsonl"
    write_jsonl(preferences / "label-studio.jsonl", [{"task": hashes["prompt-0"]}, {"task": hashes["prompt-9"], "skipped": True}])
    (preferences / "other.jsonl").write_bytes(b'{"task": 7}\n{"note": "no \\"task\\""}\n["task"]\n{"task": "half\n\xff"task"\n')
    write_jsonl(instructions, [{"task": hashes["answer-1"]}])
    assert judged(root / "data") == {hashes["prompt-0"], hashes["prompt-9"], hashes["answer-1"]}
    sent = send(root, cfg(studio), extra=[correction(1)])
    assert there(studio) == [f"prompt-{n}" for n in range(1, 9)]
    assert sent.there == 3 and not there(studio, "Testing: corrections")


KILLED = """
import sys
from pathlib import Path
from tasks.labelling.send import send
from tests.test_labelling_send import cfg
from tests.label_studio_fixtures import Studio
studio = Studio()
studio.url = sys.argv[2]
print(send(Path(sys.argv[1]), cfg(studio, queue=1000)))
"""


@pytest.mark.parametrize("arrives", [False, True], ids=["before", "after"])
def test_a_kill_between_two_chunks_doubles_nothing(root, studio, arrives):
    """kill -9 as the second import comes, before or after the server has it: the next run sends what is missing."""
    choose(root, [row(n) for n in range(600)])
    words = [sys.executable, "-c", KILLED, str(root), studio.url]
    env = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
    running: list[subprocess.Popen] = []

    def kill(request: fake.Handler) -> bool:
        if studio.count("POST", "import") < 2:
            return False
        if arrives:
            with studio.lock:
                request.act()
        running[0].send_signal(signal.SIGKILL)
        running[0].wait()
        return True

    studio.faults.append(times(2, kill, "POST", "import"))
    running.append(subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True))
    output, _ = running[0].communicate(timeout=60)
    assert running[0].returncode == -signal.SIGKILL and not output
    assert len(studio.tasks) == (500 if arrives else 250)
    studio.faults.clear()
    sent = send(root, cfg(studio, queue=1000))
    assert sent.tasks.total() == (100 if arrives else 350) and sent.waiting == (500 if arrives else 250)
    assert there(studio) == [f"prompt-{n}" for n in range(600)] and len(set(studio.hashes())) == 600


def test_an_import_that_fails_in_the_middle_is_said_and_the_rest_goes_next_time(root, studio, monkeypatch):
    """The server fails for good: a ServiceError; what had arrived is not sent again."""
    from tasks.labelling import transport

    monkeypatch.setattr(transport, "PAUSE", 0.01)
    choose(root, [row(n, answers=2 + n // 5) for n in range(10)])
    studio.faults.append(lambda request: status(503)(request) if "/2/import" in request.path else False)
    with pytest.raises(ServiceError, match="503"):
        send(root, cfg(studio))
    assert len(studio.tasks) == 5
    studio.faults[:] = [times(1, after_all(status(500)), "POST", "import")]
    assert send(root, cfg(studio)).tasks == {("rank", "uncertain"): 5} and len(set(studio.hashes())) == len(studio.tasks) == 10


def test_a_dry_run_says_the_same_and_sends_nothing(root, studio):
    """On a server without our projects, and on one with some tasks: no request that writes, and the figures of the real run."""
    for queue in (3, 20):
        before = writes(studio)
        told = send(root, cfg(studio, queue=queue), dry_run=True, extra=[correction(1)])
        assert writes(studio) == before
        done = send(root, cfg(studio, queue=queue), extra=[correction(1)])
        assert (told.tasks, told.there, told.beyond, told.waiting) == (done.tasks, done.there, done.beyond, done.waiting)
        assert told.dry and not done.dry and done.tasks.total() > 0


def test_the_summary_can_be_printed(root, studio):
    """One paragraph, and a table of the same."""
    told = send(root, cfg(studio, queue=3), dry_run=True)
    assert str(told).splitlines() == [
        "3 tasks to send, 0 waited already (labelling.queue: 3)",
        "  1 compare: users were not content",
        "  2 compare: the reward model is least sure",
        "  7 left for later: the queue is full",
    ]
    send(root, cfg(studio, queue=3))
    done = send(root, cfg(studio, queue=4))
    assert str(done).splitlines() == [
        "1 task sent, 3 waited already (labelling.queue: 4)",
        "  1 compare: the reward model is least sure",
        "  3 left out: sent or judged before",
        "  6 left for later: the queue is full",
    ]
    assert done.rows() == [{"kind": "compare", "why": "the reward model is least sure", "tasks": 1}]


BAD: dict[str, dict[str, Any]] = {
    "no id": {"id": None},
    "no messages": {"messages": []},
    "messages that are words": {"messages": ["When?"]},
    "a message without content": {"messages": [{"role": "user"}]},
    "a message that says nothing": {"messages": [{"role": "user", "content": None}]},
    "one answer": {"answers": ["At 8."]},
    "twice the same": {"answers": ["At 8.", "At 8."]},
    "five answers": {"answers": [str(n) for n in range(5)]},
    "a text for the answers": {"answers": "AB"},
    "answers that are objects": {"answers": [{"text": "a"}, {"text": "b"}]},
    "numbers for answers": {"answers": [1, 2]},
    "no answers": {"answers": None},
    "another reason": {"why": "boredom"},
    "a list for a reason": {"why": ["random"]},
    "no language": {"language": None},
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_by_its_place(root, studio, name):
    """File, line and what helps, before the server hears of anything."""
    path = choose(root, [row(0), {**row(1), **BAD[name]}])
    with pytest.raises(DataError, match="is no row of stage select") as caught:
        send(root, cfg(studio))
    assert f"{path}:2" in str(caught.value) and "dvc repro --force select" in str(caught.value) and not studio.requests


@pytest.mark.parametrize("line", ["[]", "7", '"row"', "null", "{}"])
def test_a_line_that_is_no_row_is_named_by_its_place(root, studio, line):
    """Whatever JSON it is."""
    path = choose(root, [row(0)])
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(DataError, match="is no row of stage select") as caught:
        send(root, cfg(studio))
    assert f"{path}:2" in str(caught.value)


def test_half_a_file_is_named_by_its_place(root, studio):
    """The line where it ends."""
    path = choose(root, [row(0), row(1)])
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match="is not JSON") as caught:
        send(root, cfg(studio))
    assert f"{path}:2" in str(caught.value) and not studio.requests


def test_what_is_not_set_up_is_said_with_what_to_do(root, studio, monkeypatch):
    """No server, no token, no output, no stage: each one line with the remedy, and the server hears of none."""
    said: list[str] = []

    def refused(kind: type[NightshiftError], settings: Params) -> None:
        with pytest.raises(kind) as caught:
            send(root, settings)
        said.append(str(caught.value))

    refused(ParamsError, cfg(None))
    monkeypatch.delenv("LABEL_STUDIO_API_KEY")
    refused(ServiceError, cfg(studio))
    (records.output_of(root, "select") / "selected.jsonl").unlink()
    refused(DataError, cfg(studio))
    graph = yaml.safe_load((root / "dvc.yaml").read_text())
    del graph["stages"]["select"]
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph))
    refused(DataError, cfg(studio))
    wanted = [("labelling.url", "make label-studio"), ("LABEL_STUDIO_API_KEY", "export it"), ("selected.jsonl", "make nightly"),
              ("dvc.yaml", "'select'")]  # fmt: skip
    assert all(thing in line and remedy in line for line, (thing, remedy) in zip(said, wanted, strict=True)), said
    assert not studio.requests


def test_before_the_first_release_a_task_names_none(root, studio):
    """People can judge what the first night sampled."""
    (root / "releases/LIVE").unlink()
    send(root, cfg(studio))
    assert {json.dumps(task["data"]["release"]) for task in studio.tasks.values()} == {"null"}
