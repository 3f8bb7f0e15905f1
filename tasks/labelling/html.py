"""Prompts and answers as safe HTML, for the labelling pages (config.py).

The texts come from users, documents and models, and are shown inside a page where annotators are logged in. So they are
rendered here and not there: markdown without HTML, nothing that a browser would fetch or follow, and characters that
hide or turn text around are shown by their code point. A prompt with notes is taken apart, for a person reads the
question first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from tasks.labelling.task import Task
from tasks.rag.prompt import TEMPLATES

# C0 and C1 without tab and newline, directions, invisible marks and tags, halves of pairs: joiners of emoji stay
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_ROW, _RULE = re.compile(r"\|.*\|\s*"), re.compile(r"[|:\- ]+")
_ROLES = {"system": "Instructions · 指令", "user": "User · 用户", "assistant": "Assistant · 助手"}


def shown(task: Task) -> dict[str, Any]:
    """Fields that the pages show, beside the task's own: `prompt_html`, and `a_html`, `b_html` or the list `items`."""
    fields: dict[str, Any] = {"prompt_html": prompt(task.messages)}
    if task.kind == "rank":
        fields["items"] = [{"id": letter, "title": letter, "html": answer(text)} for letter, text in task.answers.items()]
    else:
        fields |= {f"{letter.lower()}_html": answer(text, letter) for letter, text in task.answers.items()}
    if task.kind == "correction":
        fields["correction"] = visible(task.answers["B"])
    return fields


def answer(text: str, letter: str = "") -> str:
    """An answer's card, its letter at the head."""
    head = f'<div class="ns-letter">{letter}</div>' if letter else ""
    return f'{head}<div class="ns-answer">{_block(text)}</div>'


def prompt(messages: Sequence[dict[str, str]]) -> str:
    """What was asked: of a prompt with notes the question first, then the notes; of a chat each turn with its role."""
    if len(messages) == 1 and (parts := _parts(messages[0]["content"])):
        return parts
    turns = []
    for message in messages:
        name = _ROLES.get(message["role"], escape(visible(message["role"])))
        head = f'<div class="ns-role">{name}</div>' if len(messages) > 1 else ""
        kind = "ns-question" if message is messages[-1] else "ns-turn"
        turns.append(f'{head}<div class="{kind}">{_parts(message["content"]) or _block(message["content"])}</div>')
    return "".join(turns)


def visible(text: str) -> str:
    """The text with what hides or turns it shown as its code point, such as ⟨U+202E⟩."""
    return _ODD.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n").replace("\r", "\n"))


def render(text: str) -> str:
    """Markdown as HTML without anything that a browser follows, fetches or runs; line breaks are kept."""
    return _MARKDOWN.render(visible(text))


def _block(text: str) -> str:
    """Text that keeps its direction to itself."""
    return f'<div class="ns-text" dir="auto">{render(text)}</div>' if text.strip() else '<div class="ns-text ns-none">∅</div>'


def _parts(content: str) -> str | None:
    """A prompt of the grounded form (tasks/rag/prompt.py) as question and notes; None for any other."""
    for words in TEMPLATES.values():
        start = f"{words.head}\n{words.known}\n"
        notes, found, question = content.removeprefix(start).rpartition(f"\n{words.question}")
        if content.startswith(start) and found:
            cards = "".join(
                f'<div class="ns-note"><div class="ns-number">[{number}]</div>{_block(text)}</div>'
                for number, text in _notes(notes)
            )
            return f'<div class="ns-question">{_block(question)}</div><div class="ns-notes">{cards}</div>'
    return None


def _notes(text: str) -> list[tuple[int, str]]:
    """Notes and their numbers: a note begins where a line begins with the next number."""
    notes: list[tuple[int, str]] = []
    for line in text.split("\n"):
        mark = f"[{len(notes) + 1}] "
        if line.startswith(mark):
            notes.append((len(notes) + 1, line.removeprefix(mark)))
        elif notes:
            notes[-1] = (notes[-1][0], f"{notes[-1][1]}\n{line}")
        else:
            notes.append((1, line))
    return [(number, _table(note)) for number, note in notes]


def _table(note: str) -> str:
    """A note that is rows of a table alone, with the line below its first row that markdown needs to see one."""
    rows = note.strip().split("\n")
    if len(rows) < 2 or any(not _ROW.fullmatch(row) for row in rows) or _RULE.fullmatch(rows[1]):
        return note
    return "\n".join([rows[0], "|---" * (rows[0].count("|") - 1) + "|", *rows[1:]])


class _Renderer(RendererHTML):
    """markdown-it's renderer, with text in the place of links and images. Methods are named by token."""

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A link's text."""
        return '<span class="ns-link">'

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """And its address, unless the text is the address."""
        depth, at = 1, idx
        while depth:
            at -= 1
            depth += {"link_close": 1, "link_open": -1}.get(tokens[at].type, 0)
        address = str(tokens[at].attrGet("href") or "")
        same = "".join(token.content for token in tokens[at + 1 : idx]) == address
        return "</span>" if same else f'</span> <span class="ns-address">({escape(address)})</span>'

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """An image's description and address. Nothing is fetched."""
        text = self.renderInlineAsText(tokens[idx].children or [], options, env)
        return f'<span class="ns-address">[{escape(text)} {escape(str(tokens[idx].attrGet("src") or ""))}]</span>'

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Code, without the class that names its language."""
        return f"<pre><code>{escape(tokens[idx].content)}</code></pre>\n"

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A table that may be wider than its place."""
        return '<div class="ns-scroll"><table>\n'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Its end."""
        return "</table></div>\n"


_MARKDOWN = MarkdownIt("commonmark", {"html": False, "breaks": True, "linkify": False}, renderer_cls=_Renderer)
_MARKDOWN.enable(["table", "strikethrough"])
# both make text that the model wrote vanish or turn into another: `[1]: £106` names a link, `&#x202E;` turns the line
_MARKDOWN.disable(["reference", "entity"])
