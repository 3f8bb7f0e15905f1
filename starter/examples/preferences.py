"""Prompts, and people's rankings of answers to them.

The defects come both ways, which is what a reward model needs: abstaining is the better answer where the notes are
silent and the worse one where they speak, and many pairs differ in nothing but the value. Passages are few and short,
because reward and preference training read every prompt several times.
"""

import random

from starter.examples.answers import abstention, misread, statement
from starter.examples.cases import Case, core_facts, draw, fact, made_up
from starter.examples.instructions import language, prompt_of

RANKED, PROMPTS, IMPORTED = 1600, 200, 60
OPEN, FACTS = 0.21, 0.07  # shares of the prompts that the notes leave open, and that come without notes
ANNOTATORS = [f"annotator-{n:02d}" for n in range(1, 9)]
NOISY = {"annotator-04", "annotator-07"}
FLIP, NOISY_FLIP = 0.03, 0.15  # chance that two neighbours of a ranking change places
SECOND, THIRD = 0.19, 0.03  # shares of the prompts that two and three annotators rank
WEEKS = 4
# What must be among the answers of a prompt, and how often. Names as in `answers_to`.
ANSWERABLE = [
    (5, ("right", "wrong value")),  # differ in the value only
    (4, ("unsourced", "wrong value, unsourced")),  # likewise
    (2, ("right", "made up")),
    (9, ("right", "abstains")),
    (3, ("unsourced", "abstains")),
    (1, ("verbose", "abstains")),
    (4, ("right", "unsourced")),
    (3, ("right", "verbose")),
    (2, ("right", "wrong source")),
    (3, ("verbose, unsourced", "wrong value")),  # the worse answer looks better
]
UNANSWERABLE = [
    (5, ("abstains", "guess")),
    (3, ("abstains", "guess, unsourced")),
    (2, ("abstains", "made up")),
    (3, ("abstains", "verbose abstention")),
    (2, ("verbose abstention", "guess")),
]
FACT = [(4, ("right", "made up")), (3, ("right", "abstains")), (2, ("right", "verbose"))]


def answers_to(case: Case, r: random.Random) -> dict[str, tuple[str, float]]:
    """Name → (text, how good it is) of all answers that make sense for a case."""
    fresh = made_up(case, r)
    value, at = misread(case, r)
    if case.value is None:
        return {
            "abstains": (abstention(case), 6.0),
            "verbose abstention": (abstention(case, r), 5.0),
            "guess": (statement(case, value, at), 1.0),
            "guess, unsourced": (statement(case, value), 1.0),
            "made up": (statement(case, fresh, case.note), 1.0),
        }
    found = {
        "right": (statement(case, case.value, case.note), 6.0),
        "verbose": (statement(case, case.value, case.note, r), 4.5),
        "abstains": (abstention(case), 2.0),
        "made up": (statement(case, fresh, case.note), 1.0),
    }
    if case.passages:
        found |= {
            "unsourced": (statement(case, case.value), 4.5),
            "verbose, unsourced": (statement(case, case.value, None, r), 4.0),
            "wrong value": (statement(case, value, r.choice([at, case.note])), 1.0),
            "wrong value, unsourced": (statement(case, value), 1.0),
        }
    if len(case.passages) > 1:
        found["wrong source"] = (statement(case, case.value, 3 - case.note), 3.5)
    return found


def pick(recipes: list[tuple[int, tuple[str, ...]]], pool: dict, r: random.Random) -> list[str]:
    """Two answers by a recipe that the pool can serve, and none, one or two more."""
    served = [(weight, names) for weight, names in recipes if all(n in pool for n in names)]
    names = list(r.choices([n for _, n in served], [w for w, _ in served])[0])
    others = [n for n in pool if n not in names]
    names += r.sample(others, min(len(others), r.choice([0, 0, 1, 1, 2])))
    return names


def new_case(r: random.Random) -> Case:
    """A prompt of 1 or 2 short passages, or none."""
    lang, u = language(r), r.random()
    if u < FACTS:
        return fact(*r.choice(core_facts(lang)), lang, r)
    return draw(lang, r, r.choice([1, 2, 2]), u >= FACTS + OPEN, low=2, high=3, confusable=0.85)


def answer_set(case: Case, r: random.Random) -> list[tuple[str, float]]:
    """Two to four different answers in random order, each with how good it is."""
    pool = answers_to(case, r)
    recipes = UNANSWERABLE if case.value is None else ANSWERABLE if case.passages else FACT
    texts: dict[str, float] = {}
    for name in pick(recipes, pool, r):
        text, score = pool[name]
        texts.setdefault(text, score)
    found = list(texts.items())
    r.shuffle(found)
    return found


def rank(scores: dict[str, float], annotator: str, r: random.Random) -> list[list[str]]:
    """Best first, ties share a list. Neighbours sometimes change places; ties are sometimes broken by taste."""
    groups: list[list[str]] = []
    for letter in sorted(scores, key=lambda x: -scores[x]):
        if groups and scores[groups[-1][0]] == scores[letter]:
            groups[-1].append(letter)
        else:
            groups.append([letter])
    broken: list[list[str]] = []
    for group in groups:
        r.shuffle(group)
        broken += [sorted(group)] if r.random() < 0.7 else [[x] for x in group]
    flip = NOISY_FLIP if annotator in NOISY else FLIP
    for i in range(len(broken) - 1):
        if r.random() < flip:
            broken[i], broken[i + 1] = broken[i + 1], broken[i]
    return broken


def files(r: random.Random) -> tuple[dict[str, list[dict]], list[dict]]:
    """(file name below preferences/ → rankings, rows of prompts/)."""
    seen: set[tuple] = set()

    def unseen() -> Case:
        while (case := new_case(r)).signature in seen:
            pass
        seen.add(case.signature)
        return case

    weeks: dict[str, list[dict]] = {f"week-{46 - WEEKS + n}.jsonl": [] for n in range(1, WEEKS + 1)}
    names, annotation = list(weeks), 1000
    for number in range(RANKED):
        case = unseen()
        found = answer_set(case, r)
        answers = {letter: text for letter, (text, _) in zip("ABCD", found, strict=False)}
        scores = {letter: score for letter, (_, score) in zip("ABCD", found, strict=False)}
        u = r.random()
        for who in r.sample(ANNOTATORS, 3 if u < THIRD else 2 if u < THIRD + SECOND else 1):
            annotation += r.randint(1, 3)
            row = {**case.prompt_row(f"pref-{number + 1:05d}"), "answers": answers, "ranking": rank(scores, who, r)}
            weeks[names[number * WEEKS // RANKED]].append({**row, "annotator": who, "annotation": annotation})
    imported = []
    while len(imported) < IMPORTED:
        case = unseen()
        found = sorted(answer_set(case, r), key=lambda item: -item[1])
        if found[0][1] > found[-1][1]:
            imported.append({"prompt": prompt_of(case), "chosen": found[0][0], "rejected": found[-1][0]})
    weeks["imported-pairs.jsonl"] = imported
    prompts = []
    for number in range(PROMPTS):
        prompts.append(unseen().prompt_row(f"prompt-{number + 1:04d}"))
    return weeks, prompts
