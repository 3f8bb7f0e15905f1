"""Raw data as tables, one row of a table for one row of a file: the columns that the expectations speak of.

Anything an expectation cannot see by itself is computed here as a column, such as whether a prompt stands in an
evaluation set as well. `where` names the row; a row that could not be read has its `problem` and nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import behaviours
from tasks.duplicates import folded, questions
from tasks.errors import DataError
from tasks.files import sha256_file
from tasks.formats import (
    Case,
    Instruction,
    Problem,
    Prompt,
    Ranking,
    Read,
    read_evaluation,
    read_instructions,
    read_preferences,
    read_prompts,
)
from tasks.formats.evaluation import ANSWER_SETS, DOCUMENT_SET, PAIR_SETS
from tasks.formats.rows import Message, control, fingerprint

if TYPE_CHECKING:
    import pandas

Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Raw:
    """All raw data, read once."""

    folder: Path
    instructions: Read[Instruction]
    preferences: Read[Ranking]
    prompts: Read[Prompt]
    evaluation: Read[Case]


def read(data: Path) -> Raw:
    """Read data/; what is missing has no rows."""
    return Raw(
        data,
        read_instructions(data / "instructions"),
        read_preferences(data / "preferences"),
        read_prompts(data / "prompts"),
        read_evaluation(data / "evaluation"),
    )


def tables(raw: Raw, max_bytes: int, max_seconds: int) -> dict[str, Table]:
    """Kind → rows with the columns of that kind."""
    kinds = ("instructions", "preferences", "prompts", "evaluation")
    return {kind: table(kind, raw) for kind in kinds} | {"documents": documents(raw.folder / "documents", max_bytes, max_seconds)}


def table(kind: str, raw: Raw) -> Table:
    """Rows of one kind, documents excepted."""
    if kind == "evaluation":
        return _evaluation(raw.evaluation, raw.folder)
    held_out = {q for case in raw.evaluation.rows for q in questions(case.messages)}
    make = {"instructions": _instructions, "preferences": _preferences, "prompts": _prompts}[kind]
    return make(getattr(raw, kind), held_out)


def frame(table: Table) -> pandas.DataFrame:
    """A data frame whose columns hold plain objects: an absent value is None, never NaN."""
    import pandas

    columns = list(dict.fromkeys(key for row in table for key in row))
    return pandas.DataFrame({c: pandas.Series([row.get(c) for row in table], dtype=object) for c in columns})


def _problems(problems: list[Problem]) -> Table:
    """A row for each problem; a file that is lost whole has a column of its own: it is more than one bad row."""
    said = [("file_problem" if p.whole_file else "problem", p) for p in problems]
    return [{"where": p.where, column: f"{p.what}; {p.remedy}"} for column, p in said]


def _given_id(id_: str, messages: list[Message]) -> str | None:
    """The row's own id; None where it was made from the text."""
    return None if id_ == fingerprint(messages) else id_


def _common(row: Instruction | Ranking | Prompt | Case) -> dict[str, Any]:
    return {
        "where": row.source,
        "problem": None,
        "file_problem": None,
        "language": row.language,
        "id": _given_id(row.id, row.messages),
    }


def _instructions(read: Read[Instruction], held_out: set[str]) -> Table:
    table, seen = [], set()
    for row in read.rows:
        texts, key = [m["content"] for m in row.messages], folded(row.messages)
        table.append(
            {
                **_common(row),
                "form": row.form,
                "roles": " ".join(m["role"] for m in row.messages),
                "prompt_characters": sum(map(len, texts[:-1])),
                "answer_characters": len(texts[-1]),
                "shortest_message": min(map(len, texts)),
                "control_characters": control(texts),
                "duplicate": key in seen,
                "in_evaluation": any(q in held_out for q in questions(row.messages)),
            }
        )
        seen.add(key)
    return table + _problems(read.problems)


