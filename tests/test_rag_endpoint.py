"""tasks/rag/embedders/endpoint.py against a real HTTP server on loopback, whose vectors are the committed model's."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tasks.embed import embed
from tasks.errors import ModelError, ParamsError, ServiceError
from tasks.files import read_json, sha256_tree
from tasks.rag.chunks import MANIFEST, read_chunks
from tasks.rag.embedder import embedder_of, load_embedder
from tasks.rag.embedders import endpoint
from tasks.rag.embedders.endpoint import EndpointEmbedder
from tasks.rag.embedders.tokens import estimate, load_tokenizer
from tests import rag_fixtures as fixtures
from tests.test_rag_embedder import CFG, CPU, STARTER
from tests.test_rag_vectors import write_documents

KEY = "sk-secret-0123456789"
MODEL = load_embedder(CFG, STARTER, CPU)


class Server:
    """An OpenAI-compatible embeddings server. `wrong` holds what its next answers are instead of the right one."""

    def __init__(self):
        self.requests: list[dict] = []
        self.wrong: list = []  # functions of the handler and the right answer; None: answer rightly
        self.always = None
        self.key: str | None = KEY
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(body)
                wrong = server.wrong.pop(0) if server.wrong else server.always
                if self.path != "/v1/embeddings":
                    return send(self, 404, b"<html>Not found</html>", "text/html")
                if server.key and self.headers["Authorization"] != f"Bearer {server.key}":
                    sent = self.headers["Authorization"]
                    return send(self, 401, json.dumps({"error": {"message": f"bad key {sent}"}}).encode())
                vectors = 3.0 * MODEL.passages(body["input"])  # not of length 1
                data = [{"index": n, "embedding": row.tolist()} for n, row in enumerate(vectors)]
                answer = {"object": "list", "data": data[::-1], "model": body["model"]}
                return wrong(self, answer) if wrong else send(self, 200, json.dumps(answer).encode())

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


def send(handler, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
    """One whole answer."""
    handler.send_response(status)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **named}.items():
        handler.send_header(name, value)
    handler.end_headers()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        handler.wfile.write(body)


def status(code: int, body: bytes = b"{}", **headers: str):
    """A wrong answer of that status."""
    return lambda handler, answer: send(handler, code, body, **headers)


def changed(change):
    """A right answer after `change` of its data."""

    def wrong(handler, answer):
        answer["data"] = change(answer["data"])
        send(handler, 200, json.dumps(answer).encode())

    return wrong


@pytest.fixture
def server(monkeypatch, tmp_path) -> Iterator[Server]:
    """A running server, its key in the environment, and a folder of the test's own."""
    monkeypatch.setenv("EMBEDDING_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    running = Server()
    yield running
    running.close()


@pytest.fixture
def pauses() -> list[float]:
    """Seconds that the client would have waited."""
    return []


def client(server: Server, pauses: list[float], timeout: float = 20) -> EndpointEmbedder:
    """A client that notes its pauses instead of sleeping."""
    return EndpointEmbedder(server.url, "some-model", 4, KEY, timeout=timeout, pause=pauses.append)


def settings(server: Server, **changes):
    """Section embed with the server's address."""
    return CFG.model_copy(update={"model": "some-model", "endpoint": server.url, **changes})


def test_vectors_come_in_order_and_of_length_1(server):
    """Batches of batch_size, put in order by index, normalised; prefixes are sent with the texts."""
    model = load_embedder(settings(server, query_prefix="query: "), STARTER, CPU)
    texts = [f"The store number {n} opens at {n}:00." for n in range(19)]
    assert model.passages(texts) == pytest.approx(MODEL.passages(texts), abs=1e-6)
    assert [len(request["input"]) for request in server.requests] == [1, 8, 8, 3]
    assert server.requests[1] == {"model": "some-model", "input": texts[:8], "encoding_format": "float"}
    assert model.queries(["lamp"]) == pytest.approx(MODEL.passages(["query: lamp"]), abs=1e-6)
    assert model.passages(texts).dtype == np.float32 and model.passages([]).shape == (0, MODEL.dim) == (0, model.dim)
    assert model.unknown_share(["青山店"]) == 0.0 and model.longest is None


def test_the_stage_and_the_search_at_a_server(server, tmp_path, capsys):
    """The whole stage: a changed document sends its chunk and the probe alone, no byte differs from a run from nothing, and
    the manifest leads back to the server. Another address of the same model keeps the vectors. No key is written."""
    documents = write_documents(tmp_path / "documents", 10)

    def run(name: str, before=None, cfg=None):
        (tmp_path / name).mkdir()
        server.requests.clear()
        report = embed(cfg or settings(server), CPU, documents, STARTER, tmp_path / name, before and tmp_path / before)
        return report, sum(len(request["input"]) for request in server.requests) - 1

    assert run("first")[1] == 10
    write_documents(documents, 10, changed=3)
    report, sent = run("second", before="first")
    fresh, all_sent = run("fresh")
    assert (sent, all_sent) == (1, 10) and report == fresh
    assert sha256_tree(tmp_path / "second") == sha256_tree(tmp_path / "fresh")
    assert run("moved", before="second", cfg=settings(server, endpoint=server.url + "/"))[1] == 0
    chunks, vectors, manifest = read_chunks(tmp_path / "second")
    assert vectors == pytest.approx(MODEL.passages([chunk.passage for chunk in chunks]), abs=1e-6)
    model = embedder_of(manifest, STARTER, CPU)
    assert model.queries(["When does store 3 open?"]).shape == (1, MODEL.dim)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert KEY.encode() not in written and KEY not in capsys.readouterr().err


def test_another_model_under_the_same_name(server, tmp_path, capsys):
    """The provider changes the weights: search refuses, and the stage embeds everything again with the new probe."""
    documents = write_documents(tmp_path / "documents", 5)
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    embed(settings(server), CPU, documents, STARTER, tmp_path / "first")
    server.always = spoilt(lambda vector: vector[1:] + vector[:1])
    with pytest.raises(ModelError, match=r"its server gives another vector for the same text now.*dvc repro --force"):
        embedder_of(read_json(tmp_path / "first" / MANIFEST), STARTER, CPU)
    embed(settings(server), CPU, documents, STARTER, tmp_path / "second", tmp_path / "first")
    assert "another model's: all chunks are embedded" in capsys.readouterr().err
    embed(settings(server), CPU, documents, STARTER, tmp_path / "third")
    assert sha256_tree(tmp_path / "second") == sha256_tree(tmp_path / "third")
    embedder_of(read_json(tmp_path / "second" / MANIFEST), STARTER, CPU)


def test_rounding_at_the_server_changes_no_artifact(server, tmp_path):
    """A probe that differs in its last bits is the same model (cosine ≥ 0.999), and the kept probe stays as it is."""
    documents = write_documents(tmp_path / "documents", 3)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    embed(settings(server), CPU, documents, STARTER, tmp_path / "first")
    server.always = spoilt(lambda vector: [number + 1e-4 for number in vector])
    embed(settings(server), CPU, documents, STARTER, tmp_path / "second", tmp_path / "first")
    assert sha256_tree(tmp_path / "first") == sha256_tree(tmp_path / "second")


def test_a_busy_server_is_asked_again(server, pauses, capsys):
    """429, 503 and 500, then well: pauses of 1, 2 and 4 s, longer where the server asks for it in seconds or by date."""
    model = client(server, pauses)
    date = formatdate(time.time() + 30, usegmt=True)
    server.wrong = [status(429, Retry_After="7"), status(503), status(500, Retry_After=date), status(502, Retry_After="soon")]
    assert model.passages(["lamp"]) == pytest.approx(MODEL.passages(["lamp"]), abs=1e-6)
    assert pauses == [7.0, 2.0, pytest.approx(30, abs=3), 8.0]
    assert "answers with HTTP 429; try 2 of 6 in 7 s" in capsys.readouterr().err


def test_a_server_that_stays_busy_is_given_up(server, pauses):
    """Six tries, 1 + 2 + 4 + 8 + 16 s of pauses; one that asks for an hour is not waited for."""
    model = client(server, pauses)
    server.always = status(503)
    with pytest.raises(ServiceError, match="answers with HTTP 503, 6 times; run again when it is well"):
        model.passages(["lamp"])
    assert pauses == [1, 2, 4, 8, 16]
    server.always = status(429, Retry_After="3600")
    with pytest.raises(ServiceError, match="asks to be left alone for 3600 s"):
        model.passages(["lamp"])
    assert len(pauses) == 5


def test_a_silent_or_broken_connection_is_tried_again(server, pauses):
    """No byte within the time limit, and an answer that breaks off: both pass."""
    model = client(server, pauses, timeout=0.5)

    def silent(handler, answer):
        time.sleep(1.5)

    def breaks_off(handler, answer):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"data": [')
        handler.close_connection = True

    server.wrong = [silent, breaks_off]
    assert model.passages(["lamp"]) == pytest.approx(MODEL.passages(["lamp"]), abs=1e-6)
    assert pauses == [1, 2]


def test_an_answer_without_end_is_cut(server, pauses, monkeypatch):
    """By size, and by time where it only drips."""
    model = client(server, pauses)
    monkeypatch.setattr(endpoint, "LARGEST", 2**20)
    server.wrong = [status(200, b"x" * 2**21)]
    with pytest.raises(ServiceError, match="gave more than 1 MiB"):
        model.passages(["lamp"])

    def drips(handler, answer):
        handler.send_response(200)
        handler.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(40):
                handler.wfile.write(b" ")
                time.sleep(0.05)

    monkeypatch.setattr(endpoint, "DEADLINE", 0.2)
    server.always = drips
    with pytest.raises(ServiceError, match=r"gave no answer \(ReadTimeout\), 6 times"):
        model.passages(["lamp"])


def spoilt(spoil):
    """A right answer whose vectors went through `spoil`."""
    return changed(lambda data: [item | {"embedding": spoil(item["embedding"])} for item in data])


def renumbered(number):
    """A right answer whose indices went through `number`."""
    return changed(lambda data: [item | {"index": number(item["index"])} for item in data])


TOO_LONG = {"error": {"message": "context\n\x1b[31m length 512"}}
NO_LISTS = "gave vectors that are no lists of numbers of one length"
WRONG = {
    "HTML": (status(200, b"<html>log in</html>", Content_Type="text/html; charset=utf-8"), "'text/html' that is no JSON"),
    "nested": (status(200, b"[" * 100_000), "is no JSON"),
    "redirect": (status(302, Location="http://127.0.0.1:9/"), "answers with HTTP 302"),
    "too long": (status(400, json.dumps(TOO_LONG).encode()), r"answers with HTTP 400: context \[31m length 512;"),
    "no list": (status(200, b"[]"), "has no data"),
    "no data": (status(200, b'{"data": [{"index": 0}]}'), "has no data"),
    "one short": (changed(lambda data: data[1:]), "gave 2 vectors for 3 texts"),
    "one index": (renumbered(lambda index: 0), "does not hold each index once"),
    "words": (renumbered(str), "does not hold each index once"),
    "dimension": (spoilt(lambda vector: vector[:-1]), "numbers after vectors of"),
    "ragged": (changed(lambda data: [*data[:-1], data[-1] | {"embedding": [1.0]}]), NO_LISTS),
    "base64": (spoilt(lambda vector: "AACAPw=="), NO_LISTS),
    "empty": (spoilt(lambda vector: []), NO_LISTS),
    "huge": (spoilt(lambda vector: [10**400, *vector[1:]]), NO_LISTS),
    "nan": (spoilt(lambda vector: [float("nan"), *vector[1:]]), "gave a vector that is not finite"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_answer_is_said_and_not_tried_again(server, pauses, what):
    """Each as a ServiceError that names the address and what is wrong with the answer."""
    model = client(server, pauses)
    server.always, said = WRONG[what]
    with pytest.raises(ServiceError, match=said) as error:
        model.passages(["lamp", "rug", "store"])
    assert str(error.value).startswith(f"{server.url}/embeddings: ") and pauses == [] and len(server.requests) == 2


def test_what_is_refused_at_the_start(server, pauses, monkeypatch):
    """A wrong key, none, a wrong path, an unknown model, no server: told apart, with what to do; the key is not repeated."""
    with pytest.raises(ServiceError, match=r"refuses the key in EMBEDDING_API_KEY \(HTTP 401\)") as error:
        EndpointEmbedder(server.url, "m", 4, "sk-wrong")
    assert "sk-wrong" not in str(error.value)
    monkeypatch.delenv("EMBEDDING_API_KEY")
    with pytest.raises(ServiceError, match=r"demands a key \(HTTP 401\); set EMBEDDING_API_KEY"):
        load_embedder(settings(server), STARTER, CPU)
    with pytest.raises(ServiceError, match=r"knows no such address or no model 'm' \(HTTP 404\)"):
        EndpointEmbedder(server.url.replace("v1", "v2"), "m", 4, KEY)
    server.wrong = [lambda handler, answer: send(handler, 404, json.dumps({"error": f"no model m, {KEY}"}).encode())]
    with pytest.raises(ServiceError, match=r"HTTP 404: no model m, …\)"):
        EndpointEmbedder(server.url, "m", 4, KEY)
    with pytest.raises(ServiceError, match="EMBEDDING_API_KEY: holds characters that no key has"):
        EndpointEmbedder(server.url, "m", 4, "sk\nX-Other: 1")
    server.wrong = [spoilt(lambda vector: [0.0, 0.0])]
    with pytest.raises(ServiceError, match="a vector of zeros for a plain text"):
        EndpointEmbedder(server.url, "m", 4, KEY)
    server.close()
    with pytest.raises(ServiceError, match="cannot be reached; start the server"):
        EndpointEmbedder(server.url, "m", 4, KEY, pause=pauses.append)
    assert pauses == []


ADDRESSES = ["https://me:sk-x@host/v1", "https://host/v1?key=sk-x", "file:///sk-x", "sk-x", "https://host:sk-x/v1"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_could_hold_a_secret_is_refused(address):
    """params.yaml is in git: the key belongs in the environment. The address is not repeated."""
    with pytest.raises(ParamsError, match=r"embed.endpoint: is no plain address") as error:
        load_embedder(CFG.model_copy(update={"endpoint": address}), STARTER, CPU)
    assert "sk-x" not in str(error.value)


def test_a_key_that_would_travel_in_clear_is_warned_of(capsys):
    """http is for this machine; elsewhere a line says that key and texts can be read on the way."""
    with pytest.raises(ServiceError, match="cannot be reached"):
        EndpointEmbedder("http://0.0.0.0:9/v1", "m", 4, KEY, timeout=1, pause=lambda seconds: None)
    said = capsys.readouterr().err
    assert "go to 0.0.0.0 unencrypted" in said and KEY not in said


def test_tokens_are_estimated_or_counted(server, tmp_path):
    """'opening' 7 letters → 3, '12:30' 5, '青山' 6 bytes → 3; with a tokenizer, as it counts."""
    assert estimate("") == 0 and estimate("opening 12:30 青山") == 3 + 5 + 3 and estimate("a bc") == 2
    assert load_embedder(settings(server), STARTER, CPU).count("opening") == 3
    told = load_embedder(settings(server, tokenizer="starter", passage_prefix="passage: "), STARTER, CPU)
    assert told.count("青山店的店长") == MODEL.count("青山店的店长") and told.overhead() == MODEL.count("passage: ")
    words = fixtures.write_word_model(tmp_path / "words", "store opens")
    assert load_tokenizer(str(words), None, STARTER).encode("the store").ids == [0, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no tokenizer.json that can be read"):
        load_tokenizer(str(tmp_path / "empty"), None, STARTER)
    with pytest.raises(ParamsError, match=r"embed.tokenizer: 'startr' is no folder and no hub id"):
        load_tokenizer("startr", None, STARTER)
