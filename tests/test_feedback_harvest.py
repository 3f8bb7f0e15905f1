"""Out of the log: prompts that are asked first, corrections that a person has to approve, what the command says."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from test_feedback_log import NOON, answered, log, said

from tasks import cli, params
from tasks.feedback import corrections, gather
from tasks.feedback.log import FOLDER
from tasks.formats import questions
from tasks.labelling.inbox import INBOX
from tasks.labelling.task import Task, task_hash
from tasks.rag.prompt import grounded

ROOT = Path(__file__).parent.parent
PARAMS = params.load(ROOT / "params.yaml")
ON = PARAMS.model_copy(update={"feedback": PARAMS.feedback.model_copy(update={"log": True})})


def now() -> datetime:
    """An hour after the answers."""
    return NOON + timedelta(hours=1)


def landed(root: Path) -> list[dict]:
    """The batches that lie in the inbox."""
    return [json.loads(path.read_text()) for path in sorted((root / INBOX).glob("*"))] if (root / INBOX).is_dir() else []


def test_answers_rated_down_become_prompts(tmp_path):
    """With the passages and the answer that was given; others are counted. The same again lands the same."""
    kept, down, up, none = log(tmp_path), answered(text="When does it open?"), answered(), answered()
    for line in (down, up, none, said(down, reason="It opens at 10.", correction="At 10. [1]"), said(up, "up")):
        kept.add(line)
    assert gather(tmp_path, ON, now) == ["feedback: 3 answers kept, 1 up, 1 down"]
    [batch] = landed(tmp_path)
    assert (batch["file"], batch["key"], batch["remove"]) == ("prompts/feedback.jsonl", "id", [])
    assert batch["rows"] == [{
        "id": f"feedback-{down.id}", "question": "When does it open?", "passages": ["It opens at 9."], "language": "en",
        "origin": "feedback", "answers": ["At 9. [1]"], "release": "r1", "reason": "It opens at 10.",
    }]
    assert questions.read(batch["rows"][0], "x").id == f"feedback-{down.id}"
    gather(tmp_path, ON, now)
    assert landed(tmp_path) == [batch]


def test_a_user_who_changes_their_mind_takes_the_prompt_back(tmp_path):
    """Down, gathered, then up: the row goes."""
    kept, answer = log(tmp_path), answered()
    for line in (answer, said(answer)):
        kept.add(line)
    gather(tmp_path, ON, now)
    shutil.rmtree(tmp_path / INBOX)
    kept.add(said(answer, "up"))
    gather(tmp_path, ON, now)
    [batch] = landed(tmp_path)
    assert (batch["rows"], batch["remove"]) == ([], [f"feedback-{answer.id}"])


def test_a_team_without_feedback_notices_nothing(tmp_path):
    """No log, log off: no line, no folder, no batch. What is left of a log that was on ends by its age."""
    assert gather(tmp_path, PARAMS, now) == [] and corrections(tmp_path, PARAMS) == []
    assert list(tmp_path.iterdir()) == []
    log(tmp_path).add(answered())
    later = lambda: NOON + timedelta(days=PARAMS.feedback.days + 1)  # noqa: E731
    assert gather(tmp_path, PARAMS, later) == ["feedback: 1 day older than 30 days removed"]
    assert landed(tmp_path) == [] and log(tmp_path).files() == []


def test_corrections_become_tasks(tmp_path):
    """Beside what was answered, with the prompt as the model is trained on it; the same hash for the same words."""
    kept, one, two, right = log(tmp_path), answered(text="When?"), answered(text="When?"), answered()
    for answer in (one, two, right):
        kept.add(answer)
    kept.add(said(one, reason="no", correction="At 10. [1]"))
    kept.add(said(two, correction="At 10. [1]"))
    kept.add(said(right, "up"))
    first, second = corrections(tmp_path, ON, now)
    messages = [{"role": "user", "content": grounded("When?", ["It opens at 9."], "en")}]
    assert first == Task(
        nightshift=1, task_hash=task_hash("correction", messages, ["At 9. [1]", "At 10. [1]"]), kind="correction",
        prompt_id=one.id, messages=messages, answers={"A": "At 9. [1]", "B": "At 10. [1]"}, order=[0, 1], language="en",
        model=None, release="r1", why="feedback")
    assert second.prompt_id == two.id and second.task_hash == first.task_hash
    kept.add(said(one, reason="changed my mind"))
    assert [task.prompt_id for task in corrections(tmp_path, ON, now)] == [two.id]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A repository's folder with params.yaml in it."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command(here, capsys):
    """Counts by release and no text; one question out of the log and of the prompts; all of it; clear errors."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    kept, one, two, three = log(here, at=at), *(answered(at, "Secret?", f"r{n // 2}") for n in range(3))
    assert cli.main(["feedback"]) == 0 and "no answers kept" in capsys.readouterr().out
    for line in (one, two, three, said(one, reason="Secret", correction="Secret"), said(two, "up")):
        kept.add(line)
    assert cli.main(["feedback"]) == 0
    out = capsys.readouterr().out
    assert "feedback.log is off; .nightshift/feedback is kept 30 days" in out and f"{at:%Y-%m-%d %H:%M} UTC" in out
    assert [line.split() for line in out.splitlines()[3:]] == [
        ["release", "answers", "up", "down", "corrections"], ["r0", "2", "1", "1", "1"], ["r1", "1", "0", "0", "0"],
        ["all", "3", "1", "1", "1"]]
    assert "Secret" not in out
    assert cli.main(["feedback", "--delete", one.id]) == 0
    out = capsys.readouterr().out
    assert "its prompt leaves data/prompts/feedback.jsonl" in out and one.id in out
    assert landed(here) == [{"file": "prompts/feedback.jsonl", "key": "id", "rows": [], "remove": [f"feedback-{one.id}"]}]
    assert cli.main(["feedback", "--delete", one.id]) == 1 and "is no answer that is kept" in capsys.readouterr().err
    assert cli.main(["feedback", "--delete", three.id]) == 0 and "prompt" not in capsys.readouterr().out
    assert len(landed(here)) == 1
    assert cli.main(["feedback", "--purge"]) == 0 and "1 files removed" in capsys.readouterr().out
    assert not list((here / FOLDER).glob("*.jsonl"))
