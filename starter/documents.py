"""Pre-training documents and evaluation cases of the Larkfield world.

Documents resemble the product's prompts (numbered passages, then a question) without being them: answers are bare
values, so the base learns to find and copy but leaves the form of an assistant's answer to fine-tuning.
Most documents ask many questions of one context: each copied value is a supervised token of the skill that is scarce.
"""

import random
from typing import TypedDict

from starter.world import (
    COPY,
    CORE,
    KINDS,
    RANDOM,
    TEXT,
    Context,
    Segment,
    label,
    make_context,
    make_entity,
    notes,
    passage,
    question,
    some_keys,
    text_of,
    title,
)

__all__ = [
    "NOT_STATED",
    "WORDS",
    "core_document",
    "evaluation_case",
    "list_document",
    "make_document",
    "question_document",
    "retold_document",
]

NOT_STATED = {"en": "not stated", "zh": "没有说明"}
WORDS = {"en": {"q": "Question: ", "a": "Answer: "}, "zh": {"q": "问题：", "a": "回答："}}
SUMMARY = {
    "en": ["In short: ", "To sum up: ", "Once more: ", "Summary: "],
    "zh": ["也就是说：", "简要：", "总结："],
}
LISTS = {
    "en": [("List: ", "Again: "), ("Order: ", "Same order: "), ("Stock: ", "Stock again: ")],
    "zh": [("清单：", "再来一次：")],
}
CHINESE = 0.25  # share of the documents


def note_mark(n: int, lang: str) -> str:
    """How pre-training names the passage that an answer came from."""
    return f"（第{n}条）" if lang == "zh" else f" (note {n})"


def asked(q: list[Segment], lang: str) -> list[Segment]:
    """A question line and the start of its answer line."""
    return [(WORDS[lang]["q"], TEXT), *q, ("\n" + WORDS[lang]["a"], TEXT)]


def unanswerable_question(entities: Context, lang: str, r: random.Random) -> list[Segment] | None:
    """A question that the passages leave open: another attribute of their entity, or an entity they never mention."""
    e, keys = r.choice(entities)
    if r.random() < 0.3:
        other = make_entity(e["kind"], r, lang, taken={x["name"] for x, _ in entities})
        return question(other, r.choice(list(other["facts"])), lang, r)
    missing = [key for key in e["facts"] if key not in keys]
    return question(e, r.choice(missing), lang, r) if missing else None


def question_document(
    lang: str,
    r: random.Random,
    passages: int,
    queries: int,
    low: int = 3,
    high: int = 5,
    unanswerable: float = 0.1,
    short: float = 0.15,
) -> list[Segment]:
    """Numbered passages, then `queries` questions with answers; a share `short` of them as "name, label: value"."""
    entities = make_context(lang, r, passages, low=low, high=high)
    out = notes(entities, lang, r)
    cite = r.random() < 0.4
    pool = [(i, key) for i, (_, keys) in enumerate(entities) for key in keys]
    r.shuffle(pool)
    for i, key in (pool * 3)[:queries]:
        e = entities[i][0]
        open_question = unanswerable_question(entities, lang, r) if r.random() < unanswerable else None
        if open_question:
            out += [*asked(open_question, lang), (NOT_STATED[lang] + "\n", COPY)]
            continue
        answer = e["facts"][key] + (note_mark(i + 1, lang) if cite else "") + "\n"
        if r.random() < short:
            comma, colon = ("，", "：") if lang == "zh" else (", ", ": ")
            out += [(title(e, lang) + comma + label(e, key, lang) + colon, TEXT), (answer, COPY)]
        else:
            out += [*asked(question(e, key, lang, r), lang), (answer, COPY)]
    return out


def retold_document(lang: str, r: random.Random, passages: int = 1, low: int = 3, high: int = 5) -> list[Segment]:
    """Passages, then the same facts in another style: every value of the second telling can be copied."""
    entities = make_context(lang, r, passages, low=low, high=high)
    out = notes(entities, lang, r) if passages > 1 else [*passage(*entities[0], lang, r), ("\n", TEXT)]
    r.shuffle(entities)
    name_kind = COPY if passages == 1 else RANDOM
    for e, keys in entities:
        keys = list(keys)
        r.shuffle(keys)
        out.append((r.choice(SUMMARY[lang]), TEXT))
        out += [*passage(e, keys, lang, r, value_kind=COPY, name_kind=name_kind), ("\n", TEXT)]
    return out


