"""The Larkfield world: fictional entities, the passages that state their facts, and the questions about them.

A passage or question is a list of segments (text, kind); the kind says how the loss treats the text:
  TEXT    ordinary words, predictable from grammar
  RANDOM  the first mention of a value, which nothing predicts: nearly left out of the loss
  COPY    a value or name that the context already holds: what the base has to learn
Everything random is drawn from the `random.Random` that is passed in, so equal seeds give equal text.
Whole documents are put together in starter/documents.py, whose functions can also be had from here.
"""

import random
import zlib
from typing import Any, TypedDict

from starter.attributes import NAMES, load_kinds

TEXT, RANDOM, COPY = 0, 1, 2
HELD_OUT_QUESTIONS = 2  # the last n English wordings of every attribute are kept for evaluation
HELD_OUT_QUESTIONS_ZH = 1  # and the last n Chinese ones
STYLES = ["prose", "prose", "prose", "heading", "heading", "bullets", "table", "line"]

Segment = tuple[str, int]


class Entity(TypedDict):
    """One thing of the world, in one language."""

    kind: str
    name: str
    facts: dict[str, str]  # attribute key → value


Context = list[tuple[Entity, list[str]]]  # entities, each with the attributes that its passage states

KINDS = load_kinds()
CORE_NAMES: set[str] = set()

LEADS = {
    "en": ["Good to know. ", "Note for staff. ", "Please read. ", "From the handbook. ", "News. "],
    "zh": ["店内通知：", "请注意，", "员工须知："],
}
ROOTS = {"en": ["", "", "Handbook > ", "Larkfield > "], "zh": ["", "", "手册 > ", "云雀 > "]}


def draw_name(kind: str, r: random.Random) -> tuple[str, str]:
    """A name for an entity of this kind: (English, Chinese)."""
    return NAMES[kind](r)


def held_out(name: str) -> bool:
    """True for one name in eight: no training document is ever about such an entity."""
    return zlib.crc32(name.encode()) % 8 == 0


def _alike(name: str, taken: set[str], kind: str) -> bool:
    """True when readers could mix the name up with a taken one: the same name, or people who share a first name."""
    if kind == "staff" and " " in name:
        return name.split()[0] in {other.split()[0] for other in taken}
    return name in taken


def make_entity(
    kind: str, r: random.Random, lang: str, evaluation: bool = False, taken: set[str] | tuple[str, ...] = ()
) -> Entity:
    """A fresh entity with a value for every attribute; its name is held out exactly when `evaluation` is true."""
    while True:
        name = draw_name(kind, r)[lang == "zh"]
        if name in CORE_NAMES or held_out(name) != evaluation or _alike(name, set(taken), kind):
            continue
        facts = {key: a["value"](r)[lang == "zh"] for key, a in KINDS[kind]["attributes"].items()}
        return Entity(kind=kind, name=name, facts=facts)


