"""The forms of the HTTP API: OpenAI's chat completions, as far as they mean something here, and a search of our own.

Nothing is accepted and then ignored. A setting that asks for what is done anyway (greedy, one answer) is fine; another
value, and a name that is not known, is refused with its name.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tasks.feedback.entries import Rating, answer_id
from tasks.rag.answer import Answer
from tasks.rag.retrieve import MODES

NAME = "nightshift"  # as a model's name: whatever is live

# What is done anyway: the values that may be sent for it.
SETTLED: dict[str, tuple[Any, ...]] = {
    "temperature": (None, 0),
    "top_p": (None, 1),
    "n": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "stop": (None, []),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "parallel_tool_calls": (None, True, False),
    "functions": (None, []),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "store": (None, False),
    "service_tier": (None, "auto", "default"),
}


class Refusal(Exception):
    """A request that is not done, in OpenAI's form of an error."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None, retry_after: int | None = None):
        """`param` is the field it is about; `retry_after` is in seconds."""
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after

    def body(self) -> dict[str, Any]:
        """The response."""
        kind = {429: "rate_limit_error"}.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Its headers. Where the body was not read to its end, the connection ends with the response."""
        more = {"Retry-After": str(self.retry_after)} if self.retry_after is not None else {}
        more |= {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        return more | ({"Connection": "close"} if self.status in (401, 403, 408, 413, 415) else {})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn. Fields for tools and names are no concern of ours."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """Its text, parts joined by line breaks."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(_Strict):
    """How a stream ends."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(BaseModel):
    """POST /v1/chat/completions."""

    model_config = ConfigDict(extra="allow", frozen=True)

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None  # answers are the same with each
    user: str | None = None  # not kept
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    sources: Literal["text", "fields"] = "text"

    def limit(self) -> int | None:
        """Most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens

    def question(self) -> str:
        """The last user message. Earlier turns are not used: each question is answered from the documents alone."""
        return next((message.text() for message in reversed(self.messages) if message.role == "user"), "")


class SearchFilter(_Strict):
    """What a search is narrowed to, by equality."""

    source: str | None = None
    language: str | None = None


class SearchRequest(_Strict):
    """POST /v1/search."""

    question: Annotated[str, StringConstraints(min_length=1)]
    k: Annotated[int, Field(ge=1)] | None = None
    mode: str | None = None
    filter: SearchFilter = SearchFilter()


class FeedbackRequest(_Strict):
    """POST /v1/feedback. How long the texts may be, params.yaml says."""

    answer: str
    rating: Rating
    reason: str | None = None
    correction: str | None = None


def read(kind: type[BaseModel], body: bytes) -> Any:
    """A request's body as `kind`; Refusal that names what is wrong, without repeating what was sent."""
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        raise Refusal(400, f"{where or 'the body'}: {first['msg']}", "invalid_request", where) from None
    for name, value in (request.model_extra or {}).items():
        if name not in SETTLED:
            raise Refusal(400, f"{name[:60]!r} is no parameter of this service", "unknown_parameter", name[:60])
        if not any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in SETTLED[name]):
            raise Refusal(
                400,
                f"{name} can only be {' or '.join(json.dumps(v) for v in SETTLED[name] if v is not None)}: answers are greedy, "
                "one a request, and plain text",
                "unsupported_value",
                name,
            )
    return request


def check_mode(mode: str | None, modes: tuple[str, ...] = MODES) -> None:
    """Refuse a way to search that there is not."""
    if mode is not None and mode not in modes:
        raise Refusal(400, f"mode can only be {', '.join(modes)}", "unsupported_value", "mode")


class Completion:
    """What all messages of one answer have in common, whole or streamed."""

    def __init__(self, model: str):
        self.created, self.model = int(time.time()), model
        self.id = answer_id(self.created)

    def whole(self, content: str, given: Answer, nightshift: dict[str, Any]) -> dict[str, Any]:
        """The response in one piece."""
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(given)}
        return self._frame("chat.completion", [choice]) | {"usage": usage(given), "nightshift": nightshift}

    def chunk(self, delta: dict[str, Any], given: Answer | None = None, **more: Any) -> bytes:
        """One event of a stream; with `given` the last one of the answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish(given) if given else None}
        return event(self._frame("chat.completion.chunk", [choice]) | more)

    def counted(self, given: Answer) -> bytes:
        """The event that says how many tokens it took."""
        return event(self._frame("chat.completion.chunk", []) | {"usage": usage(given)})

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


DONE = b"data: [DONE]\n\n"


def event(obj: dict[str, Any]) -> bytes:
    """A server-sent event. JSON escapes line breaks, so no text can end an event or begin another."""
    return b"data: " + json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def finish(given: Answer) -> str:
    """Why the answer ended."""
    return "stop" if given.ended else "length"


def usage(given: Answer) -> dict[str, int]:
    """Tokens that the model read and chose; none where it was not asked."""
    return {
        "prompt_tokens": given.prompt_tokens,
        "completion_tokens": given.tokens,
        "total_tokens": given.prompt_tokens + given.tokens,
    }
