"""POST /v1/feedback: a thumb, a reason and a corrected answer for an answer's id."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from tasks.params import Serve
from tasks.serving import wire
from tasks.serving.guard import read_body
from tasks.serving.recorder import Recorder
from tasks.serving.slots import Slots, Ticket
from tasks.serving.wire import FeedbackRequest, Refusal

log = logging.getLogger("nightshift.serve")


def add_route(app: FastAPI, recorder: Recorder | None, cfg: Serve) -> Slots:
    """The route, and the slots that its work is done in: apart from the answers', which a slow disk must not stop."""
    slots = Slots(1, cfg.queue, cfg.answer_seconds)

    @app.post("/v1/feedback")
    async def feedback(request: Request) -> Response:
        ticket = Ticket(cfg.answer_seconds)
        told: FeedbackRequest = wire.read(FeedbackRequest, await read_body(request, cfg.max_body_kilobytes, ticket.left()))
        if recorder is None:
            # not 409, which clients of OpenAI try again
            raise Refusal(404, "feedback is not kept here (feedback.log in params.yaml)", "feedback_off")
        for name, text in (("reason", told.reason), ("correction", told.correction)):
            if text and len(text) > recorder.cfg.max_characters:
                most = recorder.cfg.max_characters
                raise Refusal(400, f"a {name} may have {most} characters", "text_too_long", name)

        def work() -> Iterator[bool]:
            yield recorder.said(told.answer, told.rating, told.reason, told.correction)

        try:
            known = await anext(slots.run(work, ticket))
        except OSError as error:
            log.error("feedback cannot be kept: %s", error.strerror)
            raise Refusal(503, "it cannot be kept now", "feedback_not_kept", retry_after=60) from None
        if not known:
            raise Refusal(404, "no answer that is kept has this id", "unknown_answer", "answer")
        return JSONResponse({"answer": told.answer, "rating": told.rating})

    return slots


def facts(recorder: Recorder | None) -> dict[str, int] | None:
    """What /health says of it: how long answers are kept and how long a text may be; None where feedback is off."""
    return {"days": recorder.cfg.days, "max_characters": recorder.cfg.max_characters} if recorder else None
