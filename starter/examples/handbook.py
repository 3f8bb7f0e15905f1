"""The handbook: which documents there are and what they say. How each format is written is in render.py.

Every entity has a held-out name, stands in one document only and is a section of its own, so that retrieval has one
right passage for each question. The prose around the sections says nothing that is asked.
"""

import random
from dataclasses import dataclass, field

from starter import world
from starter.examples.prose import ABOUT, CHAPTERS, INTRO, MEMOS, RANGES, REGIONS, ZH_CHAPTERS, ZH_MEMOS
from starter.world import Entity

FORMS = ("prose", "list", "table")


@dataclass(frozen=True)
class Block:
    """Prose ("text"), or (label, value) rows as a "list" or "table"."""

    form: str
    text: str = ""
    rows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """A heading of level 1 (the document's) to 3, and what stands below it. `entity`: whose facts these are."""

    heading: str
    level: int
    blocks: tuple[Block, ...] = ()
    entity: Entity | None = None
    stated: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """One file. Its suffix is its format; PDF pages break before every section of an entity."""

    path: str
    language: str
    sections: list[Section] = field(default_factory=list)
    encoding: str = "utf-8"


class Author:
    """Draws entities that no other section has, and writes their sections."""

    def __init__(self, r: random.Random) -> None:
        self.r = r
        self.taken: set[str] = set()
        self.people: set[str] = set()

    def entity(self, kind: str, lang: str) -> Entity:
        """A fresh held-out entity. Two people may share a first name, but not within twenty of each other."""
        if len(self.people) > 20:
            self.people = set()
        e = world.make_entity(kind, self.r, lang, evaluation=True, taken=self.people)
        while e["name"] in self.taken:
            e = world.make_entity(kind, self.r, lang, evaluation=True, taken=self.people)
        self.taken.add(e["name"])
        if kind == "staff":
            self.people.add(e["name"])
        return e

    def section(self, kind: str, lang: str, level: int, form: str | None = None) -> Section:
        """Three to five facts of a fresh entity; one attribute at least stays unsaid."""
        e, r = self.entity(kind, lang), self.r
        keys = world.some_keys(e, r, 3, len(e["facts"]) - 1)
        form = form or r.choice(FORMS)
        if form in ("prose", "line"):
            block = Block("text", world.text_of(world.passage(e, keys, lang, r, form)))
        else:
            block = Block(form, rows=tuple((world.label(e, k, lang), e["facts"][k]) for k in keys))
        return Section(world.title(e, lang), level, (block,), e, tuple(keys))


def said(heading: str, level: int, *paragraphs: str) -> Section:
    """A section of plain prose."""
    return Section(heading, level, tuple(Block("text", p) for p in paragraphs))


def slug(name: str) -> str:
    """A file name: lower case, hyphens for spaces; Chinese stays."""
    return name.lower().replace(" ", "-")


def store_page(author: Author, lang: str) -> Document:
    """HTML: a store and, one heading deeper, somebody who works there."""
    zh = lang == "zh"
    store = author.section("store", lang, 2)
    person = author.section("staff", lang, 3)
    name = store.entity["name"]
    sections = [
        said(f"云雀{name}" if zh else f"Larkfield in {name}", 1, INTRO[lang]["store"]),
        store,
        said("同事" if zh else "People", 2, INTRO[lang]["people"]),
        person,
    ]
    return Document(f"stores/{'zh/' if zh else ''}{slug(name)}.html", lang, sections)


def chapter(author: Author, path: str, lang: str, heading: str, intro: str, kinds: list[str], forms=FORMS) -> Document:
    """A heading, an opening sentence, and one section for each of `kinds`."""
    level = 3 if path.endswith((".md", ".docx")) else 2
    sections = [said(heading, 1, INTRO[lang][intro])]
    if level == 3:
        sections.append(said("条目" if lang == "zh" else "Entries", 2))
    sections += [author.section(kind, lang, level, author.r.choice(forms)) for kind in kinds]
    return Document(path, lang, sections)


