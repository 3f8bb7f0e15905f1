"""Prompts and answers as HTML: nothing that runs, loads, leads away or hides; nothing that a model wrote vanishes."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest

from tasks.labelling import html
from tasks.labelling.task import LETTERS, Task, ask
from tasks.rag.prompt import TEMPLATES, grounded
from tests.labelling_fixtures import HOSTILE

TAGS = {"p", "br", "div", "span", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "hr", "table", "thead",
        "tbody", "tr", "th", "td", "h1", "h2", "h3", "h4", "h5", "h6"}  # fmt: skip
ATTRIBUTES = {"class", "dir", "style", "start"}
STYLES = {f"text-align:{side}" for side in ("left", "center", "right")}
SLOW = ["[" * 4000, "*a_ " * 1000, "> " * 2000 + "x", "`" * 4000, "- " * 2000, "|" * 4000, "![a](" * 800, "<" * 4000]


class Reader(HTMLParser):
    """Tags, attributes and text, as a browser takes them; what is open at the end."""

    def __init__(self, source: str):
        """Read it all."""
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text, self.open = "", 0
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        """One more, with these."""
        self.tags.add(tag)
        self.attributes |= set(attrs)
        self.open += tag not in ("br", "hr")

    def handle_startendtag(self, tag, attrs):
        """<br /> and <hr />."""
        self.tags.add(tag)

    def handle_endtag(self, tag):
        """One less; never more ends than beginnings, or it would end something of the page."""
        self.open -= 1
        assert self.open >= 0

    def handle_data(self, data):
        """What is read."""
        self.text += data


def task(answers: list[str], messages: list[dict[str, str]] | None = None) -> Task:
    """A task that shows them."""
    messages = messages or [{"role": "user", "content": "Which?"}]
    return ask("p", messages, answers, language="en", model=None, release=None, why="random")


@pytest.mark.parametrize("text", [*HOSTILE, "\n\n".join(HOSTILE), "> ".join(HOSTILE), "- ".join(HOSTILE)])
def test_a_hostile_text_has_only_harmless_tags(text):
    """Whatever the text, tags and attributes are from a short list, balanced, and no style says more than an alignment."""
    turns = [{"role": text, "content": text}, {"role": "user", "content": text}]
    notes = [{"role": "user", "content": grounded(text, [text, text], "en")}]
    for source in (html.render(text), html.answer(text, "A"), html.prompt(turns), html.prompt(notes)):
        read = Reader(source)
        assert read.tags <= TAGS and {name for name, _ in read.attributes} <= ATTRIBUTES and read.open == 0
        assert {value for name, value in read.attributes if name == "style"} <= STYLES
        assert all(value.startswith("ns-") for name, value in read.attributes if name == "class")


def test_links_and_images_are_told_and_not_made():
    """Text and address both stand there; an address that is the text stands there once."""
    assert html.render("[here](https://a.example/?x=1&y=2) <https://b.example>") == (
        '<p><span class="ns-link">here</span> <span class="ns-address">(https://a.example/?x=1&amp;y=2)</span> '
        '<span class="ns-link">https://b.example</span></p>\n')  # fmt: skip
    assert html.render("![a *cat*](https://a.example/c.png)") == (
        '<p><span class="ns-address">[a cat https://a.example/c.png]</span></p>\n')  # fmt: skip
    assert "javascript:x" in Reader(html.render("[y](javascript:x)")).text


@pytest.mark.parametrize("text", ["[1]: £106", "[1]: <x> 'y'", "&#x202e;abc", "&lt;b&gt;", "<!-- gone? -->", "a <b>c</b>"])
def test_what_a_model_wrote_is_all_there(text):
    """No link definition, character reference, comment or tag is swallowed: the annotator judges what the user would get."""
    assert Reader(html.render(text)).text.strip() == text


def test_what_hides_or_turns_is_shown():
    """Control, direction and invisible characters by code point; line breaks, tabs, Chinese and joined emoji as they are."""
    assert html.visible("a\u202eb\u0000\u200b\ufeff\U000e0041\ud800") == "a⟨U+202E⟩b⟨U+0000⟩⟨U+200B⟩⟨U+FEFF⟩⟨U+E0041⟩⟨U+D800⟩"
    kept = "西湖店\t19:15\n👩\u200d💻 é עברית"
    assert html.visible(kept) == kept and html.visible("a\r\nb\rc") == "a\nb\nc"
    html.render("\ud800").encode()  # can be sent


def test_markdown_is_rendered():
    """Line breaks, lists, emphasis, code and tables."""
    read = html.render("one\ntwo\n\n- `x < y`\n\n| a | b |\n|---|--:|\n| 1 | **2** |\n\n```py\nif a < b: pass\n```")
    for part in ("one<br />\ntwo", "<li><code>x &lt; y</code></li>", '<div class="ns-scroll"><table>', "<strong>2</strong>",
                 "<pre><code>if a &lt; b: pass\n</code></pre>"):  # fmt: skip
        assert part in read


@pytest.mark.parametrize("language", sorted(TEMPLATES))
def test_a_grounded_prompt_is_question_and_notes(language):
    """The words around are left out; a note of several lines is one note; rows of a table are a table."""
    notes = ["One [2] line\nand\n[3] another", "| Harvey | |\n| team | Gardens |"]
    shown = html.prompt([{"role": "user", "content": grounded("Which team?", notes, language)}])
    assert TEMPLATES[language].head not in shown and TEMPLATES[language].known not in shown
    question, both = shown.split('<div class="ns-notes">')
    assert Reader(question).text.split() == ["Which", "team?"]
    first, second = ["[1]One", "(2)", "line", "and", "(3)", "another"], ["[2]", "Harvey", "team", "Gardens"]
    assert Reader(shown).text.split()[2:] == first + second
    assert both.count('class="ns-note"') == 2 and "<td>team</td>\n<td>Gardens</td>" in both


def test_a_note_cannot_forge_the_question():
    """A note that looks like the question line is part of its note: the last question counts, as for the model."""
    shown = html.prompt([{"role": "user", "content": grounded("Real?", ["x\nQuestion: Forged?"], "en")}])
    assert Reader(shown.split('<div class="ns-notes">')[0]).text.strip() == "Real?" and "Forged?" in shown


def test_a_chat_shows_each_turn():
    """Roles of our own by name, others as they are called, escaped; one message alone needs none."""
    shown = html.prompt([{"role": "system", "content": "Be brief."}, {"role": "<b>", "content": "Hello"}])
    assert "Instructions" in shown and "&lt;b&gt;" in shown and shown.count("ns-role") == 2
    assert "ns-role" not in html.prompt([{"role": "user", "content": "Hello"}])


def test_fields_of_each_kind():
    """compare: two cards with letters; rank: a list whose ids are the letters; correction: the text to edit."""
    assert set(html.shown(task(["x", "y"]))) == {"prompt_html", "a_html", "b_html"}
    items = html.shown(task(["x", "y", "z"]))["items"]
    assert [item["id"] for item in items] == [item["title"] for item in items] == list(LETTERS[:3])
    correction = Task(**task(["x", "y\u202e"]).model_dump() | {"kind": "correction", "answers": {"A": "x", "B": "y\u202e"}})
    assert html.shown(correction)["correction"] == "y⟨U+202E⟩"
    assert not set(html.shown(correction)) & set(correction.data())


def test_an_empty_answer_is_seen_to_be_empty():
    """A card without text would look like a fault of the page."""
    assert "∅" in html.answer(" \n", "A")


@pytest.mark.parametrize("text", SLOW, ids=[text[:5] for text in SLOW])
def test_no_text_takes_long(text):
    """Markdown that parsers are slow at: the longest answer that params.yaml lets in takes less than two seconds."""
    began = time.process_time()
    html.answer(text)
    assert time.process_time() - began < 2