def _preferences(read: Read[Ranking], held_out: set[str]) -> Table:
    table = []
    for row in read.rows:
        answers = list(row.answers.values())
        lengths = [len(a) for a in answers] or [0]
        table.append(
            {
                **_common(row),
                "said": None if row.skipped else row.source,
                "form": row.form,
                "annotator": row.annotator,
                "annotation": None if row.annotation is None else str(row.annotation),
                "judgement": _judgement(row),
                "prompt_characters": sum(len(m["content"]) for m in row.messages),
                "shortest_answer": min(lengths),
                "longest_answer": max(lengths),
                "answers": len(answers),
                "different_answers": len(set(answers)),
                "letters": " ".join(sorted(row.answers)),
                "ranked_letters": " ".join(sorted(letter for group in row.ranking for letter in group)) if row.ranking else None,
                "control_characters": control([*answers, *(m["content"] for m in row.messages)]),
                "in_evaluation": any(q in held_out for q in questions(row.messages)),
            }
        )
    return table + _problems(read.problems)


def _judgement(row: Ranking) -> str | None:
    """Who judged which answers to which prompt: on another night the same prompt comes with other answers."""
    id_ = _given_id(row.id, row.messages)
    if not id_ or row.form != "rankings" or row.skipped:
        return None
    shown = hashlib.sha256("\0".join(sorted(row.answers.values())).encode()).hexdigest()[:16]
    return f"{id_} by {row.annotator} of {shown}"


def _prompts(read: Read[Prompt], held_out: set[str]) -> Table:
    table, seen = [], set()
    for row in read.rows:
        key = folded(row.messages)
        table.append(
            {
                **_common(row),
                "prompt_characters": sum(len(m["content"]) for m in row.messages),
                "control_characters": control([*row.answers, *(m["content"] for m in row.messages)]),
                "duplicate": key in seen,
                "in_evaluation": any(q in held_out for q in questions(row.messages)),
            }
        )
        seen.add(key)
    return table + _problems(read.problems)


def _evaluation(read: Read[Case], data: Path) -> Table:
    table = []
    for case in read.rows:
        f = case.fields
        answers = [f[k] for k in ("answer", "chosen", "rejected") if f.get(k) is not None]
        table.append(
            {
                **_common(case),
                "set": case.set,
                "prompt_characters": sum(len(m["content"]) for m in case.messages),
                "shortest_answer": min(map(len, answers)) if answers else None,
                "control_characters": control([*answers, *(m["content"] for m in case.messages)]),
                "answers_differ": f["chosen"] != f["rejected"] if case.set in PAIR_SETS else None,
                "answer_as_meant": (f["answer"] is None) == (case.set == "unanswerable")
                if case.set in ANSWER_SETS
                else None,
                "cited_note_answers": _cited(case),
                "distractor_is_answer": _distracted(case),
                "source_exists": (data / f["source"]).is_file() if case.set == DOCUMENT_SET and f["source"] else None,
            }
        )
    return table + _problems(read.problems)


def _cited(case: Case) -> bool | None:
    """Whether each cited note holds the answer; None where nothing is cited."""
    if not case.fields.get("cite") or not case.fields.get("answer"):
        return None
    answer = case.fields["answer"]
    notes = [case.passages[n - 1] if 1 <= n <= len(case.passages) else "" for n in case.fields["cite"]]
    return all(behaviours.found(note, [answer]) for note in notes)


def _distracted(case: Case) -> bool | None:
    """Whether a distractor equals the answer, so that no answer could be right; None where there is no answer."""
    if not case.fields.get("answer"):
        return None
    return behaviours.fold(case.fields["answer"]) in {behaviours.fold(d) for d in case.fields["distractors"]}


def documents(folder: Path, max_bytes: int, max_seconds: int) -> Table:
    """One row a file. The text is what the loaders of the embed stage get out of it."""
    from tasks.rag.loaders import KNOWN, Unreadable, files
    from tasks.rag.loaders.reader import Reader

    found = files(folder) if folder.is_dir() else []
    if not found:
        raise DataError(str(folder), "holds no documents", f"put files there: {KNOWN}")
    table, seen = [], set()
    with Reader(max_bytes, max_seconds) as reader:
        for path, where in found:
            row = {"where": where, "problem": None, "suffix": path.suffix.lower(), "bytes": path.stat().st_size}
            try:
                row["characters"] = sum(len(page.text) for page in reader.load(path, where).pages)
            except Unreadable as reason:
                row["problem"] = f"cannot be read ({reason})"
            digest = sha256_file(path)
            row["duplicate"] = digest in seen
            seen.add(digest)
            table.append(row)
    return table
