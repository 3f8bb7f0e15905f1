"""The HTTP service over a real socket: OpenAI's wire format, limits, keys, hosts, and what hostile text may not do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tasks import cli
from tasks.errors import ParamsError, ServiceError, StoreError
from tasks.rag.answer import Answer, ask
from tasks.rag.prompt import citations
from tasks.serving import guard, releases, replies, server
from tests.serving_fixtures import HOSTILE, Two, question, sections, serving, two_releases, waiting
from tests.test_rag_answer import hit

WHEN = "When does Oakleigh open?"
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Two:
    """A repository with two releases, the later one live."""
    return two_releases(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def loaded(made) -> releases.LoadedRelease:
    """The live release, loaded here."""
    return releases.load(made.root, sections())


@pytest.fixture(scope="module")
def client(made):
    """A client of one server that most tests ask."""
    with serving(made.root) as (client, _):
        yield client


def chunks(response: httpx.Response) -> list[dict]:
    """The events of a stream, which has to end with [DONE]."""
    *events, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def refused(response: httpx.Response, status: int, code: str) -> dict:
    """The error, which has to have OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code, error
    return error


@pytest.mark.parametrize("asked", [WHEN, "When does Marsh open?", "青山店几点开门？", "Zyzzyva"])
def test_streamed_whole_and_asked_directly_are_the_same(client, loaded, asked):
    """The text of `ask` without invented citations; fields, counts and end agree; the chunks are OpenAI's."""
    whole = client.post(CHAT, json=question(asked, sources="fields")).json()
    [direct] = ask(loaded.model, loaded.tokenizer, [asked], [loaded.search(asked)], headings="section", max_new_tokens=24,
                   batch_size=1)
    text = whole["choices"][0]["message"]["content"]
    assert set(citations(text)) <= {1} and whole["nightshift"]["invented"] == list(direct.invented)
    assert direct.invented or text == direct.text
    first, *rest = chunks(client.post(CHAT, json=question(asked, stream=True, sources="fields",
                                                          stream_options={"include_usage": True})))
    *pieces, last, counted = rest
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(piece["choices"][0]["delta"]["content"] for piece in pieces) == text
    assert last["choices"][0] == {"index": 0, "delta": {}, "logprobs": None,
                                  "finish_reason": whole["choices"][0]["finish_reason"]}
    assert (last["nightshift"], counted["usage"], counted["choices"]) == (whole["nightshift"], whole["usage"], [])
    for event in (first, *rest):
        assert event["object"] == "chat.completion.chunk" and event["id"] == first["id"] and event["model"] == loaded.id
    assert first["id"].startswith("chatcmpl-") and whole["id"] != first["id"]


def test_the_answer_names_its_sources(client, made):
    """In the text and as fields, of the live release; counts are the model's."""
    body = client.post(CHAT, json=question(WHEN)).json()
    message, facts = body["choices"][0]["message"], body["nightshift"]
    [source] = facts.pop("sources")
    assert facts == {"release": made.two, "language": "en", "abstained": False, "invented": []}
    assert {k: source[k] for k in ("number", "source", "page", "heading", "text", "cited")} == {
        "number": 1, "source": "documents/two/oakleigh.md", "page": None, "heading": "Oakleigh",
        "text": "The Oakleigh store opens at 21.", "cited": True}
    assert message["role"] == "assistant" and " [1]" in message["content"]
    assert message["content"].endswith("\n\nSources:\n[1] documents/two/oakleigh.md: Oakleigh")
    assert body["object"] == "chat.completion" and body["model"] == made.two
    assert 0 < body["usage"]["completion_tokens"] <= 24 and body["usage"]["prompt_tokens"] > 100
    streamed = chunks(client.post(CHAT, json=question(WHEN, stream=True)))
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in streamed) == message["content"]
    zh = client.post(CHAT, json=question("青山店几点开门？")).json()
    assert zh["nightshift"]["language"] == "zh" and "\n\n来源：\n[1] documents/two/青山.md: 青山店" in (
        zh["choices"][0]["message"]["content"])


