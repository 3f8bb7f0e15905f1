"""Feedback over a real socket: what is kept of an answer, what a user may say, and that no answer suffers by it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tasks.errors import ServiceError
from tasks.feedback import entries
from tasks.feedback.log import FOLDER, Log
from tasks.rag.answer import Answer
from tasks.serving import releases
from tasks.serving.recorder import Recorder, open_log
from tests.serving_fixtures import Two, question, sections, serving, two_releases, waiting
from tests.test_rag_answer import hit
from tests.test_serving_service import CHAT, WHEN, chunks, refused, send, slow_and_endless

FEEDBACK = "/v1/feedback"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Two:
    """A repository with two releases, the later one live."""
    return two_releases(tmp_path_factory.mktemp("feedback"))


@pytest.fixture(scope="module")
def loaded(made) -> releases.LoadedRelease:
    """The live release, loaded here."""
    return releases.load(made.root, sections())


def recorder(root: Path, **more: object) -> Recorder:
    """A recorder with the log on."""
    return Recorder(root, sections().feedback.model_copy(update={"log": True, "max_characters": 40}), **more)


@pytest.fixture
def on(made, loaded, tmp_path):
    """A server that keeps feedback in a folder of the test's own: its client, and the log."""
    with serving(made.root, lambda *_: loaded, recorder=recorder(tmp_path)) as (client, _):
        yield client, Log(tmp_path, 30)


def ask(client: httpx.Client, text: str = WHEN) -> str:
    """The id of an answer."""
    return client.post(CHAT, json=question(text)).json()["id"]


def say(client: httpx.Client, id: str, rating: str = "down", **more: object) -> httpx.Response:
    """Feedback on it."""
    return client.post(FEEDBACK, json={"answer": id, "rating": rating, **more})


def test_answers_are_kept_with_what_the_model_was_shown(on, made, loaded):
    """Whole and streamed, by the id that the client got; feedback at once after the answer finds it."""
    client, kept = on
    whole = client.post(CHAT, json=question(WHEN)).json()
    *_, last = chunks(client.post(CHAT, json=question("青山店几点开门？", stream=True)))
    for id in (whole["id"], last["id"]):
        assert say(client, id, "up").json() == {"answer": id, "rating": "up"}
    first, second = (kept.find(id).answered for id in (whole["id"], last["id"]))
    assert (first.question, first.release, first.language) == (WHEN, made.two, "en")
    assert first.answer == whole["choices"][0]["message"]["content"].split("\n\nSources:")[0]
    assert [(p.source, p.text) for p in first.passages] == [
        ("documents/two/oakleigh.md", loaded.search(WHEN)[0].chunk.note("section"))]
    assert abs((first.time - datetime.now(UTC)).total_seconds()) < 60
    assert (second.question, second.language) == ("青山店几点开门？", "zh")


def test_the_last_word_counts(on):
    """Thumb, then words, then another thumb: each replaces the one before, whole."""
    client, kept = on
    id = ask(client)
    say(client, id)
    say(client, id, reason="wrong\u202e\x00 \tshop", correction="At 21.\r\n[1]")
    found = kept.find(id).said
    assert (found.rating, found.reason, found.correction) == ("down", "wrong  shop", "At 21.\n[1]")
    assert say(client, id, "up", reason="  ").status_code == 200
    found = kept.find(id).said
    assert (found.rating, found.reason, found.correction) == ("up", None, None)
    say(client, id, correction=kept.find(id).answered.answer + "\n")
    assert kept.find(id).said.correction is None  # it corrects nothing


def test_personal_data_is_masked_before_it_is_written(on):
    """In question, reason and correction, also behind characters that nobody sees; the passage is kept as it is."""
    client, kept = on
    id = ask(client, "When does Oakleigh open? I am bob@x.example, +44 20 79\u200b46 0958, card 4111 1111 1111 1111")
    say(client, id, reason="from 192.168.1.7, b\u200bob@x.example", correction="Ask bob@x.example, at 21.")
    entry = kept.find(id)
    assert entry.answered.question == "When does Oakleigh open? I am [email], [phone], card [card]"
    assert (entry.said.reason, entry.said.correction) == ("from [ip], [email]", "Ask [email], at 21.")
    assert "Oakleigh" in entry.answered.passages[0].text
    written = b"".join(path.read_bytes() for path in kept.files())
    for secret in (b"bob", b"7946", b"79\xe2", b"4111", b"192.168"):
        assert secret not in written


