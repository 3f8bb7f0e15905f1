"""Which answers the page shows, and how a prompt is taken apart again to show them.

The rule: within each set and language the cases are ordered by the SHA-256 of their id, an order that nobody chose and
that stays the same from night to night. From it come the first `report.samples` cases that the model to be released
answers as wanted and the first as many that it does not. Wrong answers have the same number of places as right ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tasks.errors import DataError
from tasks.rag.prompt import TEMPLATES
from tasks.reporting.parts import Answer, Sample
from tasks.reporting.reading import REMEDY

NAMES = {"base": "base", "sft": "SFT", "aligned": "aligned"}
LANGUAGES = {"en": "English", "zh": "Chinese"}


def order(rows: Iterable[dict]) -> list[dict]:
    """Rows by the SHA-256 of their id."""
    return sorted(rows, key=lambda row: (hashlib.sha256(row["id"].encode()).hexdigest(), row["id"]))


def pick(rows: Iterable[dict], good: Callable[[dict], bool], each: int) -> list[dict]:
    """The first `each` good rows and the first `each` others, in the order of `order`, good ones first."""
    ordered = order(rows)
    return [row for row in ordered if good(row)][:each] + [row for row in ordered if not good(row)][:each]


def take_apart(prompt: str) -> tuple[str, list[str]]:
    """The inverse of tasks.rag.prompt.grounded for display: (question, notes). Anything else is a bare question.

    A note may have several lines; it ends where the next number begins.
    """
    for words in TEMPLATES.values():
        above = f"{words.head}\n{words.known}\n"
        body, found, question = prompt.removeprefix(above).rpartition(f"\n{words.question}")
        if found and prompt.startswith(above) and body.startswith("[1] "):
            notes: list[str] = []
            for line in body.split("\n"):
                mark = f"[{len(notes) + 1}] "
                if line.startswith(mark):
                    notes.append(line.removeprefix(mark))
                else:
                    notes[-1] += "\n" + line
            return question, notes
    return prompt, []


def cut(text: str, characters: int) -> str:
    """Text of at most `characters` characters; the end of a longer one is replaced by …"""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def as_wanted(row: dict) -> bool:
    """Right where the notes or the training say it; abstaining where nothing does."""
    return bool(row["abstains"]) if row["right"] is None else bool(row["right"])


def verdict(row: dict) -> str:
    """What an answer does, in words, the deciding one first."""
    words = (
        ["abstains" if row["abstains"] else "guesses"]
        if row["right"] is None
        else ["right" if row["right"] else "wrong"]
    )
    if row["right"] is not None and row["abstains"]:
        words.append("abstains")
    if row.get("cites") is not None:
        words.append("cites" if row["cites"] else "source missing or wrong")
    if row.get("grounded") is False:
        words.append("not all of it stands in the passages")
    if not row.get("concise", True):
        words.append("not concise")
    return ", ".join(words)


def user_text(messages: Sequence[dict]) -> str:
    """The text of the last user message."""
    return next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")


def complete(path: Path, rows: Sequence[dict], keys: Iterable[str]) -> None:
    """DataError that names file, row and key where a row lacks one of the keys."""
    for row in rows:
        for key in keys:
            if key not in row:
                raise DataError(f"{path}: {row.get('id', 'a line without id')}", f"has no '{key}'", REMEDY)


def behaviour(
    path: Path,
    rows: Sequence[dict],
    cases: dict[tuple[str, str], dict],
    sets: Sequence[str],
    each: int,
    characters: int,
) -> list[Sample]:
    """Samples of artifacts/evaluation/answers.jsonl: one question, the answers of all models beside each other.

    `rows` are its lines, `cases` (set, id) → evaluation row (question and wanted answer), `sets` the order of sets.
    """
    complete(
        path, rows, ("model", "set", "id", "language", "prompt", "answer", "right", "abstains", "cites", "concise")
    )
    answers: dict[tuple[str, str], dict[str, dict]] = {}
    for row in rows:
        key = (row["set"], row["id"])
        answers.setdefault(key, {})[row["model"]] = row
    samples = []
    for name in sets:
        for language in LANGUAGES:
            judged = [
                models["aligned"]
                for (of, _), models in sorted(answers.items())
                if of == name and "aligned" in models and models["aligned"]["language"] == language
            ]
            for row in pick(judged, as_wanted, each):
                case, said = cases.get((name, row["id"])), answers[name, row["id"]]
                question, notes = take_apart(user_text(case["messages"]) if case else row["prompt"])
                wanted = "unknown" if case is None else case["answer"] or "to say that the notes do not say"
                samples.append(
                    Sample(
                        heading=f"{name} · {LANGUAGES[language]} · {row['id']}",
                        language=language,
                        question=cut(question, characters),
                        notes=[cut(note, characters) for note in notes],
                        wanted=wanted,
                        answers=[answer(NAMES[model], said[model], characters) for model in NAMES if model in said],
                    )
                )
    return samples


def answer(name: str, row: dict, characters: int) -> Answer:
    """One model's answer with its verdicts."""
    return Answer(name, cut(row["answer"], characters), verdict(row), as_wanted(row))


def references(path: Path, rows: Sequence[dict], each: int, characters: int) -> list[Sample]:
    """Samples of artifacts/evaluation/references.jsonl: held-out instructions, the log's answer and the models' own.

    In each language the first `each` whose aligned answer is nearer to the log's than the base's is, and as many others.
    """
    complete(path, rows, ("model", "id", "language", "prompt", "answer", "reference", "chrf", "ended"))
    answers: dict[str, dict[str, dict]] = {}
    for row in rows:
        answers.setdefault(row["id"], {})[row["model"]] = row

    def nearer(row: dict) -> bool:
        return row["chrf"] > answers[row["id"]]["base"]["chrf"]

    samples = []
    for language, name in LANGUAGES.items():
        for row in pick([m["aligned"] for m in answers.values() if m["aligned"]["language"] == language], nearer, each):
            said = answers[row["id"]]
            shown = [
                Answer(
                    NAMES[model],
                    cut(said[model]["answer"], characters),
                    f"chrF {said[model]['chrf']:.2f}" + ("" if said[model]["ended"] else ", cut"),
                    said[model]["ended"] if model == "base" else nearer(said[model]),
                )
                for model in NAMES
            ]
            question, notes = take_apart(row["prompt"])
            samples.append(
                Sample(
                    heading=f"instructions · {name} · {row['id']}",
                    language=language,
                    question=cut(question, characters),
                    notes=[cut(note, characters) for note in notes],
                    wanted=cut(row["reference"], characters),
                    answers=shown,
                )
            )
    return samples
