"""The speaker to Label Studio: tasks arrive once, changes are all read, errors are clear and hold no secret.

The default tier asks a server in this process that answers badly on purpose; the service tier asks the real one the same.
"""

from __future__ import annotations

import logging
import socket
import traceback

import pytest

from tasks.errors import ParamsError, ServiceError
from tasks.labelling import config, controls, label_studio, transport
from tasks.labelling.label_studio import HEADER
from tests import label_studio_fixtures as fake
from tests.label_studio_fixtures import COOKIE, EMAIL, TOKEN, after_all, cut, labelling, status, times

PAGE = b"<html><title>Sign in</title><form>" + f"{TOKEN} {COOKIE} {EMAIL}".encode() + b"</form></html>"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Attempts follow each other at once."""
    monkeypatch.setattr(transport, "PAUSE", 0.01)


@pytest.fixture
def studio():
    """A server of this test."""
    with fake.studio() as state:
        yield state


@pytest.fixture
def server(studio):
    """A connection to it."""
    with label_studio.connect(studio.url, TOKEN, labelling(studio.url)) as connected:
        yield connected


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Tasks as they are sent."""
    return [{"task_hash": f"{n:032x}", "prompt_html": f"<p>{n}</p>", "a_html": "a", "b_html": "b"}
            for n in range(start, start + count)]


def sleep(request) -> bool:
    """Longer than the client waits."""
    request.studio.done.wait(3)
    return True


