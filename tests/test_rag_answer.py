"""tasks/rag/answer.py: prompts that fit, citations that are checked, and a model that answers from its passages."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.errors import ModelError
from tasks.rag.answer import ask, fit, load_model, stream
from tasks.rag.chunks import Chunk, chunk_id
from tasks.rag.prompt import TEMPLATES, grounded
from tasks.rag.stores import Hit
from tasks.training.generate import Generated
from tests.evaluation_fixtures import CPU, teach, write_base


def hit(text: str, source: str = "documents/a.md", heading: str = "") -> Hit:
    """A hit on a chunk."""
    return Hit(Chunk(chunk_id(source, 0, text), source, None, heading, 0, len(text), text, "en"), 1.0)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny model folder with the chat template."""
    folder = tmp_path_factory.mktemp("base")
    return write_base(folder / "base", folder / "start")


@pytest.fixture(scope="module")
def loaded(base):
    """The tiny model and its tokenizer."""
    return load_model(base, CPU)


def test_a_dense_folder_loads_too(loaded):
    """The stage asks whichever model folder it is given."""
    model, tokenizer = loaded
    assert not model.training and tokenizer.chat_template


def test_all_passages_fit(loaded):
    """With room for all, the prompt is the one the model was trained on, innermost heading included."""
    hits = [hit("It opens at 9.", heading="Stores > Ashgate"), hit("It closes at 8.")]
    text, shown = fit(loaded[1], "When?", hits, "section", None)
    assert text == grounded("When?", ["Ashgate\nIt opens at 9.", "It closes at 8."], "en")
    assert shown == tuple(hits)


@pytest.mark.parametrize(
    "headings, expected",
    [
        ("none", "It opens at 9."),
        ("section", "Ashgate\nIt opens at 9."),
        ("path", "Larkfield > Stores > Ashgate\nIt opens at 9."),
    ],
)
def test_headings_above_a_passage(headings, expected):
    """The innermost one names the thing; the path shows where it belongs. Where there is none, none is shown."""
    chunk = replace(hit("It opens at 9.", heading="Stores > Ashgate").chunk, title="Larkfield")
    assert chunk.note(headings) == expected
    assert chunk.passage == "Larkfield > Stores > Ashgate\nIt opens at 9."
    assert hit("It opens at 9.").chunk.note(headings) == "It opens at 9."
    assert replace(chunk, heading="").note("section") == "It opens at 9."


def test_passages_are_left_out_and_cut_to_fit(loaded):
    """The last passage goes first; a single one is cut; a question without room is an error."""
    from tasks.training.tokens import encode_chat

    tokenizer = loaded[1]

    def tokens(text: str) -> int:
        return len(encode_chat(tokenizer, [{"role": "user", "content": text}], True))

    hits = [hit("It opens at 9. " * 4), hit("It closes at 8. " * 4, "documents/b.md")]
    room = tokens(grounded("When?", [hits[0].chunk.passage], "en"))
    text, shown = fit(tokenizer, "When?", hits, "section", room)
    assert shown == (hits[0],) and tokens(text) == room
    text, shown = fit(tokenizer, "When?", hits, "section", room - 5)
    assert shown == (hits[0],) and tokens(text) <= room - 5 and "It opens" in text
    with pytest.raises(ModelError, match="leaves no room"):
        fit(tokenizer, "When?", hits, "section", 5)


def test_citations_are_checked_against_what_was_shown(loaded, monkeypatch):
    """[1] and [2] were there, [7] was not; no passage means no question to the model, in the question's language."""
    hits = [hit("It opens at 9."), hit("It closes at 8.", "documents/b.md")]
    asked = []

    def generate(model, tokenizer, chats, **settings):
        asked.extend(chat[0]["content"] for chat in chats)
        return [[Generated("It opens at 9. [2][7]", -1.0, 9, True)] for _ in chats]

    monkeypatch.setattr("tasks.training.generate.generate", generate)
    first, second, third = ask(
        *loaded, ["When?", "Who?", "谁？"], [hits, [], []], headings="section", max_new_tokens=8, batch_size=2
    )
    assert (first.cited, first.invented, first.shown, first.ended) == ((hits[1],), (7,), tuple(hits), True)
    assert (second.text, third.text) == (TEMPLATES["en"].abstention, TEMPLATES["zh"].abstention)
    assert second.shown == second.cited == () and len(asked) == 1


