"""The instruction log: what a team's assistant said and someone kept. Mostly right, unevenly good.

Grounded answers often lack their source or chat too much; open questions are as often guessed as left open; two in a
hundred values are wrong. Preference training has to mend what this log teaches. Some rows come twice, some nearly so,
and a few were copied from the evaluation sets: `prepare` has to find them.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from starter.examples.answers import abstention, misread, statement
from starter.examples.cases import Case, core_facts, draw, fact
from tasks.rag.prompt import TEMPLATES, grounded

GROUNDED, OPEN, FACTS_EACH = 2380, 380, 2  # rows with an answer in the notes, without one, and rows of each core fact
CHINESE = 0.3
UNCITED, CHATTY, MISTAKEN, GUESSED = 0.5, 0.2, 0.02, 0.55
EXACT_COPIES, NEAR_COPIES, LEAKED = 40, 50, 12
GREETING = {"en": "Hello, ", "zh": "请问一下，"}
SECOND_TURN = 0.3  # share of the chat log's conversations with a second question on the same notes


@dataclass(frozen=True)
class Row:
    """One logged exchange."""

    case: Case
    answer: str


def logged(case: Case, r: random.Random) -> Row:
    """What the log holds for this case: right or not, sourced or not, brief or not."""
    chatty = r if r.random() < CHATTY else None
    sourced = r.random() >= UNCITED
    if case.value is None:
        if r.random() >= GUESSED:
            return Row(case, abstention(case, chatty))
        value, note = misread(case, r)
    elif r.random() < MISTAKEN:
        value, note = misread(case, r)
    else:
        value, note = case.value, case.note
    return Row(case, statement(case, value, note if sourced else None, chatty))


def language(r: random.Random) -> str:
    """Three in ten are Chinese."""
    return "zh" if r.random() < CHINESE else "en"


def draw_log(r: random.Random) -> tuple[list[Row], list[Row]]:
    """(rows with notes, rows on core facts without notes), each shuffled."""
    noted = [logged(draw(language(r), r, r.choice([1, 2, 2, 3, 3])), r) for _ in range(GROUNDED)]
    noted += [logged(draw(language(r), r, r.choice([1, 2, 2, 3]), answerable=False), r) for _ in range(OPEN)]
    facts: dict[tuple, Row] = {}
    for lang in ("en", "zh"):
        for e, key in core_facts(lang):
            wanted = len(facts) + FACTS_EACH
            while len(facts) < wanted:
                case = fact(e, key, lang, r)
                facts.setdefault(case.signature, logged(case, r))
    plain = list(facts.values())
    r.shuffle(noted)
    r.shuffle(plain)
    return noted, plain


def alpaca(row: Row) -> dict:
    """Alpaca with our own field for the notes; the prompt is rendered from them."""
    case = row.case
    return {
        "instruction": case.question,
        "input": "",
        "output": row.answer,
        "passages": list(case.passages),
        "language": case.language,
    }


def alpaca_inline(row: Row) -> dict:
    """Plain Alpaca: the task as the instruction, the notes and the question as its input."""
    case = row.case
    notes = [f"[{n}] {text}" for n, text in enumerate(case.passages, 1)]
    words = TEMPLATES[case.language]
    told = "\n".join([words.known, *notes, words.question + case.question])
    return {"instruction": words.head, "input": told, "output": row.answer}


def prompt_of(case: Case) -> str:
    """The user message of a case."""
    return grounded(case.question, case.passages, case.language)


def sharegpt(row: Row, r: random.Random) -> dict:
    """ShareGPT; some conversations go on with a second question about the same notes."""
    case = row.case
    turns = [{"from": "human", "value": prompt_of(case)}, {"from": "gpt", "value": row.answer}]
    if case.value is not None and r.random() < SECOND_TURN:
        again = draw_again(case, r)
        if again is not None:
            turns += [{"from": "human", "value": again.question}, {"from": "gpt", "value": logged(again, r).answer}]
    return {"conversations": turns, "language": case.language}


def draw_again(case: Case, r: random.Random) -> Case | None:
    """Another question that the asked note of `case` answers."""
    e = case.entity
    held = [k for k, v in e["facts"].items() if k != case.key and v in case.passages[case.note - 1]]
    if not held:
        return None
    again = fact(e, r.choice(held), case.language, r)
    return Case(again.question, case.passages, case.language, e, again.key, again.value, case.note, (), "training")


def messages(row: Row) -> dict:
    """Chat messages, as most of today's tools store them."""
    turns = [{"role": "user", "content": prompt_of(row.case)}, {"role": "assistant", "content": row.answer}]
    return {"messages": turns, "language": row.case.language}


def completion(row: Row) -> dict:
    """A prompt and its completion."""
    return {"prompt": prompt_of(row.case), "completion": row.answer, "language": row.case.language}


def near_copy(row: dict, r: random.Random) -> dict:
    """The same Alpaca row as another export wrote it: spaces, case and punctuation differ, the facts do not."""
    copy = dict(row)
    change = r.randrange(4)
    if change == 0:
        copy["instruction"] = row["instruction"].upper() if row["language"] == "en" else row["instruction"].rstrip("？")
    elif change == 1:
        copy["output"] = " " + row["output"].replace(".", " .").replace("。", "！") + " "
    elif change == 2:
        copy["passages"] = [p.replace(". ", ".  ").replace("。", ".") + "\n" for p in row["passages"]]
    else:
        copy["instruction"] = GREETING[row["language"]] + row["instruction"]
    return copy


def greeted(case: Case) -> Case:
    """The same question, politely: no longer the evaluation's text, still its case."""
    return replace(case, question=GREETING[case.language] + case.question)


def files(r: random.Random, evaluation: Sequence[Case]) -> dict[str, list[dict]]:
    """File name below instructions/ → rows. `evaluation`: cases of which a few are leaked into the log."""
    noted, plain = draw_log(r)
    leaked = [
        logged(greeted(case) if n % 3 == 0 else case, r) for n, case in enumerate(r.sample(list(evaluation), LEAKED))
    ]
    en = [row for row in noted if row.case.language == "en"]
    zh = [row for row in noted if row.case.language == "zh"]
    handbook_en = [alpaca(row) for row in en[:1080]]
    handbook_zh = [alpaca(row) for row in zh[:440]]
    chat = en[1080:1430] + zh[440:600]
    r.shuffle(chat)
    inline = en[1430:1500]
    log = en[1500:] + zh[600:] + leaked
    r.shuffle(log)
    for rows in (handbook_en, handbook_zh):
        share = len(rows) / (len(handbook_en) + len(handbook_zh))
        extra = [dict(row) for row in r.sample(rows, round(EXACT_COPIES * share))]
        extra += [near_copy(row, r) for row in r.sample(rows, round(NEAR_COPIES * share))]
        for row in extra:
            rows.insert(r.randrange(len(rows) + 1), row)
    return {
        "handbook-en.json": handbook_en,
        "handbook-zh.jsonl": handbook_zh,
        "handbook-inline.json": [alpaca_inline(row) for row in inline],
        "chat.json": [sharegpt(row, r) for row in chat],
        "assistant-log.jsonl": [messages(row) for row in log],
        "core-facts.jsonl": [completion(row) for row in plain],
    }
