"""The HTTP service: an OpenAI-compatible chat that answers from the live release's documents, and a page to try it.

A request takes the live release once, at its start, and ends with it. Answers are written in threads (slots.py); what
was asked and answered is never in the service's own log; where feedback is on, recorder.py keeps it apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from tasks.errors import ModelError, NightshiftError
from tasks.params import Serve
from tasks.rag.answer import Answer
from tasks.rag.stores import Hit
from tasks.serving import feedback, replies, wire
from tasks.serving.guard import Guard, read_body
from tasks.serving.live import Live
from tasks.serving.recorder import Recorder
from tasks.serving.releases import LoadedRelease
from tasks.serving.slots import Gone, Slots, Ticket
from tasks.serving.wire import ChatRequest, Completion, Refusal, SearchRequest

PAGE = Path(__file__).parent / "page"
FILES = {"/": ("page.html", "text/html"), "/page.js": ("page.js", "text/javascript"), "/page.css": ("page.css", "text/css")}
log = logging.getLogger("nightshift.serve")


def create_app(live: Live, cfg: Serve, keys: tuple[bytes, ...], recorder: Recorder | None = None) -> FastAPI:
    """The application, around a release that is loaded. `keys` are digests (guard.keys_of); without `recorder` no answer
    is kept."""
    slots = Slots(cfg.concurrent, cfg.queue, cfg.answer_seconds)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        live.start()
        if recorder:
            recorder.start()
        yield
        slots.close()
        hearing.close()
        if recorder:
            await asyncio.to_thread(recorder.stop)
        await asyncio.to_thread(live.stop)

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, keys=keys)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    hearing = feedback.add_route(app, recorder, cfg)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        ticket, release = Ticket(cfg.answer_seconds), live.current()
        asked: ChatRequest = wire.read(ChatRequest, await read_body(request, cfg.max_body_kilobytes, ticket.left()))
        _check_model(asked.model, release)
        question = _question(asked.question(), cfg, "messages")
        _see(request, release=release.id)
        completion = Completion(release.id)
        items = slots.run(partial(replies.answer, release, question, ticket.check, asked.limit()), ticket)
        del release
        if asked.stream:
            return await _streamed(request, items, ticket, completion, asked, question, recorder)
        async with _watching(request, ticket), _mended():
            given: Any = [item async for item in items][-1]
        _see(request, prompt_tokens=given.prompt_tokens, tokens=given.tokens)
        if recorder:
            recorder.answered(completion.id, completion.model, question, given)
        content = given.text + (replies.listing(question, given) if asked.sources == "text" else "")
        return JSONResponse(completion.whole(content, given, replies.fields(completion.model, question, given)))

    @app.post("/v1/search")
    async def search(request: Request) -> Response:
        ticket, release = Ticket(cfg.answer_seconds), live.current()
        asked: SearchRequest = wire.read(SearchRequest, await read_body(request, cfg.max_body_kilobytes, ticket.left()))
        wire.check_mode(asked.mode, release.retriever.modes)
        question = _question(asked.question, cfg, "question")
        if asked.k and asked.k > cfg.max_passages:
            raise Refusal(400, f"k can be {cfg.max_passages} at most", "unsupported_value", "k")
        _see(request, release=release.id)

        def work() -> Iterator[list[Hit]]:
            ticket.check()
            yield release.search(question, asked.k, asked.mode, asked.filter.model_dump(exclude_none=True))

        async with _watching(request, ticket), _mended():
            hits = await anext(slots.run(work, ticket))
        return JSONResponse({"release": release.id, "passages": [replies.passage(hit) for hit in hits]})

    @app.get("/v1/models")
    async def models() -> Response:
        release = live.current()
        made = int(datetime.fromisoformat(release.published).timestamp())
        names = dict.fromkeys([release.id, release.name, wire.NAME])
        data = [{"id": name, "object": "model", "created": made, "owned_by": wire.NAME} for name in names]
        return JSONResponse({"object": "list", "data": data})

    @app.get("/health")
    async def health(request: Request) -> Response:
        state = live.state
        body = {
            "status": "ok",
            "release": state.release.id,
            "name": state.release.name,
            "since": state.since.isoformat(timespec="seconds"),
            "key": bool(keys),
            "feedback": feedback.facts(recorder),
        }
        # why a switch failed may name folders: for those who have a key, where there are keys
        return JSONResponse(body | ({"error": state.error} if request.state.authorised else {}))

    for path, (name, kind) in FILES.items():
        app.get(path)(partial(_file, PAGE / name, kind))
    return app


async def _streamed(
    request: Request,
    items: AsyncIterator[str | Answer],
    ticket: Ticket,
    completion: Completion,
    asked: ChatRequest,
    question: str,
    recorder: Recorder | None,
) -> Response:
    """Server-sent events. The first piece is awaited here, so that what goes wrong before it has a status of its own."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_watching(request, ticket))
        async with _mended():
            first = await anext(items)
        later = stack.pop_all()

    async def events() -> AsyncIterator[bytes]:
        async with later:
            yield completion.chunk({"role": "assistant", "content": ""})
            item = first
            try:
                async with _mended():
                    while not isinstance(item, Answer):
                        yield completion.chunk({"content": item})
                        item = await anext(items)
            except Refusal as refusal:
                _see(request, status=refusal.status)
                yield wire.event(refusal.body())
                return
            _see(request, prompt_tokens=item.prompt_tokens, tokens=item.tokens)
            if recorder:  # before the client can say anything of it
                recorder.answered(completion.id, completion.model, question, item)
            if asked.sources == "text" and (sources := replies.listing(question, item)):
                yield completion.chunk({"content": sources})
            yield completion.chunk({}, item, nightshift=replies.fields(completion.model, question, item))
            if asked.stream_options and asked.stream_options.include_usage:
                yield completion.counted(item)
            yield wire.DONE

    return StreamingResponse(events(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


@contextlib.asynccontextmanager
async def _watching(request: Request, ticket: Ticket) -> AsyncIterator[None]:
    """Cancel the work when the client goes away."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        ticket.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        ticket.cancel()


@contextlib.asynccontextmanager
async def _mended() -> AsyncIterator[None]:
    """What can go wrong while an answer is written, as a refusal. Messages of errors can hold the question: only their
    kind and place are logged."""
    try:
        yield
    except Refusal:
        raise
    except Gone:
        raise Refusal(503, "the answer was given up", "cancelled", retry_after=1) from None
    except ModelError as error:
        if error.thing == "question":
            raise Refusal(400, "the question is longer than the model reads", "context_length_exceeded", "messages") from None
        _log(error)
        raise Refusal(500, "the model cannot answer", "model_error") from None
    except NightshiftError as error:
        _log(error)
        raise Refusal(503, "the documents cannot be searched", "search_error", retry_after=5) from None
    except Exception as error:
        _log(error)
        raise Refusal(500, "something went wrong", "internal_error") from None


def _log(error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    log.error("%s at %s", type(error).__name__, where)


def _check_model(model: str | None, release: LoadedRelease) -> None:
    if model not in (None, wire.NAME, release.name, release.id):
        raise Refusal(
            404, f"the live release is {release.id} ({release.name}); {wire.NAME} names it, too", "model_not_found", "model"
        )


def _question(text: str, cfg: Serve, param: str) -> str:
    if not text.strip():
        raise Refusal(400, "there is no question: the last user message is it", "no_question", param)
    if len(text) > cfg.max_question_characters:
        raise Refusal(400, f"a question may have {cfg.max_question_characters} characters", "question_too_long", param)
    return text.strip()


def _see(request: Request, **facts: Any) -> None:
    request.state.seen.update(facts)


async def _file(path: Path, kind: str) -> Response:
    return FileResponse(path, media_type=kind)


async def _refused(request: Request, refusal: Any) -> Response:
    return JSONResponse(refusal.body(), refusal.status, refusal.headers())


async def _unknown(request: Request, error: Any) -> Response:
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return JSONResponse(Refusal(error.status_code, str(error.detail), code).body(), error.status_code, error.headers)


