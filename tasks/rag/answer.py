"""Questions to answers: passages from the index, the grounded prompt, the model's greedy answer, its citations checked.

Passages and answers are untrusted text. A passage cannot forge a note or a chat marker (tasks/rag/prompt.py); a
citation counts only when it names a note that was in the prompt; nothing that is retrieved and no retrieval without a
hit is made up for: the answer is then an abstention and the model is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.files import read_json
from tasks.params import Compute
from tasks.rag.citations import CitationFilter
from tasks.rag.prompt import TEMPLATES, Template, citations, grounded, language_of
from tasks.rag.stores import Hit

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answer:
    """An answer with what it was given. `shown` are the passages in the prompt, numbered from 1 in this order."""

    text: str
    shown: tuple[Hit, ...]
    cited: tuple[Hit, ...]  # the passages it names
    invented: tuple[int, ...]  # numbers it names that no passage has
    ended: bool
    prompt_tokens: int = 0  # read by the model; 0 where it was not asked
    tokens: int = 0  # chosen by the model, the end token included
    notes: tuple[str, ...] = ()  # what it read of each of `shown`; of a streamed answer alone


def load_model(folder: Path, compute: Compute) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A quantized or a dense model folder, whichever it is."""
    if "quantization_config" in read_json(folder / "config.json"):
        from tasks.training.quantized import load_quantized

        return load_quantized(folder, compute)
    from tasks.training.hardware import answering
    from tasks.training.models import load_base

    model, tokenizer = load_base(folder, compute)
    return answering(model, compute), tokenizer


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    retrieved: Sequence[Sequence[Hit]],
    *,
    headings: str,
    max_new_tokens: int,
    batch_size: int,
    templates: Mapping[str, Template] = TEMPLATES,
) -> list[Answer]:
    """Answer each question from its passages, each under those of its `headings` that Chunk.note shows.

    Greedy, so the same again for the same model and passages.
    """
    from tasks.training.generate import generate

    room = _room(model, max_new_tokens)
    prompts = [
        fit(tokenizer, question, hits, headings, room, templates) for question, hits in zip(questions, retrieved, strict=True)
    ]
    asked = [n for n, (_, shown) in enumerate(prompts) if shown]
    chats = [[{"role": "user", "content": prompts[n][0]}] for n in asked]
    generated = generate(model, tokenizer, chats, max_new_tokens=max_new_tokens, batch_size=batch_size)
    texts = {n: answers[0] for n, answers in zip(asked, generated, strict=True)}
    out = []
    for n, (question, (_, shown)) in enumerate(zip(questions, prompts, strict=True)):
        text, ended = (texts[n].text, texts[n].ended) if n in texts else (_words(question, templates).abstention, True)
        numbers = citations(text)
        cited = tuple(shown[number - 1] for number in numbers if 1 <= number <= len(shown))
        out.append(Answer(text, shown, cited, tuple(n for n in numbers if not 1 <= n <= len(shown)), ended))
    return out


def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    hits: Sequence[Hit],
    *,
    headings: str,
    max_new_tokens: int,
    limit: int | None = None,
    templates: Mapping[str, Template] = TEMPLATES,
    check: Callable[[], None] = lambda: None,
) -> Iterator[str | Answer]:
    """One answer piece by piece and, at last, as a whole: what `ask` says to this question alone, but without the
    citations of notes that were not shown (`invented` has their numbers).

    `limit` cuts the answer before `max_new_tokens`, which alone decides what the prompt has room for. `check` is called
    before each token and may raise. Whoever shows the pieces shows `Answer.text`: they are its parts.
    """
    from tasks.rag import stream as tokens
    from tasks.training.tokens import encode_chat

    prompt, shown, notes = _fit(tokenizer, question, hits, headings, _room(model, max_new_tokens), templates)
    if not shown:
        text = _words(question, templates).abstention
        yield text
        yield Answer(text, (), (), (), True)
        return
    chat = [{"role": "user", "content": prompt}]
    citing, said, whole = CitationFilter(len(shown)), [], None
    for item in tokens.stream(
        model, tokenizer, chat, max_new_tokens=min(max_new_tokens, limit or max_new_tokens), check=check
    ):
        if not isinstance(item, str):
            whole = item
        elif piece := citing.feed(item):
            said.append(piece)
            yield piece
    if piece := citing.finish():
        said.append(piece)
        yield piece
    text = "".join(said)
    cited = tuple(shown[number - 1] for number in citations(text))
    read = len(encode_chat(tokenizer, chat, True))
    yield Answer(text, shown, cited, tuple(citing.invented), whole.ended, read, whole.tokens, notes)


def _words(question: str, templates: Mapping[str, Template]) -> Template:
    return templates.get(language_of(question), templates["en"])


def fit(
    tokenizer: Any,
    question: str,
    hits: Sequence[Hit],
    headings: str,
    room: int | None,
    templates: Mapping[str, Template] = TEMPLATES,
) -> tuple[str, tuple[Hit, ...]]:
    """The prompt and the passages it shows: the last ones are left out, and at last one is cut, where the window is
    short.

    ModelError when the question alone has no room. `room`: tokens of the longest prompt; None where nothing limits it.
    """
    return _fit(tokenizer, question, hits, headings, room, templates)[:2]


def _fit(
    tokenizer: Any, question: str, hits: Sequence[Hit], headings: str, room: int | None, templates: Mapping[str, Template]
) -> tuple[str, tuple[Hit, ...], tuple[str, ...]]:
    """And what is left of each passage."""
    from tasks.training.tokens import encode_chat

    language = language_of(question)
    shown, passages = tuple(hits), [hit.chunk.note(headings) for hit in hits]
    while passages:
        text = grounded(question, passages, language, templates)
        if room is None or len(encode_chat(tokenizer, [{"role": "user", "content": text}], True)) <= room:
            return text, shown[: len(passages)], tuple(passages)
        if len(passages) > 1:
            passages.pop()
        elif len(passages[0]) > 1:
            passages[0] = passages[0][: len(passages[0]) // 2]
        else:
            raise ModelError("question", f"{question[:60]!r} leaves no room for a passage", "shorten it")
    return question, (), ()


def _room(model: Any, max_new_tokens: int) -> int | None:
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return window - max_new_tokens if window else None