def documents(r: random.Random) -> list[Document]:
    """The whole handbook, in the order of its paths."""
    a = Author(r)
    out = [Document(path, lang, [said(*section) for section in sections]) for path, lang, *sections in ABOUT]
    out += [store_page(a, "en") for _ in range(22)] + [store_page(a, "zh") for _ in range(12)]
    for name in RANGES:
        out.append(chapter(a, f"products/{slug(name)}.pdf", "en", f"{name} product sheets", "product", ["product"] * 6))
    for n, name in enumerate(["家具", "家电"]):
        out.append(chapter(a, f"products/{name}.pdf", "zh", f"{name}说明书", "product", ["product"] * (6 + n)))
    for name in ["Lamps and rugs", "Tools", "Small things"]:
        out.append(chapter(a, f"products/{slug(name)}.md", "en", name, "price", ["product"] * 4))
    for name in REGIONS:
        out.append(chapter(a, f"staff/{name.lower()}.docx", "en", f"Staff directory, {name}", "staff", ["staff"] * 11))
    out.append(chapter(a, "staff/员工名册.docx", "zh", "员工名册", "staff", ["staff"] * 10))
    for name in CHAPTERS:
        out.append(chapter(a, f"policies/{slug(name)}.md", "en", f"{name}: what we offer", "policy", ["policy"] * 2))
    for name in ZH_CHAPTERS:
        out.append(chapter(a, f"policies/{name}.md", "zh", name, "policy", ["policy"] * 2))
    for n, name in enumerate(MEMOS):
        kinds = ["product", "staff"] if n % 3 else ["store", "product"]
        memo = chapter(a, f"memos/{slug(name)}.txt", "en", name, "memo", kinds, ("prose", "line"))
        out.append(memo)
    for n, name in enumerate(ZH_MEMOS):
        kinds = ["product", "staff"] if n % 2 else ["store", "product"]
        encoding = {2: "gb18030", 4: "utf-16"}.get(n, "utf-8")
        memo = chapter(a, f"memos/{name}.txt", "zh", name, "memo", kinds, ("prose", "line"))
        out.append(Document(memo.path, "zh", memo.sections, encoding))
    return sorted(out, key=lambda d: d.path)


def questions(docs: list[Document], r: random.Random) -> list[dict]:
    """Rows of evaluation/documents.jsonl: 320 that a section answers, 80 that no document answers."""
    held = [(d, s) for d in docs for s in d.sections if s.entity is not None]
    names = {s.entity["name"] for _, s in held}
    rows: list[dict] = []
    for lang, answered, missing in (("en", 220, 54), ("zh", 100, 26)):
        of_lang = [(d, s) for d, s in held if d.language == lang]
        stated = [(d, s, k) for d, s in of_lang for k in s.stated]
        unsaid = [(d, s, k) for d, s in of_lang for k in s.entity["facts"] if k not in s.stated]
        asked = [(s.entity, k, d, s) for d, s, k in r.sample(stated, answered)]
        asked += [(s.entity, k, None, s) for _, s, k in r.sample(unsaid, round(missing * 0.7))]
        while len(asked) < answered + missing:  # somebody or something that no document mentions
            e = world.make_entity(r.choice(["product", "staff", "store"]), r, lang, evaluation=True)
            if e["name"] not in names:
                names.add(e["name"])
                asked.append((e, r.choice(list(e["facts"])), None, None))
        for e, key, doc, section in asked:
            wording = "held-out" if r.random() < 0.5 else None
            row = {
                "id": f"documents-{lang}-{len(rows) + 1:04d}",
                "question": world.text_of(world.question(e, key, lang, r, wording)),
                "answer": e["facts"][key] if doc else None,
                "distractors": distractors(e, key, section, of_lang) if doc else [],
                "source": f"documents/{doc.path}" if doc else None,
                "language": lang,
            }
            rows.append(row)
    return rows


def distractors(e: Entity, key: str, section: Section, held: list[tuple[Document, Section]]) -> list[str]:
    """Up to three values that the same attribute has elsewhere in the handbook: what a wrong passage would give."""
    same = [
        s.entity["facts"][key]
        for _, s in held
        if s.entity["kind"] == e["kind"] and key in s.stated and s is not section
    ]
    return [v for v in dict.fromkeys(same) if v != e["facts"][key]][:3]