def test_what_cannot_be_said(on):
    """Unknown and foreign ids, other ratings, long texts, other fields, other types: refused in OpenAI's form."""
    client, kept = on
    id = ask(client)
    for unknown in (entries.answer_id(int(time.time())), "chatcmpl-1", "", "../../x", "x" * 10_000):
        assert refused(say(client, unknown), 404, "unknown_answer")["param"] == "answer"
    assert refused(say(client, id, reason="x" * 41), 400, "text_too_long")["param"] == "reason"
    assert refused(say(client, id, correction="x" * 41), 400, "text_too_long")["param"] == "correction"
    for body in ({"answer": id}, {"answer": id, "rating": "sideways"}, {"rating": "up"}, {"answer": 1, "rating": "up"},
                 {"answer": id, "rating": "up", "release": "r"}, [], {"answer": id, "rating": "up", "reason": ["x"]}):
        refused(client.post(FEEDBACK, json=body), 400, "invalid_request")
    said = json.dumps({"answer": id, "rating": "up"})
    refused(client.post(FEEDBACK, content=said, headers={"content-type": "text/plain"}), 415, "unsupported_media_type")
    big = json.dumps({"answer": id, "rating": "up", "reason": "x" * 300_000})
    refused(client.post(FEEDBACK, content=big, headers={"content-type": "application/json"}), 413, "body_too_large")
    refused(client.post(FEEDBACK, json={}, headers={"Host": "evil.example"}), 403, "wrong_host")
    refused(client.get(FEEDBACK), 405, "method_not_allowed")
    assert kept.find(id).said is None


def test_an_answer_that_is_too_old_is_unknown(made, loaded, tmp_path):
    """Thirty days later to the second, and not a second before."""
    clock = [datetime.now(UTC)]
    with serving(made.root, lambda *_: loaded, recorder=recorder(tmp_path, now=lambda: clock[0])) as (client, _):
        id = ask(client)
        asked = entries.asked_at(id)
        clock[0] = asked + timedelta(days=30, seconds=-1)
        assert say(client, id).status_code == 200
        clock[0] = asked + timedelta(days=30)
        refused(say(client, id), 404, "unknown_answer")


def test_off_is_off(made, loaded, tmp_path, monkeypatch):
    """Nothing is kept, health says so, feedback is refused; an old log still ends by its age when the service starts."""
    cfg = sections()
    long_ago = int((datetime.now(UTC) - timedelta(days=40)).timestamp())
    old = entries.Answered(id=entries.answer_id(long_ago), time=datetime.now(UTC), release="r", language="en", question="?",
                           passages=(), answer="!")
    kept = Log(tmp_path, 30)
    kept.add(old)
    assert open_log(tmp_path, cfg) is None and kept.files() == []
    with serving(made.root, lambda *_: loaded) as (client, _):
        assert client.get("/health").json()["feedback"] is None
        refused(say(client, ask(client)), 404, "feedback_off")
    assert not (made.root / FOLDER).exists()


def test_on_is_said(on):
    """By /health, with how long answers are kept, so that a page can tell who asks."""
    client, _ = on
    assert client.get("/health").json()["feedback"] == {"days": 30, "max_characters": 40}


def test_keys_hold_for_feedback(made, loaded, tmp_path):
    """Without the key nothing is said of an answer."""
    with serving(made.root, lambda *_: loaded, keys="right", recorder=recorder(tmp_path)) as (client, _):
        client.headers["Authorization"] = "Bearer right"
        id = ask(client)
        refused(say(httpx.Client(base_url=client.base_url, trust_env=False), id), 401, "invalid_api_key")
        assert say(client, id).status_code == 200


def test_an_answer_broken_off_is_not_kept(made, loaded, tmp_path):
    """By time, or because the client went away: what was said until then is no answer."""
    with slow_and_endless(loaded) as (endless, chosen), \
            serving(made.root, lambda *_: endless, recorder=recorder(tmp_path), answer_seconds=1) as (client, _):
        assert "timeout" in client.post(CHAT, json=question(WHEN, stream=True)).text
        chosen.clear()
        with send(client, question(WHEN, stream=True)):
            while len(chosen) < 2:
                time.sleep(0.01)
    assert Log(tmp_path, 30).files() == []


def test_a_full_disk_costs_no_answer(made, loaded, tmp_path, caplog):
    """Said once, until there is room again; feedback is not confirmed; what was asked is nowhere in the service's log."""
    kept = Log(tmp_path, 30)
    kept.prepare()
    days = [datetime.now(UTC).date() + timedelta(days=more) for more in (0, 1)]  # midnight may come
    for day in days:
        (kept.folder / f"{day}.jsonl").symlink_to("/dev/full")
    with caplog.at_level(logging.INFO), \
            serving(made.root, lambda *_: loaded, recorder=(recording := recorder(tmp_path))) as (client, _):
        lost = [ask(client, "Is it Secret?") for _ in range(3)]
        recording._settle()
        for day in days:
            (kept.folder / f"{day}.jsonl").unlink()
        id = ask(client, "Is it Secret?")
        assert say(client, id, reason="Secret").status_code == 200
        refused(say(client, lost[0]), 404, "unknown_answer")
    ours = [record.getMessage() for record in caplog.records if record.name == "nightshift.serve"]
    assert sum("cannot be written (No space left on device)" in line for line in ours) == 1
    assert sum(f"POST {CHAT} 200" in line for line in ours) == 4
    assert not [line for line in ours if "Secret" in line]