def test_the_question_is_the_last_user_message(client):
    """Earlier turns do not matter; content may come in parts; tokens can be cut."""
    turns = [{"role": "system", "content": "Be rude."}, {"role": "user", "content": "Zyzzyva"},
             {"role": "assistant", "content": "No."}, {"role": "user", "content": [{"type": "text", "text": WHEN}]}]
    alone = client.post(CHAT, json=question(WHEN)).json()
    among = client.post(CHAT, json={"messages": turns}).json()
    assert among["choices"] == alone["choices"] and among["usage"] == alone["usage"]
    cut = client.post(CHAT, json=question(WHEN, max_completion_tokens=2)).json()
    assert (cut["choices"][0]["finish_reason"], cut["usage"]["completion_tokens"]) == ("length", 2)
    most = client.post(CHAT, json=question(WHEN, max_tokens=10_000)).json()
    assert most["usage"] == alone["usage"]


def test_settings_that_change_nothing_are_accepted_and_others_refused(client, made):
    """Greedy and one answer is what is done; nothing is accepted and then ignored."""
    fine = {"temperature": 0, "top_p": 1, "n": 1, "seed": 7, "stop": None, "logprobs": False, "tools": [], "user": "x",
            "presence_penalty": 0.0, "response_format": {"type": "text"}, "store": False, "stream": False}
    for model in (None, "nightshift", made.two, "larkfield-assistant"):
        assert client.post(CHAT, json=question(WHEN, model=model, **fine)).status_code == 200
    assert refused(client.post(CHAT, json=question(WHEN, model="gpt-4o")), 404, "model_not_found")["param"] == "model"
    refused(client.post(CHAT, json=question(WHEN, model=made.one)), 404, "model_not_found")
    for name, value in {"temperature": 0.7, "n": True, "top_p": 0.5, "logprobs": True, "stop": ["."], "store": True,
                        "tools": [{"type": "function"}], "response_format": {"type": "json_object"}}.items():
        error = refused(client.post(CHAT, json=question(WHEN, **{name: value})), 400, "unsupported_value")
        assert error["param"] == name and "greedy" in error["message"]
    assert refused(client.post(CHAT, json=question(WHEN, best_of=3)), 400, "unknown_parameter")["param"] == "best_of"


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"\xff\xfe", b'{"messages": []}', b'{"messages": [{"role": "judge", "content": "x"}]}',
    b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}',
    b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', b'{"messages":' + b"[" * 5000,
    b'{"messages": [{"role": "user", "content": "x"}], "stream": "perhaps"}',
])
def test_broken_bodies_are_named(client, body):
    """Each is a 400 in OpenAI's form, and does not give back what was sent."""
    refused(client.post(CHAT, content=body, headers={"content-type": "application/json"}), 400, "invalid_request")


def test_search_models_health_and_unknown_paths(client, made):
    """Passages without a model, narrowed by source; names of models; what is live since when."""
    body = client.post("/v1/search", json={"question": WHEN, "k": 3}).json()
    assert body["release"] == made.two and body["passages"][0]["source"] == "documents/two/oakleigh.md"
    assert len(body["passages"]) == 3
    only = {"question": WHEN, "k": 9, "filter": {"source": "documents/two/marsh.md"}, "mode": "dense"}
    assert [p["text"] for p in client.post("/v1/search", json=only).json()["passages"]] == ["The Marsh store opens at 41."]
    zh = client.post("/v1/search", json={"question": "青山店", "mode": "sparse", "filter": {"language": "zh"}}).json()
    assert [p["source"] for p in zh["passages"]] == ["documents/two/青山.md"]
    refused(client.post("/v1/search", json={"question": WHEN, "mode": "magic"}), 400, "unsupported_value")
    refused(client.post("/v1/search", json={"question": WHEN, "k": 51}), 400, "unsupported_value")
    refused(client.post("/v1/search", json={"question": WHEN, "filter": {"owner": "me"}}), 400, "invalid_request")
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == [made.two, "larkfield-assistant", "nightshift"]
    health = client.get("/health").json()
    assert (health["status"], health["release"], health["error"], health["key"]) == ("ok", made.two, None, False)
    refused(client.get("/v1/nothing"), 404, "not_found")
    refused(client.get(CHAT), 405, "method_not_allowed")


