"""A question to a loaded release: passages, then the answer piece by piece, then where it comes from.

The command line and the service say the same, because both say what is here. Document text is untrusted: what is put
into an answer's list of sources can neither look like a citation nor become a link, an image or a second line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tasks.rag.answer import Answer, stream
from tasks.rag.prompt import abstains, language_of
from tasks.rag.stores import Hit
from tasks.serving.releases import LoadedRelease
from tasks.terminal import plain

SOURCES = {"en": "Sources:", "zh": "来源："}
LONGEST = 200  # characters of a line in the list of sources
_TAME = str.maketrans("[]<>", "()‹›")


def answer(
    release: LoadedRelease, question: str, check: Callable[[], None] = lambda: None, limit: int | None = None
) -> Iterator[str | Answer]:
    """Pieces of the answer and, at last, the Answer. `check` is called between tokens and may raise; `limit` is the
    most tokens, where that is less than the release's own."""
    check()
    hits = release.search(question)
    yield from stream(
        release.model,
        release.tokenizer,
        question,
        hits,
        headings=release.answering.headings,
        max_new_tokens=release.answering.max_new_tokens,
        limit=limit,
        templates=release.templates,
        check=check,
    )


def passage(hit: Hit) -> dict[str, Any]:
    """A passage as the API shows it."""
    chunk = hit.chunk
    return {"source": chunk.source, "page": chunk.page, "heading": chunk.path, "text": chunk.text, "score": hit.score}


def fields(release: str, question: str, given: Answer) -> dict[str, Any]:
    """What an answer rests on, in fields."""
    return {
        "release": release,
        "language": language_of(question),
        "abstained": _abstained(given),
        "sources": [
            {"number": number, **passage(hit), "cited": hit in given.cited} for number, hit in enumerate(given.shown, 1)
        ],
        "invented": list(given.invented),
    }


def listing(question: str, given: Answer) -> str:
    """The list of sources below an answer: those it cites, or all it was shown where it cites none; nothing below an
    abstention."""
    if _abstained(given) or not given.shown:
        return ""
    lines = [
        f"[{number}] {_line(hit)}"
        for number, hit in enumerate(given.shown, 1)
        if hit in given.cited or not given.cited
    ]
    return "\n\n" + "\n".join([SOURCES[language_of(question)], *lines])


def _line(hit: Hit) -> str:
    """documents/a.pdf, 3: Stores > Ashgate"""
    chunk = hit.chunk
    where = chunk.source + (f", {chunk.page}" if chunk.page is not None else "") + (f": {chunk.path}" if chunk.path else "")
    line = " ".join(plain(where.replace("\n", " ")).split()).translate(_TAME)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _abstained(given: Answer) -> bool:
    return not given.shown or abstains(given.text)
