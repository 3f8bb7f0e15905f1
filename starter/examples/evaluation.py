"""The evaluation sets. Their entities' names occur in no training row; half of the wordings are held out as well."""

import random

from starter.examples.answers import abstention, misread, statement
from starter.examples.cases import Case, core_facts, draw, fact, made_up

FACTS = 320
CONTEXT = {"en": 200, "zh": 100}  # cases of each of `context` and `unanswerable`
DISTRACTORS = 4  # at most
CORRECTNESS = ("wrong value", "made up", "abstains", "guesses")  # what is wrong with the rejected answer
CORRECTNESS_EACH = {"en": 68, "zh": 32}
STYLE = ("no source", "wrong source", "verbose", "verbose abstention")
STYLE_EACH = {"en": 50, "zh": 25}


def case_row(case: Case, id_: str) -> dict:
    """One row of facts, context or unanswerable."""
    answerable = case.value is not None
    return {
        **case.prompt_row(id_),
        "answer": case.value,
        "cite": [case.note] if answerable and case.passages else [],
        "distractors": [v for v, _ in case.wrong[:DISTRACTORS]],
        "kind": case.kind,
        "wording": case.wording,
    }


def facts(r: random.Random) -> list[Case]:
    """Core facts in held-out wordings, each at least once, no prompt twice."""
    every = [(e, key, lang) for lang in ("en", "zh") for e, key in core_facts(lang)]
    again = [item for item in every if item[2] == "en"]  # Chinese has a single held-out wording
    found: dict[str, Case] = {}
    for e, key, lang in every + r.sample(again, len(again)):
        if len(found) == FACTS:
            break
        for _ in range(20):
            case = fact(e, key, lang, r, "held-out")
            if case.question not in found:
                found[case.question] = case
                break
    return list(found.values())


def noted(r: random.Random, answerable: bool) -> list[Case]:
    """Cases with 1, 2 and 3 passages in equal parts; every second wording is held out."""
    cases = []
    for lang, count in CONTEXT.items():
        for i in range(count):
            wording = "held-out" if i % 2 else "training"
            cases.append(draw(lang, r, 1 + i % 3, answerable, evaluation=True, wording=wording))
    return cases


def correctness_pair(defect: str, lang: str, i: int, r: random.Random) -> tuple[Case, str, str]:
    """(case, chosen, rejected): the rejected answer is wrong, its style is the same or better."""
    wording = "held-out" if i % 2 else "training"
    while True:
        case = draw(lang, r, r.choice([1, 2, 2]), defect != "guesses", True, wording, 2, 3, confusable=0.9)
        if case.wrong or defect in ("made up", "abstains"):
            break
    style = i % 4  # how both are said: sourced, unsourced, chatty; or the better one chatty and the worse one sourced
    chatty, note = (r, case.note) if style == 2 else (None, None if style == 1 else case.note)
    good_note, good_chatty = (None, r) if style == 3 else (note, chatty)
    if defect == "guesses":
        value, at = misread(case, r)
        return case, abstention(case, good_chatty), statement(case, value, note and at, chatty)
    chosen = statement(case, case.entity["facts"][case.key], good_note, good_chatty)
    if defect == "abstains":
        return case, chosen, abstention(case, chatty)
    value, at = misread(case, r) if defect == "wrong value" else (made_up(case, r), case.note)
    return case, chosen, statement(case, value, note and at, chatty)


def style_pair(defect: str, lang: str, i: int, r: random.Random) -> tuple[Case, str, str]:
    """(case, chosen, rejected): both are right, the chosen one is brief and names the right note."""
    wording = "held-out" if i % 2 else "training"
    if defect == "verbose abstention":
        case = draw(lang, r, r.choice([1, 2]), False, True, wording, 2, 3)
        return case, abstention(case), abstention(case, r)
    case = draw(lang, r, 2 if defect == "wrong source" else r.choice([1, 2]), True, True, wording, 2, 3)
    chosen = statement(case, case.entity["facts"][case.key], case.note)
    value = case.entity["facts"][case.key]
    rejected = {
        "no source": lambda: statement(case, value),
        "wrong source": lambda: statement(case, value, 3 - case.note),
        "verbose": lambda: statement(case, value, case.note, r),
    }[defect]()
    return case, chosen, rejected


def pairs(r: random.Random, prefix: str, make, defects: tuple[str, ...], each: dict[str, int]) -> list[dict]:
    """Rows with every defect equally often."""
    rows = []
    for lang, count in each.items():
        for i in range(count):
            for defect in defects:
                case, chosen, rejected = make(defect, lang, i, r)
                row = case.prompt_row(f"{prefix}-{lang}-{len(rows) + 1:04d}")
                rows.append({**row, "chosen": chosen, "rejected": rejected, "defect": defect})
    return rows


def build(r: random.Random) -> tuple[dict[str, list[dict]], list[Case]]:
    """File name below evaluation/ → rows (all but documents.jsonl), and the cases with notes."""
    answered, unanswered = noted(r, True), noted(r, False)
    sets = {"facts": facts(r), "context": answered, "unanswerable": unanswered}
    rows = {
        f"{name}.jsonl": [case_row(c, f"{name}-{c.language}-{n:04d}") for n, c in enumerate(cases, 1)]
        for name, cases in sets.items()
    }
    rows["pairs_correctness.jsonl"] = pairs(r, "correctness", correctness_pair, CORRECTNESS, CORRECTNESS_EACH)
    rows["pairs_style.jsonl"] = pairs(r, "style", style_pair, STYLE, STYLE_EACH)
    return rows, answered + unanswered