def test_size_is_bounded_while_it_comes(client):
    """Announced or in chunks without an announcement: 413; a long question: 400; another type: 415."""
    big = json.dumps(question("x" * 300_000)).encode()
    refused(client.post(CHAT, content=big, headers={"content-type": "application/json"}), 413, "body_too_large")
    sent = 0

    def endless():
        nonlocal sent
        for _ in range(10_000):
            sent += 1
            yield b" " * 65_536

    with contextlib.suppress(httpx.WriteError, httpx.ReadError):  # where the connection closes while we still send
        refused(client.post(CHAT, content=endless(), headers={"content-type": "application/json"}), 413, "body_too_large")
    assert sent < 1000
    refused(client.post(CHAT, json=question("x" * 2001)), 400, "question_too_long")
    refused(client.post(CHAT, json=question("  ")), 400, "no_question")
    refused(client.post(CHAT, json=question("why? " * 390)), 400, "context_length_exceeded")
    refused(client.post(CHAT, content=json.dumps(question(WHEN)), headers={"content-type": "text/plain"}), 415,
            "unsupported_media_type")


def test_concurrency_and_queue_are_bounded(made, loaded):
    """One works, one waits, the third is told to come back; the waiting one is answered in the end."""
    slow, gate = waiting(loaded)
    with serving(made.root, lambda *_: slow, concurrent=1, queue=1) as (client, _), ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, CHAT, json=question(WHEN))
        assert gate.waiting.acquire(timeout=30)
        second = pool.submit(client.post, CHAT, json=question(WHEN))
        response = None
        for _ in range(100):  # until the second one stands in the queue
            response = httpx.post(f"{client.base_url}/v1/search", json={"question": "x"}, timeout=0.5, trust_env=False) if (
                response is None) else response
            if response.status_code == 429:
                break
        error = refused(response, 429, "queue_full")
        assert error["type"] == "rate_limit_error" and int(response.headers["retry-after"]) >= 1
        gate.gate.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]


def test_time_is_bounded_and_a_stuck_answer_keeps_its_slot(made, loaded):
    """504 when the work takes too long, 503 when its turn never came; once it ends, the slot is free."""
    slow, gate = waiting(loaded)
    with serving(made.root, lambda *_: slow, concurrent=1, queue=1, answer_seconds=0.5) as (client, _):
        assert "0.5 seconds" in refused(client.post(CHAT, json=question(WHEN)), 504, "timeout")["message"]
        waited = client.post(CHAT, json=question(WHEN, stream=True))
        assert int(refused(waited, 503, "overloaded") and waited.headers["retry-after"]) >= 1
        gate.gate.set()
        for _ in range(100):
            if (response := client.post(CHAT, json=question(WHEN))).status_code == 200:
                break
            time.sleep(0.05)
        assert response.status_code == 200


@contextlib.contextmanager
def slow_and_endless(loaded):
    """The release with a model that chooses 20 tokens a second and never an end; and a list that grows with each."""
    chosen: list[int] = []

    def slowly(*_) -> None:
        chosen.append(1)
        time.sleep(0.05)

    hook = loaded.model.register_forward_hook(slowly)
    settings = loaded.answering.model_copy(update={"max_new_tokens": 80})
    try:
        yield dataclasses.replace(loaded, answering=settings, tokenizer=_never_ending(loaded.tokenizer)), chosen
    finally:
        hook.remove()


def send(client: httpx.Client, body: dict) -> socket.socket:
    """A chat request on a socket of its own, whose answer nobody reads yet."""
    raw, data = socket.create_connection((client.base_url.host, client.base_url.port)), json.dumps(body).encode()
    raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(data), data))
    return raw


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_goes_away_stops_its_answer(made, loaded, streamed):
    """After the second token nobody listens, and the model stops long before the end."""
    with slow_and_endless(loaded) as (endless, chosen), serving(made.root, lambda *_: endless, concurrent=1) as (client, _):
        chosen.clear()
        with send(client, question(WHEN, stream=streamed)):
            while len(chosen) < 2:
                time.sleep(0.01)
        time.sleep(0.5)
        stopped = len(chosen)
        time.sleep(0.3)
        assert len(chosen) == stopped < 40