def test_answers_are_the_same_again_and_in_order(loaded):
    """Greedy: the same texts twice, and each question's own answer whatever stands beside it."""
    names = ["Oakleigh", "Marsh", "Redford"]
    hits = [[hit(f"The {name} store opens at {n + 11}.")] for n, name in enumerate(names)]
    questions = [f"When does {name} open?" for name in names]
    first = ask(*loaded, questions, hits, headings="section", max_new_tokens=6, batch_size=2)
    again = ask(*loaded, questions[::-1], hits[::-1], headings="section", max_new_tokens=6, batch_size=1)
    assert [a.text for a in first] == [a.text for a in again[::-1]]
    assert [a.shown[0].chunk.text for a in first] == [h[0].chunk.text for h in hits]


def test_a_stream_says_what_ask_says(loaded):
    """Piece by piece, and at last the answer with its counts; a limit cuts it, and the prompt stays."""
    hits = [hit("The Marsh store opens at 31.")]
    settings = {"headings": "section", "max_new_tokens": 12}
    [asked] = ask(*loaded, ["When does Marsh open?"], [hits], batch_size=1, **settings)
    *pieces, given = stream(*loaded, "When does Marsh open?", hits, **settings)
    assert "".join(pieces) == given.text == asked.text and given.shown == asked.shown and given.tokens == 12
    assert given.notes == ("The Marsh store opens at 31.",)
    *pieces, cut = stream(*loaded, "When does Marsh open?", hits, limit=3, **settings)
    assert cut.tokens == 3 and not cut.ended and given.text.startswith("".join(pieces))
    assert cut.prompt_tokens == given.prompt_tokens > 50


def test_notes_are_what_is_left_of_the_passages(loaded):
    """Rendered again they give the very prompt, also where a passage was cut to fit the window."""
    model, tokenizer = loaded
    hits = [hit("It opens at 9. " * 400, heading="Stores > Ashgate"), hit("It closes at 8.")]
    window = model.config.get_text_config().max_position_embeddings
    text, _ = fit(tokenizer, "When?", hits, "section", window - 2)
    *_, given = stream(model, tokenizer, "When?", hits, headings="section", max_new_tokens=2)
    [note] = given.notes
    assert text == grounded("When?", [note], "en") and note != hits[0].chunk.note("section")


def test_nothing_found_is_an_abstention_of_the_release(loaded):
    """In the question's language and the release's own words; the model is not asked."""
    own = {"en": replace(TEMPLATES["en"], abstention="Not in the notes."), "zh": TEMPLATES["zh"]}
    for question, text in (("Who?", "Not in the notes."), ("谁？", TEMPLATES["zh"].abstention)):
        piece, given = stream(*loaded, question, [], headings="section", max_new_tokens=8, templates=own)
        assert piece == given.text == text and (given.tokens, given.prompt_tokens, given.shown) == (0, 0, ())


def test_an_invented_citation_is_taken_out_of_a_stream(base, tmp_path):
    """A model that has learned to cite [7] as well: `ask` keeps its words, the stream drops what was not shown."""
    model = load_model(teach(base, tmp_path / "liar", steps=60, ending=" [7]"), CPU)
    hits = [hit("The Marsh store opens at 31.")]
    settings = {"headings": "section", "max_new_tokens": 24}
    [asked] = ask(*model, ["When does Marsh open?"], [hits], batch_size=1, **settings)
    *pieces, given = stream(*model, "When does Marsh open?", hits, **settings)
    assert asked.invented == given.invented == (7,) and asked.cited == given.cited, asked.text
    assert "".join(pieces) == given.text == asked.text.replace(" [7]", "") != asked.text