def test_feedback_that_cannot_be_kept_is_not_confirmed(on):
    """The folder is gone and cannot be made again between the answer and the thumb."""
    client, kept = on
    id = ask(client)
    say(client, id)
    (kept.folder / ".lock").unlink()
    (kept.folder / ".lock").mkdir()
    response = say(client, id, "up")
    assert refused(response, 503, "feedback_not_kept") and response.headers["retry-after"] == "60"
    assert kept.find(id).said.rating == "down"
    (kept.folder / ".lock").rmdir()


def test_a_folder_that_cannot_be_made_is_said_at_the_start(tmp_path):
    """Not with the first answer."""
    (tmp_path / ".nightshift").write_text("in the way")
    cfg = sections()
    with pytest.raises(ServiceError, match=r"feedback: cannot be written .*feedback\.log: off"):
        open_log(tmp_path, cfg.model_copy(update={"feedback": cfg.feedback.model_copy(update={"log": True})}))


def test_a_stuck_disk_stops_no_answer(tmp_path):
    """With the writer held up, answers are handed over at once; those beyond the queue are lost, and it is said once."""
    kept = Log(tmp_path, 30)
    recording = recorder(tmp_path, waiting=5)
    given = Answer("At 9. [1]", (hit("It opens at 9."),), (), (), True, notes=("It opens at 9.",))
    ids = [entries.answer_id(int(time.time())) for _ in range(50)]
    with kept._locked(2):  # exclusively
        recording.start()
        began = time.monotonic()
        for id in ids:
            recording.answered(id, "r1", "When?", given)
        assert time.monotonic() - began < 1
    recording.stop()
    told = {entry.answered.id for entry in kept.entries()}
    assert 5 <= len(told) <= 7 and told <= set(ids)


def test_what_waits_is_written_at_the_end(tmp_path):
    """Answers given just before the service ends are kept."""
    recording = recorder(tmp_path)
    given = Answer("No.", (), (), (), True)
    recording.start()
    for _ in range(100):
        recording.answered(entries.answer_id(int(time.time())), "r1", "When?", given)
    recording.stop()
    assert len(list(Log(tmp_path, 30).entries())) == 100


def test_old_days_go_while_the_service_runs(tmp_path):
    """With the first answer after midnight, by the clock."""
    clock = [datetime.now(UTC)]
    recording, given = recorder(tmp_path, now=lambda: clock[0]), Answer("No.", (), (), (), True)
    recording.start()

    def ask_now() -> str:
        id = entries.answer_id(int(clock[0].timestamp()))
        recording.answered(id, "r1", "When?", given)
        recording._settle()
        return id

    ask_now()
    kept = Log(tmp_path, 30, lambda: clock[0])
    [first] = kept.files()
    clock[0] += timedelta(days=30)
    ask_now()
    assert first in kept.files()
    clock[0] += timedelta(days=1)
    ask_now()
    assert first not in kept.files() and len(kept.files()) == 2
    recording.stop()


def test_two_services_share_a_log(made, loaded, tmp_path):
    """Answers of each, feedback through the other, from many threads at once: nothing is lost or mixed."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        one, two = (stack.enter_context(serving(made.root, lambda *_: loaded, recorder=recorder(tmp_path), queue=100))[0]
                    for _ in range(2))
        lock = threading.Lock()
        ids: list[str] = []

        def work(number: int) -> None:
            mine, other = (one, two) if number % 2 else (two, one)
            id = ask(mine)
            assert say(mine, id, "up").status_code == 200
            assert say(other, id, "down", reason=f"user {number}").status_code == 200
            with lock:
                ids.append(id)

        list(pool.map(work, range(40)))
    found = {entry.answered.id: entry for entry in Log(tmp_path, 30).entries()}
    assert set(found) == set(ids) and len(ids) == 40
    assert sorted(entry.said.reason for entry in found.values()) == sorted(f"user {n}" for n in range(40))


def test_a_release_that_answers_keeps_its_name(made, loaded, tmp_path):
    """The release in the log is the one that answered, though another went live meanwhile."""
    slow, gate = waiting(loaded)
    with serving(made.root, lambda *_: slow, recorder=recorder(tmp_path), poll_seconds=60) as (client, live), \
            ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client)
        assert gate.waiting.acquire(timeout=30)
        live._state = dataclasses.replace(live.state, release=dataclasses.replace(loaded, id="another"))
        gate.gate.set()
        id = asked.result()
        assert say(client, id).status_code == 200
    assert Log(tmp_path, 30).find(id).answered.release == loaded.id


def test_a_thumb_waits_for_its_answer(tmp_path):
    """The answer is not written yet when the thumb comes: it is waited for, not called unknown."""
    kept, recording, given = Log(tmp_path, 30), recorder(tmp_path), Answer("No.", (), (), (), True)
    id = entries.answer_id(int(time.time()))
    recording.start()
    with ThreadPoolExecutor(1) as pool:
        with kept._locked(2):  # exclusively
            recording.answered(id, "r1", "When?", given)
            said = pool.submit(recording.said, id, "down", None, None)
            time.sleep(0.3)
            assert not said.done()
        assert said.result() is True
    recording.stop()
    assert kept.find(id).said.rating == "down"