def test_time_that_runs_out_within_a_stream(made, loaded):
    """What was said stays, the last event is the error, and no [DONE] pretends that it is whole."""
    with slow_and_endless(loaded) as (endless, _), \
            serving(made.root, lambda *_: endless, answer_seconds=1) as (client, _):
        response = client.post(CHAT, json=question(WHEN, stream=True))
    *said, error = [json.loads(event.removeprefix("data: ")) for event in response.text.strip().split("\n\n")]
    assert response.status_code == 200 and error["error"]["code"] == "timeout"
    assert len(said) > 3 and all("choices" in event for event in said)


def _never_ending(tokenizer):
    """The tokenizer with an end that the model never chooses."""
    import copy

    other = copy.copy(tokenizer)
    other.__class__ = type("Endless", (type(tokenizer),), {"eos_token_id": property(lambda self: -1)})
    return other


def test_a_slow_body_does_not_wait_for_ever(made, loaded):
    """A request whose body never ends is told so, in its time."""
    with serving(made.root, lambda *_: loaded, answer_seconds=0.5) as (client, _), \
            socket.create_connection((client.base_url.host, client.base_url.port)) as raw:
        raw.settimeout(30)
        raw.sendall(b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    b"Content-Length: 100\r\n\r\n{")
        assert raw.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_keys(made, loaded, caplog):
    """Several keys, each good; none, a wrong one and another scheme are not; the page and health need none; no key is
    ever logged."""
    with serving(made.root, lambda *_: loaded, keys=" one-key , 另一个", poll_seconds=60) as (client, live), \
            caplog.at_level(logging.INFO):
        live._state = dataclasses.replace(live.state, error="/secret/path is broken")
        for header in (None, "Bearer wrong-key", "Bearer", "Basic one-key", "one-key", "Bearer one-key,另一个".encode()):
            response = client.post("/v1/search", json={"question": WHEN}, headers={"Authorization": header} if header else {})
            refused(response, 401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        for key in ("one-key", "另一个"):
            headers = {"Authorization": f"Bearer {key}".encode()}
            assert client.post("/v1/search", json={"question": WHEN}, headers=headers).status_code == 200
            assert client.get("/health", headers=headers).json()["error"] == "/secret/path is broken"
        health = client.get("/health")
        assert health.json()["key"] is True and "secret" not in health.text
        assert client.get("/").status_code == 200
        # with keys the Host header may be the name that others know the machine by
        assert client.get("/health", headers={"Host": "answers.example"}).status_code == 200
    assert "one-key" not in caplog.text and "POST /v1/search 200" in caplog.text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "",
                                  "[::1", "10.0.0.7", "localhost@evil.example", "evil.example#localhost"])
def test_other_hosts_are_refused_without_a_key(client, host):
    """A foreign name that was made to point here is not answered (DNS rebinding)."""
    refused(client.post("/v1/search", json={"question": WHEN}, headers={"Host": host}), 403, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8321", "127.0.0.1:8321", "[::1]:8321"])
def test_loopback_names_are_answered(client, host):
    """However this machine calls itself; and no response allows a foreign page to read it."""
    response = client.get("/health", headers={"Host": host, "Origin": "https://evil.example"})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_beyond_loopback_a_key_is_needed(made, monkeypatch, capsys):
    """Refused before anything is loaded or bound."""
    monkeypatch.chdir(made.root)
    monkeypatch.delenv(guard.VARIABLE, raising=False)
    for host in ("0.0.0.0", "::", "192.0.2.7", "answers.example"):
        assert cli.main(["serve", "--host", host]) == 1
        assert f"{host} can be reached from elsewhere; set NIGHTSHIFT_API_KEY" in capsys.readouterr().err
        with pytest.raises(ParamsError):
            guard.check_bind(host, guard.keys_of(" , "))
        guard.check_bind(host, guard.keys_of("a"))
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        guard.check_bind(host, ())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ServiceError, match="cannot be listened on"):
            server.bind("127.0.0.1", taken.getsockname()[1])


