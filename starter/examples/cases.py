"""A case: numbered passages, one question on them, and what a right and a wrong answer would be.

Training and evaluation draw from the same generator. What keeps them apart is the entities' names (`world.held_out`)
and the questions' wordings (the last ones of each attribute are for evaluation only).
"""

import random
import tomllib
from dataclasses import dataclass
from pathlib import Path

from starter import world
from starter.world import CORE, KINDS, Context, Entity

_SPECS = tomllib.loads((Path(world.__file__).parent / "larkfield.toml").read_text(encoding="utf-8"))
# (kind, attribute) → the sort of value it takes; a value of the same sort could be a plausible mistake
SORT = {(kind, key): a["value"].split()[0] for kind, spec in _SPECS.items() for key, a in spec["attributes"].items()}
NAME_SORT = {"staff": "person", "store": "town"}  # names of entities that could be mistaken for a value


@dataclass(frozen=True)
class Case:
    """One question. `value` is None when the passages do not answer it; `note` counts from 1 (0: no passages)."""

    question: str
    passages: tuple[str, ...]
    language: str
    entity: Entity
    key: str
    value: str | None
    note: int
    wrong: tuple[tuple[str, int], ...]  # (a value of the same sort that would be wrong, the note that holds it)
    wording: str  # "training" or "held-out"

    @property
    def kind(self) -> str:
        """What is asked, as the evaluation names it: "store.opening"."""
        return f"{self.entity['kind']}.{self.key}"

    @property
    def signature(self) -> tuple[str, tuple[str, ...]]:
        """What makes two cases the same."""
        return self.question, self.passages

    def prompt_row(self, id_: str) -> dict:
        """The fields that every file of questions has."""
        return {"id": id_, "question": self.question, "passages": list(self.passages), "language": self.language}


def wrong_values(context: Context, target: Entity, key: str) -> tuple[tuple[str, int], ...]:
    """Values in the context of the sort that `key` of `target` takes, without its own: (value, number of its note)."""
    sort, own = SORT[target["kind"], key], target["facts"][key]
    found: dict[str, int] = {}
    for n, (e, keys) in enumerate(context, 1):
        if e is not target and NAME_SORT.get(e["kind"]) == sort:
            found.setdefault(e["name"], n)
        for k in keys:
            if SORT[e["kind"], k] == sort and not (e is target and k == key):
                found.setdefault(e["facts"][k], n)
    return tuple((v, n) for v, n in found.items() if v != own)


def made_up(case: Case, r: random.Random) -> str:
    """A value of the right sort that neither the passages nor the truth know."""
    truth = case.entity["facts"][case.key]
    while True:
        value = KINDS[case.entity["kind"]]["attributes"][case.key]["value"](r)[case.language == "zh"]
        if value != truth and not any(value in p for p in case.passages):
            return value


def _question(e: Entity, key: str, lang: str, r: random.Random, wording: str) -> str:
    return world.text_of(world.question(e, key, lang, r, "held-out" if wording == "held-out" else None))


def draw(
    lang: str,
    r: random.Random,
    passages: int,
    answerable: bool = True,
    evaluation: bool = False,
    wording: str = "training",
    low: int = 3,
    high: int = 5,
    confusable: float = 0.6,
) -> Case:
    """A fresh case with `passages` notes of `low` to `high` facts each.

    A share `confusable` of the questions is chosen so that a wrong value of the same sort stands in the notes as well.
    Unanswerable questions ask a missing attribute of a noted entity (three in four) or an entity that is not noted.
    """
    while True:
        context = world.make_context(lang, r, passages, evaluation, low, high, same_kind=0.8)
        note = r.randrange(passages) + 1
        e, stated = context[note - 1]
        keys = stated
        if not answerable:
            if r.random() < 0.25:
                e = world.make_entity(e["kind"], r, lang, evaluation, taken={x["name"] for x, _ in context})
                keys = list(e["facts"])
            else:
                keys = [k for k in e["facts"] if k not in stated]
        if not keys:
            continue
        if r.random() < confusable or not answerable:  # a guess from the notes needs something to guess
            keys = [k for k in keys if wrong_values(context, e, k)] or keys
        key = r.choice(keys)
        question = _question(e, key, lang, r, wording)
        wrong = tuple((v, n) for v, n in wrong_values(context, e, key) if v not in question)
        texts = tuple(world.text_of(world.passage(x, ks, lang, r)) for x, ks in context)
        return Case(question, texts, lang, e, key, e["facts"][key] if answerable else None, note, wrong, wording)


def core_facts(lang: str) -> list[tuple[Entity, str]]:
    """Every (entity, attribute) that the base was taught."""
    return [(e, key) for e in CORE[lang] for key in e["facts"]]


def fact(e: Entity, key: str, lang: str, r: random.Random, wording: str = "training") -> Case:
    """A question on a core entity without passages. Wrong would be what other core entities have."""
    others = {x["facts"][key]: 0 for x in CORE[lang] if x["kind"] == e["kind"] and x["facts"][key] != e["facts"][key]}
    question = _question(e, key, lang, r, wording)
    wrong = tuple((v, 0) for v in others if v not in question)
    return Case(question, (), lang, e, key, e["facts"][key], 0, wrong, wording)
