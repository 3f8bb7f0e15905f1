"""tasks/rag/split.py on hundreds of random documents: what its docstring promises holds for all of them."""

import random
import re
import time
from dataclasses import dataclass, field

import pytest

from tasks.rag.loaders import Document, Page
from tasks.rag.split import split

ENGLISH = ["the", "store", "opens", "at", "nine", "and", "Dr. Hale", "sells", "lamps,", "rugs;", "tents:", "a", "3.5", "m",
           "cord", "e.g.", "in", "blue", "https://larkfield.example/a?b=c"]  # fmt: skip
CHINESE = "青山店的开门时间是上午九点店长王明华停车位地址松树路，、："
ENDS = (".", "!", "?", '."', "...", "")


def words(text: str) -> int:
    """Words, and each Chinese character."""
    return len("".join(f" {c} " if c > "\u2e7f" else c for c in text).split())


def pieces(text: str) -> int:
    """Pieces of four characters of a word, as a subword tokenizer has them: a long word is many tokens."""
    return sum(-(-len(word) // 4) for word in re.findall(r"[⺀-￿]|\w+|[^\w\s]", text))


def characters(text: str) -> int:
    """Each character, spaces too: a tokenizer of bytes."""
    return len(text)


@dataclass
class Draft:
    """A random page, and where its parts are: (start, end) of sentences, wholes (tables, code) and structure."""

    text: str = ""
    sentences: list[tuple[int, int]] = field(default_factory=list)
    wholes: list[tuple[int, int]] = field(default_factory=list)
    structure: list[tuple[int, int]] = field(default_factory=list)  # headings and rules

    def add(self, text: str, kind: list | None = None) -> None:
        """Append text, and note its place."""
        if kind is not None:
            kind.append((len(self.text), len(self.text) + len(text)))
        self.text += text


def sentence(rng: random.Random) -> str:
    """A sentence of one to forty words, in one of two languages."""
    if rng.random() < 0.4:
        return "".join(rng.choices(CHINESE, k=rng.randint(1, 60))).strip("，、：") + "店" + rng.choice("。！？；")
    chosen = rng.choices(ENGLISH, k=rng.randint(1, 40))
    return " ".join(chosen).capitalize() + " there" + rng.choice(ENDS[:-1])


def page(rng: random.Random) -> Draft:
    """Headings of both kinds, paragraphs, lists, tables with and without a head, code and rules, in any order."""
    draft = Draft()
    for _ in range(rng.randint(1, 12)):
        kind = rng.choice(["heading", "underlined", "prose", "prose", "prose", "list", "table", "code", "rule"])
        if kind == "heading":
            title = " ".join(rng.choices(ENGLISH, k=rng.randint(1, 12)))
            draft.add(f"{'#' * rng.randint(1, 6)} {title}{rng.choice(['', ' ##', '#'])}", draft.structure)
        elif kind == "underlined":
            draft.add(f"{''.join(rng.choices(CHINESE[:-3], k=4))}\n{rng.choice(['===', '---'])}", draft.structure)
        elif kind == "prose":
            for number in range(rng.randint(1, 6)):
                draft.add(rng.choice([" ", "\n"]) if number else "")
                draft.add(sentence(rng), draft.sentences)
        elif kind == "list":
            for number in range(rng.randint(1, 6)):
                draft.add("\n" if number else "")
                draft.add(rng.choice(["- ", f"{number + 1}. "]) + sentence(rng), draft.sentences)
        elif kind == "table":
            rows = [[" ".join(rng.choices(ENGLISH, k=rng.randint(1, 9))) for _ in "ab"] for _ in range(rng.randint(1, 9))]
            lines = [f"| {' | '.join(row)} |" for row in rows]
            draft.add("\n".join(lines[:1] + ["| --- | --- |"] * rng.randint(0, 1) + lines[1:]), draft.wholes)
        elif kind == "code":
            lines = [rng.choice(["# no heading", "", "x = '一二三'", "| a |", "for x in y: " + "z" * rng.randint(1, 90)])
                     for _ in range(rng.randint(1, 12))]
            draft.add("\n".join(["```", *lines, "```"]), draft.wholes)
        else:
            draft.add(rng.choice(["---", "* * *"]), draft.structure)
        draft.add("\n\n")
    return draft


@pytest.mark.parametrize("count", [words, pieces, characters])
@pytest.mark.parametrize("seed", range(20))
def test_every_promise_holds(seed, count):
    """Offsets, budget, whole sentences, tables and code, and nothing lost; drawn anew for each seed."""
    rng = random.Random(f"{seed} {count.__name__}")
    for _ in range(4):
        drafts = [page(rng) for _ in range(rng.randint(1, 3))]
        most, overlap = rng.choice([16, 24, 64, 200]), rng.randint(0, 2)
        document = Document("documents/x.md", tuple(Page(d.text, n) for n, d in enumerate(drafts, 1)))
        chunks = split(document, count, most, overlap, paragraphs=rng.random() < 0.5)
        assert len({c.id for c in chunks}) == len(chunks)
        for number, draft in enumerate(drafts, 1):
            here = [c for c in chunks if c.page == number]
            seen = set()
            for c in here:
                slice_ = draft.text[c.start : c.end]
                head = c.text.removesuffix(slice_)
                assert c.text == head + slice_ and slice_.strip() == slice_
                assert not head or (re.fullmatch(r"\|.*\|\n\| --- \| --- \|\n", head) and head in draft.text)
                room = max(most - count(f"{c.path}\n"), most // 2) if c.path else most
                assert count(c.text) <= room, (c, room)
                seen.update(range(c.start, c.end))
            structure = {n for start, end in draft.structure for n in range(start, end)}
            lost = [n for n, letter in enumerate(draft.text) if not letter.isspace() and n not in seen | structure]
            assert not lost, draft.text[lost[0] - 20 : lost[0] + 20]
            for start, end in draft.sentences + draft.wholes:
                touched = [c for c in here if c.start < end and c.end > start]
                path = touched[0].path
                room = max(most - count(f"{path}\n"), most // 2) if path else most
                assert (count(draft.text[start:end]) > room
                        or any(c.start <= start and end <= c.end for c in touched)), draft.text[start:end]
            assert [c.start for c in here] == sorted(c.start for c in here)


HOSTILE = {
    "dots": "." * 200_000 + "x",
    "stops after titles": "Mr. " * 50_000,
    "spaces in a heading": "# a" + " " * 200_000 + "b",
    "spaces in code": "```\n" + ("\u2003" * 200_000 + "\n") * 2 + "```",
    "a divider that is none": "| a |\n|" + "-" * 200_000 + "x|\n| b |",
    "pipes": "|" * 200_000 + "x",
    "one word": "a" * 500_000,
    "quotes": '."' + '"' * 200_000 + "x",
    "commas": "a, " * 100_000,
    "headings": "# a\n" * 50_000,
    "a long title over many sections": "# " + "long " * 50_000 + "\n\n" + "## b\n\nc.\n\n" * 5_000,
    "fences": "```\n\n" * 30_000,
    "rule": "- " * 100_000 + "x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_takes_time_in_proportion(name):
    """Each is made to let a careless pattern look at everything again for every character: hours, or all the memory."""
    began = time.process_time()
    chunks = split(Document("documents/x.md", (Page(HOSTILE[name]),)), lambda text: len(text.split()), 64, 1)
    assert time.process_time() - began < 10
    assert sum(len(c.passage) for c in chunks) < 20 * len(HOSTILE[name])
    assert all(len(c.text) <= 16 * 64 for c in chunks)