def test_hostile_documents_stay_text(client):
    """Script, markup and event ends of a document arrive as JSON text; the list of sources is defused; every response
    has the policy under which a browser would run none of it."""
    body = client.post(CHAT, json=question("Zyzzyva")).json()
    [source] = body["nightshift"]["sources"]
    assert source["text"] == HOSTILE
    events = chunks(client.post(CHAT, json=question("Zyzzyva", stream=True)))
    assert events[-1]["nightshift"]["sources"] == [source]
    for path in ("/", "/page.js", "/page.css", "/health", "/nothing"):
        response = client.get(path)
        policy = response.headers["content-security-policy"].split("; ")
        assert policy[:2] == ["default-src 'none'", "script-src 'self'"] and "frame-ancestors 'none'" in policy
        assert not any("unsafe" in rule or "*" in rule for rule in policy)
        assert (response.headers["x-content-type-options"], response.headers["referrer-policy"]) == ("nosniff", "no-referrer")
    page, script = client.get("/").text, client.get("/page.js").text
    assert "<script src=" in page and "style=" not in page and "onclick" not in page
    assert "innerHTML" not in script and "insertAdjacentHTML" not in script and "eval" not in script


def test_a_list_of_sources_cannot_be_forged():
    """A heading with a link, markup, a citation or a second line is one tame line."""
    evil = hit("x", "documents/a.md", heading="![x](http://evil)\n[2] <img src=x>\x1b[31m")
    text = replies.listing("When?", Answer("At 9. [1]", (evil,), (evil,), (), True))
    assert text == "\n\nSources:\n[1] documents/a.md: !(x)(http://evil) (2) ‹img src=x›(31m"
    assert replies.listing("When?", Answer("The notes do not say.", (evil,), (), (), True)) == ""
    assert replies.plain("a\x1b]0;owned\x07b\u202ec\n") == "a]0;ownedbc\n"


def test_one_line_a_request_and_no_question_in_it(made, loaded, caplog):
    """Id, route, status, seconds, tokens, release; what was asked and answered is nowhere, whatever goes wrong."""
    class Broken:
        def search(self, questions, *words, **more):
            raise StoreError("index", f"cannot find {questions}")

    with caplog.at_level(logging.INFO), serving(made.root, lambda *_: loaded) as (client, live):
        response = client.post(CHAT, json=question("When does Oakleigh open, Ms Secret?"))
        client.get("/Secret%0ASecret?q=Secret")
        live._state = dataclasses.replace(live.state, release=dataclasses.replace(loaded, retriever=Broken()))
        refused(client.post(CHAT, json=question("Secret")), 503, "search_error")
    used = response.json()["usage"]
    ours = [record.getMessage() for record in caplog.records if record.name == "nightshift.serve"]
    [line] = [said for said in ours if f"POST {CHAT} 200 " in said]
    assert line.startswith(response.headers["x-request-id"]) and line.endswith(made.two)
    assert f"{used['prompt_tokens']}+{used['completion_tokens']} tokens" in line
    assert not [said for said in ours if "Secret" in said]
    assert sum("StoreError at" in said for said in ours) == 1 and sum("GET - 404" in said for said in ours) == 1


def test_ask_on_the_command_line(made, monkeypatch, capsys):
    """Streamed, whole and as JSON: the same answer with its sources; another release on request; clear errors."""
    monkeypatch.chdir(made.root)

    def say(*words: str) -> str:
        assert cli.main(["ask", *words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    streamed, whole, fields = say(WHEN), say(WHEN, "--no-stream"), json.loads(say(WHEN, "--json"))
    assert streamed == whole == f"{fields['answer']}\n\nSources:\n[1] documents/two/oakleigh.md: Oakleigh\n"
    assert fields["release"] == made.two and fields["sources"][0]["cited"]
    assert "documents/one/oakleigh.md" in say(WHEN, "--release", made.one[-8:])
    assert cli.main(["ask", "  "]) == 1 and "there is no question" in capsys.readouterr().err
    assert cli.main(["ask", WHEN, "--release", "2031"]) == 1 and "is no release" in capsys.readouterr().err