def make_core(per_kind: int = 8) -> dict[str, list[Entity]]:
    """Core entities: fixed facts, stated again and again in pre-training, so that the base knows them by heart."""
    r, core = random.Random(20261123), {"en": [], "zh": []}
    for lang, count in (("en", per_kind), ("zh", per_kind // 2)):
        for kind in KINDS:
            for _ in range(count):
                e = make_entity(kind, r, lang)
                core[lang].append(e)
                CORE_NAMES.add(e["name"])
    return core


CORE: dict[str, list[Entity]] = make_core()


def label(e: Entity, key: str, lang: str) -> str:
    """What a table or list calls this attribute."""
    return KINDS[e["kind"]]["attributes"][key]["zh_label" if lang == "zh" else "label"]


def title(e: Entity, lang: str) -> str:
    """The entity as a heading names it."""
    return KINDS[e["kind"]]["zh_subject" if lang == "zh" else "title"].replace("{}", e["name"])


def text_of(segments: list[Segment]) -> str:
    """The plain text of segments."""
    return "".join(text for text, _ in segments)


def fill(
    template: str, e: Entity, lang: str, v: str, r: random.Random, first: bool, value_kind: int, name_kind: int
) -> list[Segment]:
    """Segments of one sentence or question; the value and the entity's name keep their own loss kind.

    `first`: the entity is named in full; otherwise by a pronoun or the like.
    """
    k, name = KINDS[e["kind"]], e["name"]
    if lang == "en":
        subject = k["subject"] if first else r.choice(k["again"])
        owner = k["subject"] + "'s" if first else r.choice(k["poss"])
        text = template.replace("{s}", subject).replace("{p}", owner).replace("{e}", k["entity"])
        text = text.replace("{first}", name.split()[0])
    else:
        text = template.replace("{s}", k["zh_subject"] if first else r.choice(k["zh_again"]))
        text = text.replace("{e}", k["zh_subject"])
    out: list[Segment] = []
    for part in text.replace("{}", "\0N\0").replace("{v}", "\0V\0").split("\0"):
        if part == "N":
            out.append((name, name_kind))
        elif part == "V":
            out.append((v, value_kind))
        elif part:
            out.append((part, TEXT))
    return out


def _sentences(
    e: Entity, keys: list[str], lang: str, r: random.Random, named: bool, value_kind: int, name_kind: int
) -> list[Segment]:
    """Running prose. `named`: the text before it names the entity, so even the first sentence may say "It"."""
    out: list[Segment] = []
    for i, key in enumerate(keys):
        options = KINDS[e["kind"]]["attributes"][key]["zh_sentences" if lang == "zh" else "sentences"]
        first = i == 0 and not named
        if first:
            options = [t for t in options if "{s}" in t or "{p}" in t]
        if i and lang == "en":
            out.append((" ", TEXT))
        out += fill(r.choice(options), e, lang, e["facts"][key], r, first, value_kind, name_kind if first else COPY)
    return out


def passage(
    e: Entity,
    keys: list[str],
    lang: str,
    r: random.Random,
    style: str | None = None,
    value_kind: int = RANDOM,
    name_kind: int = RANDOM,
) -> list[Segment]:
    """One natural-looking passage that states the attributes `keys` of entity e, in one of STYLES."""
    k, zh = KINDS[e["kind"]], lang == "zh"
    style = style or r.choice(STYLES)
    head, tail = k["zh_subject" if zh else "title"].split("{}")
    name: list[Segment] = [(head, TEXT)] * bool(head) + [(e["name"], name_kind)] + [(tail, TEXT)] * bool(tail)
    if style == "prose":
        lead: list[Segment] = [] if r.random() < 0.6 else [(r.choice(LEADS[lang]), TEXT)]
        return lead + _sentences(e, keys, lang, r, False, value_kind, name_kind)
    if style == "heading":
        path = r.choice(ROOTS[lang]) + k["zh_path" if zh else "path"] + " > "
        named = r.random() < 0.7
        return [(path, TEXT), *name, ("\n", TEXT), *_sentences(e, keys, lang, r, named, value_kind, COPY)]
    out = list(name)
    if style == "bullets":
        for key in keys:
            out += [(f"\n- {label(e, key, lang)}" + ("：" if zh else ": "), TEXT), (e["facts"][key], value_kind)]
        return out
    if style == "table":
        out = [("| ", TEXT), *name, (" | |" + r.choice(["", "\n| --- | --- |"]), TEXT)]
        for key in keys:
            out += [(f"\n| {label(e, key, lang)} | ", TEXT), (e["facts"][key], value_kind), (" |", TEXT)]
        return out
    assert style == "line", style
    stop, between = ("。", "；") if zh else (".", "; ")
    for i, key in enumerate(keys):
        before = (("：" if zh else ": ") if i == 0 else between) + label(e, key, lang) + ("" if zh else " ")
        out += [(before, TEXT), (e["facts"][key], value_kind)]
    return [*out, (stop, TEXT)]


def question(e: Entity, key: str, lang: str, r: random.Random, evaluation: str | None = None) -> list[Segment]:
    """A question for one attribute; evaluation "held-out" takes a wording that training never shows."""
    a = KINDS[e["kind"]]["attributes"][key]
    options, n = a["questions"], HELD_OUT_QUESTIONS
    if lang == "zh":
        options, n = a["zh_questions"], HELD_OUT_QUESTIONS_ZH
    template = r.choice(options[-n:] if evaluation == "held-out" else options[:-n])
    return fill(template, e, lang, "", r, True, TEXT, TEXT)


def some_keys(e: Entity, r: random.Random, low: int = 3, high: int = 5) -> list[str]:
    """`low` to `high` of the entity's attributes, in random order."""
    keys = list(e["facts"])
    r.shuffle(keys)
    return keys[: r.randint(low, min(high, len(keys)))]


def make_context(
    lang: str,
    r: random.Random,
    passages: int,
    evaluation: bool = False,
    low: int = 3,
    high: int = 5,
    same_kind: float = 0.7,
) -> Context:
    """Entities for numbered passages; each is of the first one's kind with probability `same_kind` (confusable)."""
    kind, entities, taken = r.choice(list(KINDS)), [], set()
    for i in range(passages):
        this = kind if i == 0 or r.random() < same_kind else r.choice(list(KINDS))
        e = make_entity(this, r, lang, evaluation, taken)
        taken.add(e["name"])
        entities.append((e, some_keys(e, r, low, high)))
    return entities


def notes(entities: Context, lang: str, r: random.Random) -> list[Segment]:
    """Numbered passages, one after the other: "[1] …\\n[2] …\\n"."""
    out: list[Segment] = []
    for i, (e, keys) in enumerate(entities):
        out += [(f"[{i + 1}] ", TEXT), *passage(e, keys, lang, r), ("\n", TEXT)]
    return out


def __getattr__(name: str) -> Any:
    """The functions of starter.documents, which itself needs this module."""
    from starter import documents

    if name in documents.__all__:
        return getattr(documents, name)
    raise AttributeError(name)
