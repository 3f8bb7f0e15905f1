"""An embedding model behind an OpenAI-compatible address: POST {endpoint}/embeddings.

The server is not ours. Every answer is checked (as many vectors as texts, each index once, one dimension, finite), what
passes by itself (too busy, broken, slow) is tried again, anything else is a ServiceError that says what to correct. The
key goes into one header and nowhere else; addresses with a name or a key in them are refused.

Nobody can hash the weights there. The hash of the model's name and dimension stands for them, and a probe text is
embedded at every start: its vector is compared with the one kept beside the passages (tasks/rag/embedder.py).
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import httpx

from tasks.errors import ParamsError, ServiceError
from tasks.progress import log
from tasks.rag.chunks import sha256_lines
from tasks.rag.embedders.tokens import estimate

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

PROBE = "The store in Ashgate opens at nine. 青山店九点开门。"
TRIES = 6  # of one request, when the server is busy, broken or silent
PAUSE = 1.0  # s before the second try, twice as long before each further one
LONGEST_PAUSE = 120.0  # s; a server that asks for more is left alone
TIMEOUT = 60.0  # s without a byte
DEADLINE = 300.0  # s for a whole answer
LARGEST = 256 * 2**20  # bytes of an answer: 2,048 vectors of 4,096 numbers as JSON are below it


class EndpointEmbedder:
    """A model at a server, with the interface of tasks/rag/embedder.py."""

    longest: int | None = None  # the server knows, and says so when a text is too long

    def __init__(
        self,
        endpoint: str,
        name: str,
        batch_size: int,
        key: str | None = None,
        tokenizer: Tokenizer | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        timeout: float = TIMEOUT,
        pause: Callable[[float], None] = time.sleep,
    ):
        """Embed the probe text: what is wrong with address, key or model shows here. `timeout`: seconds."""
        self._url = _checked(endpoint) + "/embeddings"
        self.name, self._batch_size, self._tokenizer = name, batch_size, tokenizer
        self._query_prefix, self._passage_prefix = query_prefix or "", passage_prefix or ""
        self._key, self._pause, self.dim = (key or "").strip(), pause, 0
        if not re.fullmatch(r"[!-~]*", self._key):
            raise ServiceError("EMBEDDING_API_KEY", "holds characters that no key has", "set it again")
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._client = httpx.Client(headers=headers, timeout=timeout)
        url = httpx.URL(endpoint)
        if self._key and url.scheme == "http" and url.host not in ("127.0.0.1", "::1", "localhost"):
            log(f"warning: EMBEDDING_API_KEY and all passages go to {url.host} unencrypted; take https")
        self.probe = self.passages([PROBE])[0]
        self.dim = len(self.probe)
        if not self.probe.any():
            raise self._wrong("gave a vector of zeros for a plain text")
        self.weights_sha256 = sha256_lines(["endpoint 1", name, str(self.dim)])
        self.identity = sha256_lines(["vectors 1", self.weights_sha256, self._passage_prefix, str(self.longest)])

    def passages(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dim) fp32, each of length 1."""
        return self._vectors([self._passage_prefix + text for text in texts])

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """The same for questions, with their prefix."""
        return self._vectors([self._query_prefix + text for text in texts])

    def batches(self, texts: Sequence[str]) -> list[list[int]]:
        """Places of passages that are sent together."""
        size, places = self._batch_size, list(range(len(texts)))
        return [places[at : at + size] for at in range(0, len(places), size)]

    def count(self, text: str) -> int:
        """Tokens by embed.tokenizer, or estimated."""
        if self._tokenizer is None:
            return estimate(text)
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def overhead(self) -> int:
        """Tokens on top of every passage: special ones, where the tokenizer tells, and the prefix."""
        special = 0 if self._tokenizer is None else len(self._tokenizer.encode("").ids)
        return special + self.count(self._passage_prefix)

    def unknown_share(self, texts: Sequence[str]) -> float:
        """0: what the server's model does not know cannot be seen from here."""
        return 0.0

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        batches = [texts[start : start + self._batch_size] for start in range(0, len(texts), self._batch_size)]
        rows = [self._rows(self._post(batch), len(batch)) for batch in batches]
        vectors = np.concatenate(rows) if rows else np.zeros((0, self.dim))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.ascontiguousarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    def _rows(self, answer: Any, count: int) -> np.ndarray:
        """(count, dim) fp64 in the order that was asked; a ServiceError says what the answer lacks."""
        import numpy as np

        try:
            places = [item["index"] for item in answer["data"]]
            rows = [item["embedding"] for item in answer["data"]]
        except (TypeError, KeyError):
            raise self._wrong("its answer has no data[].index and data[].embedding") from None
        if len(rows) != count:
            raise self._wrong(f"gave {len(rows)} vectors for {count} texts")
        if any(type(place) is not int for place in places) or sorted(places) != list(range(count)):
            raise self._wrong("its answer does not hold each index once")
        try:
            vectors = np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong("gave vectors that are no lists of numbers of one length") from None
        if vectors.ndim != 2 or not vectors.size:
            raise self._wrong("gave vectors that are no lists of numbers of one length")
        if self.dim and vectors.shape[1] != self.dim:
            raise self._wrong(f"gave vectors of {vectors.shape[1]} numbers after vectors of {self.dim}")
        if not np.isfinite(vectors).all():
            raise self._wrong("gave a vector that is not finite")
        return vectors[np.argsort(places)]

    def _post(self, texts: Sequence[str]) -> Any:
        """The server's JSON for a batch of texts, tried again where that can help."""
        body = json.dumps({"model": self.name, "input": list(texts), "encoding_format": "float"}).encode()
        pause = PAUSE
        for attempt in range(1, TRIES + 1):
            asked = 0.0
            try:
                response, content = self._send(body)
            except httpx.ConnectError:
                raise ServiceError(
                    self._url, "cannot be reached", "start the server, or correct embed.endpoint"
                ) from None
            except httpx.RequestError as error:  # silent, or gone in the middle
                trouble = f"gave no answer ({type(error).__name__})"
            else:
                if response.status_code not in (408, 429) and response.status_code < 500:
                    return self._json(response, content)
                trouble, asked = f"answers with HTTP {response.status_code}", _retry_after(response)
            if attempt == TRIES or asked > LONGEST_PAUSE:
                break
            log(f"{self._url} {trouble}; try {attempt + 1} of {TRIES} in {max(asked, pause):.0f} s")
            self._pause(max(asked, pause))
            pause *= 2
        wait = f" and asks to be left alone for {asked:.0f} s" if asked > LONGEST_PAUSE else f", {attempt} times"
        raise ServiceError(self._url, trouble + wait, "run again when it is well: what is embedded is kept")

    def _send(self, body: bytes) -> tuple[httpx.Response, bytes]:
        """One request; an answer that never ends is cut by time and by size."""
        deadline = time.monotonic() + DEADLINE
        content = bytearray()
        headers = {"Content-Type": "application/json"}
        with self._client.stream("POST", self._url, content=body, headers=headers) as response:
            for piece in response.iter_bytes():
                content += piece
                if len(content) > LARGEST:
                    raise self._wrong(f"gave more than {LARGEST // 2**20} MiB")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the whole answer took too long")
        return response, bytes(content)

    def _json(self, response: httpx.Response, content: bytes) -> Any:
        """The content of a good answer; a ServiceError for any other, with the server's words where they help."""
        status = response.status_code
        if status in (401, 403):
            what = "refuses the key in EMBEDDING_API_KEY" if self._key else "demands a key"
            raise ServiceError(self._url, f"{what} (HTTP {status})", "set EMBEDDING_API_KEY to a key of this server")
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            answer = None
        if status == 404:
            raise ServiceError(
                self._url,
                f"knows no such address or no model {self.name!r} (HTTP 404{self._words(answer)})",
                "correct embed.endpoint, which ends in /v1 at most servers, or embed.model",
            )
        if status != 200:
            raise self._wrong(f"answers with HTTP {status}{self._words(answer)}")
        if answer is None:
            kind = response.headers.get("content-type", "no type").partition(";")[0][:40]
            raise self._wrong(f"answers with {kind!r} that is no JSON")
        return answer

    def _words(self, answer: Any) -> str:
        """The server's error text, short, of one line, and without the key should it repeat it."""
        said = answer.get("error", answer) if isinstance(answer, dict) else ""
        said = said.get("message", "") if isinstance(said, dict) else said
        said = " ".join("".join(c if c.isprintable() else " " for c in str(said or "")).split())
        said = said.replace(self._key, "…") if self._key else said
        return f": {said[:200]}" if said else ""

    def _wrong(self, what: str) -> ServiceError:
        return ServiceError(self._url, what, "correct embed.endpoint and embed.model, or mend the server")


def _checked(endpoint: str) -> str:
    """The address without its last slash. It is in git and in manifests, so it may hold no secret; not shown when it does."""
    try:
        url = httpx.URL(endpoint)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ParamsError(
            "embed.endpoint",
            "is no plain address (http or https, no user, no query)",
            "take the form https://host/v1, and put a key into the environment variable EMBEDDING_API_KEY",
        )
    return endpoint.rstrip("/")


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, from a number or a date; 0 where it asks for nothing readable."""
    value = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
