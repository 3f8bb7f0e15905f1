"""Made-up judgements and picks: people who mostly agree, one who does not, one who hurries; and hostile texts."""

from __future__ import annotations

import random

from tasks.formats.rows import Ranking, user
from tests.data_fixtures import TOWNS

SCRIPT = '<script>alert("annotator")</script>'
PEOPLE = ("ann-3f1c0a9d2b7e", "ann-8d0e7f6a5b4c", "ann-0b9a8c7d6e5f", f"Bob {SCRIPT}")


def judged(
    prompt: str,
    answers: list[str],
    order: list[list[int]],
    who: str = "ann-1",
    *,
    annotation: int | str | None = None,
    language: str = "en",
    **fields: object,
) -> Ranking:
    """A ranking of `answers`; `order` has their numbers, best first."""
    letters = "ABCD"
    return Ranking("p", user(prompt), dict(zip(letters, answers, strict=False)), [[letters[n] for n in group] for group in order],
                   who, annotation, language, "preferences/x.jsonl:1", "rankings", **fields)


def many(count: int = 120) -> list[Ranking]:
    """Judgements of three answers to `count` prompts by two of four people each; the last one hurries and orders at random."""
    draw = random.Random(3)
    found = []
    for n in range(count):
        language = "zh" if n % 3 == 0 else "en"
        asked = f"{TOWNS[n % 12]}店{n}号几点开门？" if language == "zh" else f"When does store {n} of {TOWNS[n % 12]} open?"
        answers = [f"It opens at {n % 12}:30. [1]", f"It opens at {n % 12}:30.", "Well, as you are asking, the notes do not say."]
        for who in draw.sample(range(4), 2):
            good = who != 3 and draw.random() < 0.85
            order = [[0], [1], [2]] if good else draw.choice([[[2], [1], [0]], [[0, 1], [2]], [[1], [0], [2]]])
            skipped, flags = draw.random() < 0.03, ("unsafe",) if draw.random() < 0.02 else ()
            found.append(judged(
                asked, answers, [] if skipped else order, PEOPLE[who], annotation=1000 + len(found), language=language,
                skipped=skipped, flags=flags, letters_shown=True, reasons=("honest",) if draw.random() < 0.5 else (),
                seconds=0.4 if who == 3 and draw.random() < 0.2 else round(draw.lognormvariate(3, 0.4), 1)))
    return found


def picked(count: int = 150) -> list[dict]:
    """Rows of artifacts/selected/selected.jsonl: the first three were sent back by users, of the others chance has a fifth."""
    draw = random.Random(4)
    rows = []
    for n in range(count):
        language = "zh" if n % 4 == 1 else "en"
        sure, apart = round(0.5 + 0.5 * draw.random() ** 2, 6), round(draw.random(), 6)
        rows.append({
            "id": f"prompt-{n}", "language": language, "messages": user(f"{TOWNS[n % 12]} {n}? {SCRIPT}"),
            "answers": [f"It opens at {n % 12}:30. [1]", f"It may be {SCRIPT} later."],
            "rewards": [round(draw.gauss(0, 1), 6), round(draw.gauss(0, 1), 6)], "sureness": sure, "difference": apart,
            "score": round(apart * (1 - (2 * sure - 1) ** 2), 6), "model": "sft-0123456789ab",
            "why": "feedback" if n < 3 else "random" if n % 5 == 2 else "uncertain"})
    return rows
