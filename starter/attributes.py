"""Kinds of entity, their attributes and the values these take, read from larkfield.toml.

Templates are data and live in the TOML file; what can be drawn at random lives here. Each value generator returns one
draw as a pair (English, Chinese), so that both languages describe the same kind of fact.
"""

import random
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from starter.words import (
    COLOUR,
    DAY,
    FIRST,
    LAST,
    LINE,
    MAKER_TAIL,
    PLAN_HEAD,
    PLAN_TAIL,
    STREET,
    STREET_TAIL,
    TEAM,
    THING,
    TOWN_HEAD,
    TOWN_TAIL,
    ZH_COLOUR,
    ZH_DAY,
    ZH_GIVEN,
    ZH_LINE,
    ZH_PLAN1,
    ZH_PLAN2,
    ZH_SUR,
    ZH_TEAM,
    ZH_THING,
    ZH_TOWN1,
    ZH_TOWN2,
)

Pair = tuple[str, str]  # one draw: (English, Chinese)
Draw = Callable[[random.Random], Pair]


class Attribute(TypedDict):
    """One thing that can be said of an entity: its value generator and the templates that state or ask it."""

    value: Draw
    label: str
    sentences: list[str]
    questions: list[str]  # the last HELD_OUT_QUESTIONS are for evaluation only
    answer: str  # the sentence of the chat form; never part of pre-training
    zh_label: str
    zh_sentences: list[str]
    zh_questions: list[str]  # the last HELD_OUT_QUESTIONS_ZH are for evaluation only
    zh_answer: str


class Kind(TypedDict):
    """A kind of entity: how it is named, named again, titled and filed, and its attributes."""

    subject: str
    again: list[str]
    poss: list[str]
    entity: str
    title: str
    path: str
    zh_subject: str
    zh_again: list[str]
    zh_path: str
    attributes: dict[str, Attribute]


def person(r: random.Random) -> Pair:
    """A full name."""
    return f"{r.choice(FIRST)} {r.choice(LAST)}", r.choice(ZH_SUR) + r.choice(ZH_GIVEN) + r.choice(ZH_GIVEN)


def town(r: random.Random) -> Pair:
    """A made-up town."""
    return r.choice(TOWN_HEAD) + r.choice(TOWN_TAIL), r.choice(ZH_TOWN1) + r.choice(ZH_TOWN2)


def product(r: random.Random) -> Pair:
    """A product: a line and a thing."""
    return f"{r.choice(LINE)} {r.choice(THING)}", r.choice(ZH_LINE) + r.choice(ZH_THING)


def plan(r: random.Random) -> Pair:
    """A customer plan: a head and a tail."""
    return f"{r.choice(PLAN_HEAD)} {r.choice(PLAN_TAIL)}", r.choice(ZH_PLAN1) + r.choice(ZH_PLAN2)


def company(r: random.Random) -> Pair:
    """A maker of goods."""
    return f"{r.choice(LAST)} {r.choice(MAKER_TAIL)}", r.choice(ZH_SUR) + r.choice(ZH_GIVEN) + "厂"


def address(r: random.Random) -> Pair:
    """A street and a number."""
    n = r.randint(1, 199)
    return f"{n} {r.choice(STREET)} {r.choice(STREET_TAIL)}", f"{r.choice(ZH_TOWN1)}{r.choice(ZH_TOWN2)}路{n}号"


def code(r: random.Random) -> Pair:
    """A letter and three digits; I and O are left out, as on real shelves."""
    c = f"{r.choice('ABCDEFGHJKLMNPQRSTUVWXYZ')}-{r.randint(100, 999)}"
    return c, c


def _time(low: int, high: int) -> Draw:
    """A clock time on a quarter of an hour, `low` to `high` in hours."""

    def draw(r: random.Random) -> Pair:
        t = f"{r.randint(low, high)}:{r.choice(['00', '15', '30', '45'])}"
        return t, t

    return draw


def _count(low: int, high: int, en: str, zh: str) -> Draw:
    """A whole number within the bounds, put into an English and a Chinese form."""

    def draw(r: random.Random) -> Pair:
        n = r.randint(low, high)
        return en.format(n), zh.format(n)

    return draw


def _pick(en: list[str], zh: list[str]) -> Draw:
    """One word of a list."""
    return lambda r: (r.choice(en), r.choice(zh))


FORMS = {
    "number": ("{}", "{}"),
    "money": ("£{}", "{}元"),
    "months": ("{} months", "{}个月"),
    "days": ("{} days", "{}天"),
}
PLAIN: dict[str, Draw] = {
    "person": person,
    "town": town,
    "company": company,
    "address": address,
    "code": code,
    "colour": _pick(COLOUR, ZH_COLOUR),
    "team": _pick(TEAM, ZH_TEAM),
    "day": _pick(DAY, ZH_DAY),
}
NAMES: dict[str, Draw] = {"store": town, "product": product, "staff": person, "policy": plan}  # kind → entity names


def generator(spec: str) -> Draw:
    """The value generator that `spec` names: "person", or a form with its bounds such as "money 5 999"."""
    name, *bounds = spec.split()
    if name in PLAIN:
        return PLAIN[name]
    low, high = map(int, bounds)
    return _time(low, high) if name == "time" else _count(low, high, *FORMS[name])


def load_kinds() -> dict[str, Kind]:
    """Read larkfield.toml and put a generator in place of each value's name."""
    kinds = tomllib.loads((Path(__file__).parent / "larkfield.toml").read_text(encoding="utf-8"))
    for kind in kinds.values():
        for attribute in kind["attributes"].values():
            attribute["value"] = generator(attribute["value"])
    return kinds