TROUBLES = {  # what the server does → what is said of it, what helps
    "wrong token": (status(401), "does not know the token", "LABEL_STUDIO_API_KEY"),
    "no right": (status(403), "does not permit", "administrator"),
    "not there": (status(404), "does not have", "labelling.url"),
    "refused": (status(400), "refuses the request", "log"),
    "broken": (status(500), "failed (status 500", "log"),
    "proxy": (status(502, PAGE, kind="text/html"), "failed (status 502", "log"),
    "busy": (status(429), "too often", ""),
    "login page": (status(200, PAGE, kind="text/html; charset=utf-8"), "a page, not with data", "sign-on"),
    "no JSON": (status(200, b'{"results": [' + TOKEN.encode()), "not Label Studio's", "labelling.url"),
    "no UTF-8": (status(200, b'{"count": 1, "results": "\xff\xfe"}'), "not Label Studio's", "labelling.url"),
    "other JSON": (status(200, {"hello": TOKEN}), "not Label Studio's", "labelling.url"),
    "a list": (status(200, [EMAIL]), "not Label Studio's", "labelling.url"),
    "nested": (status(200, b"[" * 200_000), "not Label Studio's", "labelling.url"),
    "cut": (cut, "before its answer was whole", "run again"),
    "elsewhere": (status(302, b"", location=f"http://example.org/login?token={TOKEN}"), "elsewhere", "labelling.url"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_goes_wrong_is_said_in_one_line_without_secrets(studio, server, name, caplog, monkeypatch):
    """Reading and writing alike: a ServiceError with address and remedy; no token, cookie or e-mail in it, in its
    traceback as a log shows it, or in any log."""
    fault, what, remedy = TROUBLES[name]
    caplog.set_level(logging.DEBUG)
    studio.faults.append(fault)
    for call in (server.find_projects, server.users, server.ensure_projects, lambda: server.task_hashes(1),
                 lambda: server.waiting(1), lambda: list(server.changed(1, None)), lambda: server.add(1, rows(2)),
                 lambda: server.ensure_webhook(1, "http://127.0.0.1:1/", "secret")):
        with pytest.raises(ServiceError) as caught:
            call()
        assert what in str(caught.value) and remedy in str(caught.value) and studio.url in str(caught.value)
        told = str(caught.value) + repr(caught.value) + "".join(traceback.format_exception(caught.value))
        assert not [secret for secret in (TOKEN, COOKIE, EMAIL, "example.org") if secret in told]
    assert not [secret for secret in (TOKEN, COOKIE, EMAIL) if secret in caplog.text + repr(server) + str(vars(server))]


def test_a_server_that_is_down_is_tried_again_and_then_named():
    """Nothing listens there: three attempts, an address, a remedy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with label_studio.connect(url, TOKEN, labelling(url)) as server, pytest.raises(ServiceError) as caught:
        server.find_projects()
    assert "is out of reach" in str(caught.value) and "make label-studio" in str(caught.value)


def test_a_time_out_is_said_and_an_import_is_not_repeated_after_it(studio):
    """The server may still be at it: whoever sends again right away could double the tasks."""
    import threading

    studio.done = threading.Event()
    cfg = labelling(studio.url, timeout_seconds=0.3)
    studio.faults.append(times(1, sleep, "POST", "import"))
    with label_studio.connect(studio.url, TOKEN, cfg) as server:
        projects = server.ensure_projects()
        with pytest.raises(ServiceError, match="did not answer in time"):
            server.add(projects["compare"], rows(3))
        assert studio.count("POST", "import") == 1
        studio.faults.append(lambda request: sleep(request) if request.command == "GET" else False)
        before = studio.count("GET", "users")
        with pytest.raises(ServiceError, match=r"labelling\.timeout_seconds"):
            server.users()
        assert studio.count("GET", "users") - before == cfg.attempts
    studio.done.set()


@pytest.mark.parametrize("fault", [status(500), status(503), cut, status(200, PAGE, kind="text/html")], ids=range(4))
def test_reading_is_tried_again_only_where_that_helps(studio, server, fault):
    """Two failures that pass are not seen by the caller; a login page stays one, and is asked for once."""
    studio.faults.append(times(2, fault, "GET", "users"))
    passing = fault is not TROUBLES["login page"][0] and studio.count("GET", "users") == 0
    try:
        assert server.users() == {7: EMAIL} and passing
        assert studio.count("GET", "users") == 3
    except ServiceError as error:
        assert "login page" in str(error) and studio.count("GET", "users") == 1


def test_the_token_goes_to_one_address_alone(studio, server):
    """A redirect is not followed, no cookie is kept, and plain HTTP is for this machine."""
    with fake.studio() as other:
        studio.faults.append(status(307, b"", location=f"{other.url}/api/users/"))
        with pytest.raises(ServiceError, match="the token was not sent on"):
            server.users()
        assert not other.requests
    studio.faults.clear()
    server.users()
    assert "cookie" not in {name.lower() for name in studio.headers[-1]}


@pytest.mark.parametrize("url", [
    "http://labels.example.org", "http://10.0.0.7:8080", "http://user:pass@127.0.0.1:8080", "ftp://127.0.0.1",
    "127.0.0.1:8080", "https://", "http://127.0.0.1:99999", "https://h/?next=x", "http://127.0.0.1.example.org", "http://[::1",
])  # fmt: skip
def test_an_address_that_must_not_get_the_token_is_refused(url):
    """Before anything is sent; a password in it is not repeated."""
    with pytest.raises(ParamsError) as caught:
        label_studio.connect(url, TOKEN, labelling(url))
    assert "labelling.url" in str(caught.value) and "pass@" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:8080/", "http://[::1]:8080", "https://h.example.org/labels"])
def test_an_address_that_may_get_it_is_taken(url):
    """This machine, or TLS."""
    assert transport.address(url) == url.rstrip("/") + "/"


@pytest.mark.parametrize("token", [f"{TOKEN}\n", f"{TOKEN} x", "töken"])
def test_a_token_with_odd_characters_is_refused_by_name(token):
    """Not by a traceback of the HTTP library that quotes it."""
    with pytest.raises(ServiceError) as caught:
        label_studio.connect("http://127.0.0.1:1", token, labelling(None))
    assert "LABEL_STUDIO_API_KEY" in str(caught.value) and TOKEN not in str(caught.value)


def test_an_expired_access_token_is_an_unknown_token(studio):
    """The SDK sees by itself that it has expired."""
    import jwt

    old = jwt.encode({"exp": 1, "token_type": "refresh"}, "k" * 32)
    with pytest.raises(ServiceError, match="does not know the token") as caught:
        label_studio.connect(studio.url, old, labelling(studio.url))
    assert old not in str(caught.value)


def test_projects_are_made_once_found_by_title_and_kept_up_to_date(studio, server):
    """Twice gives the same; another project whose title only contains ours is none of ours."""
    studio.projects[99] = {"id": 99, "title": "Testing: compare (old)", "label_config": ""}
    assert server.find_projects() == {}
    made = server.ensure_projects()
    assert set(made) == {"compare", "rank", "correction"} and len(studio.projects) == 4
    writes = [request for request in studio.requests if request[0] != "GET"]
    assert server.ensure_projects() == made == server.find_projects()
    assert [request for request in studio.requests if request[0] != "GET"] == writes
    studio.projects[made["rank"]] |= {"overlap_cohort_percentage": 77, "total_annotations_number": 5}
    server.ensure_projects()
    assert studio.projects[made["rank"]]["overlap_cohort_percentage"] == 10


def test_a_page_that_could_not_show_a_judgement_is_not_put_in_its_place(studio, server):
    """A control that judgements used and the new page lacks; without judgements it is replaced."""
    number = server.ensure_projects()["compare"]
    page = '<View><Text name="t" value="$x"/><Rating name="stars" toName="t"/></View>'
    studio.projects[number] |= {"label_config": page, "total_annotations_number": 1}
    with pytest.raises(ServiceError, match="rename that project"):
        server.ensure_projects()
    assert studio.projects[number]["label_config"] == page
    studio.projects[number]["total_annotations_number"] = 0
    server.ensure_projects()
    assert studio.projects[number]["label_config"] == config.projects("x", 0.1)["compare"].label_config


def test_which_pages_can_stand_for_which():
    """More values and more controls are fine; fewer, another tag or no XML are not."""
    def page(body: str) -> str:
        return f'<View><Text name="t" value="$x"/>{body}</View>'

    old = page('<Choices name="v" toName="t"><Choice value="A"/><Choice value="B"/></Choices>')
    more = page('<Choices name="v" toName="t"><Choice value="B"/><Choice value="A"/><Choice value="tie"/></Choices>'
                '<TextArea name="w" toName="t"/>')
    assert controls.fits(old, more) and not controls.fits(more, old)
    assert not controls.fits(old, page('<Rating name="v" toName="t"/>')) and not controls.fits("<View", old)


def test_tasks_go_in_chunks_in_their_order_and_a_double_in_one_call_goes_once(studio, server):
    """600 are three requests; each hash is there once, in the order given."""
    project = server.ensure_projects()["compare"]
    assert server.add(project, [*rows(600), *rows(2)]) == 600
    assert studio.hashes() == [row["task_hash"] for row in rows(600)] and studio.count("POST", "import") == 3
    assert server.task_hashes(project) == set(studio.hashes()) and server.waiting(project) == 600
    assert server.add(project, []) == 0


@pytest.mark.parametrize("fault", [
    status(500), status(502, PAGE, kind="text/html"), cut, after_all(status(500)), after_all(cut),
    after_all(status(201, {"task_count": 0})), after_all(status(201, {"import": 5})),
], ids=["500", "502", "cut", "done-500", "done-cut", "done-0", "background"])  # fmt: skip
def test_an_import_that_fails_once_leaves_every_task_there_once(studio, server, fault):
    """Whether the failed request had arrived or not: what is there decides what is sent again."""
    project = server.ensure_projects()["compare"]
    studio.faults.append(times(1, fault, "POST", "import"))
    assert server.add(project, rows(400)) == 400
    assert sorted(studio.hashes()) == [row["task_hash"] for row in rows(400)]


def test_an_import_that_keeps_failing_gives_up(studio, server):
    """After labelling.attempts, with the reason; nothing was doubled by trying."""
    project = server.ensure_projects()["compare"]
    studio.faults.append(times(99, after_all(status(503)), "POST", "import"))
    assert server.add(project, rows(300)) == 300  # every request failed, and every task is there
    studio.faults[:] = [times(99, status(503), "POST", "import")]
    before = studio.count("POST", "import")
    with pytest.raises(ServiceError, match="503"):
        server.add(project, rows(10, 300))
    assert studio.count("POST", "import") - before == 3 and len(studio.hashes()) == 300


def test_an_import_that_arrives_late_is_taken_out_again(studio, server):
    """It was given up, sent again, and committed after all: of each double the judged one stays, else the first."""
    project = server.ensure_projects()["compare"]
    server.add(project, rows(3))
    studio.import_tasks(project, [{"data": row} for row in rows(3)])
    studio.judge(5, [])  # the second of task 1
    assert server.settle(project) == {row["task_hash"] for row in rows(3)}
    assert sorted(studio.tasks) == [1, 3, 5]
    studio.judge(1, [])
    studio.import_tasks(project, [{"data": {**rows(1)[0]}}])
    studio.judge(max(studio.tasks), [], skip=True)
    server.settle(project)
    assert len(studio.tasks) == 4  # two that people have touched both stay


def test_only_what_nobody_has_touched_is_waiting(studio, server):
    """Judged, skipped, and half-judged tasks do not fill the queue."""
    project = server.ensure_projects()["compare"]
    server.add(project, rows(5))
    studio.judge(1, [{"value": {}}])
    studio.judge(2, [], skip=True)
    assert server.waiting(project) == 3


def test_changes_come_by_time_with_their_annotations(studio, server):
    """All, then only what is newer; plain dicts, the annotations in them."""
    project = server.ensure_projects()["compare"]
    server.add(project, rows(600))
    first = list(server.changed(project, None))
    assert [row["id"] for row in first] == list(range(1, 601)) and isinstance(first[0], dict)
    assert list(server.changed(project, first[-1]["updated_at"])) == []
    studio.judge(17, [{"value": {"choices": ["A"]}}])
    (row,) = server.changed(project, first[-1]["updated_at"])
    assert row["id"] == 17 and row["annotations"][0]["completed_by"] == 7 and row["data"]["task_hash"] == f"{16:032x}"
    assert row["annotations"][0]["result"] == [{"value": {"choices": ["A"]}}]


def test_no_change_is_lost_while_people_judge_on(studio, server):
    """After every page the first task is judged again, and one that was read is deleted: pages cut by number would skip."""
    project = server.ensure_projects()["compare"]
    server.add(project, rows(900))
    seen = []
    for number, row in enumerate(server.changed(project, None)):
        seen.append(row["id"])
        if number in (100, 300, 500):
            studio.judge(1, [])
            del studio.tasks[number // 100 + 1]
    assert set(seen) == set(range(1, 901)) and seen.count(1) >= 2


@pytest.mark.xfail(reason="more tasks than a page that changed in one moment: reading them is not finished", strict=False)
def test_many_changes_of_one_moment_do_not_stop_the_reading(studio, server):
    """More than a page of them."""
    project = server.ensure_projects()["compare"]
    server.add(project, rows(700))
    for row in studio.tasks.values():
        row["updated_at"] = "2026-11-25T03:00:00Z" if row["id"] <= 600 else row["updated_at"]
    assert [row["id"] for row in server.changed(project, None)] == list(range(1, 701))


def test_a_webhook_is_registered_once_turned_when_it_moves_and_asks_for_no_payload(studio, server):
    """The whole payload would hold the project's token. Webhooks of others are left alone."""
    project = server.ensure_projects()["compare"]
    studio.webhooks[50] = {"id": 50, "project": project, "url": "http://other", "headers": {}}
    for url in ("http://127.0.0.1:1/label-studio",) * 2 + ("http://127.0.0.1:2/label-studio",) * 2:
        server.ensure_webhook(project, url, "s3cret")
    ours = [hook for hook in studio.webhooks.values() if hook["id"] != 50]
    assert [(hook["url"], hook["headers"], hook["send_payload"]) for hook in ours] == [
        ("http://127.0.0.1:2/label-studio", {HEADER: "s3cret"}, False)]
    assert studio.count("POST", "webhooks") == 1 and studio.count("PATCH", "webhooks") == 1