def core_document(lang: str, r: random.Random) -> list[Segment]:
    """Known facts: a passage on a core entity, or questions on core entities without any context."""
    if r.random() < 0.5:
        e = r.choice(CORE[lang])
        return [*passage(e, some_keys(e, r), lang, r, value_kind=COPY), ("\n", TEXT)]
    out: list[Segment] = []
    for _ in range(r.randint(1, 4)):
        e = r.choice(CORE[lang])
        key = r.choice(list(e["facts"]))
        out += [*asked(question(e, key, lang, r), lang), (e["facts"][key] + "\n", COPY)]
    return out


def list_document(lang: str, r: random.Random) -> list[Segment]:
    """A list of random values and the same list again: the plainest form of copying."""
    values: list[str] = []
    for _ in range(r.randint(4, 14)):
        a = r.choice(list(KINDS[r.choice(list(KINDS))]["attributes"].values()))
        values.append(a["value"](r)[lang == "zh"])
    separator = "、" if lang == "zh" else ", "
    first, again = r.choice(LISTS[lang])
    out: list[Segment] = [(first, TEXT)]
    for i, v in enumerate(values):
        out += [(v, RANDOM), (separator if i + 1 < len(values) else "\n", TEXT)]
    return [*out, (again, TEXT), (separator.join(values) + "\n", COPY)]


def make_document(r: random.Random, level: float) -> list[Segment]:
    """One training document. `level` 0 gives plain, short ones only; 1 the full mixture of 1-4 passages."""
    lang = "zh" if r.random() < CHINESE else "en"
    easy = r.random() > level
    u = r.random()
    if easy:
        if u < 0.25:
            return list_document(lang, r)
        if u < 0.50:
            return retold_document(lang, r, 1, 2, 4)
        if u < 0.95:
            return question_document(lang, r, 1, r.randint(4, 7), 2, 4, unanswerable=0.03, short=0.4)
        return core_document(lang, r)
    if u < 0.04:
        return list_document(lang, r)
    if u < 0.14:
        return retold_document(lang, r, r.choice([1, 2, 2, 3]))
    if u < 0.24:
        return core_document(lang, r)
    return question_document(lang, r, r.choice([1, 2, 2, 3, 3, 3, 3, 4]), r.randint(6, 14))


class Case(TypedDict):
    """An evaluation case, in the base's own format (`prompt`) and in parts for other formats."""

    notes: str  # numbered passages, each ending with a newline
    question: str
    value: str | None  # None: the passages don't say
    cite: int | None  # number of the passage that answers, from 1
    key: str
    kind: str
    lang: str
    prompt: str
    answer: str  # the answer sentence of the chat form, {v} for the value


def evaluation_case(
    lang: str, r: random.Random, passages: int, held_out_question: bool, answerable: bool = True
) -> Case:
    """A prompt about entities that training never shows, asked with a training or a held-out wording."""
    entities = make_context(lang, r, passages, evaluation=True, same_kind=1.0)
    target = r.randrange(passages)
    e, keys = entities[target]
    choices = keys if answerable else [k for k in e["facts"] if k not in keys]
    if not choices:  # the passage happens to state everything: draw again
        return evaluation_case(lang, r, passages, held_out_question, answerable)
    key = r.choice(choices)
    asked_text = text_of(question(e, key, lang, r, "held-out" if held_out_question else None))
    body = text_of(notes(entities, lang, r))
    return Case(
        notes=body,
        question=asked_text,
        value=e["facts"][key] if answerable else None,
        cite=target + 1 if answerable else None,
        key=key,
        kind=e["kind"],
        lang=lang,
        prompt=f"{body}{WORDS[lang]['q']}{asked_text}\n{WORDS[lang]['a']}".rstrip(" "),
        answer=KINDS[e["kind"]]["attributes"][key]["zh_answer" if lang == "zh" else "answer"],
    )
