"""Evaluation sets: cases with an answer (facts, context, unanswerable, documents) and pairs with a defect."""

from __future__ import annotations

from typing import Any

from tasks.formats.rows import BadRow, Case, identity, language, question, text, texts

ANSWER_SETS = ("facts", "context", "unanswerable")
PAIR_SETS = ("pairs_correctness", "pairs_style")
DOCUMENT_SET = "documents"
SETS = (*ANSWER_SETS, *PAIR_SETS, DOCUMENT_SET)


def read(row: dict[str, Any], where: str, name: str) -> Case:
    """A row of the set `name`."""
    messages, passages = question(row), texts(row, "passages")
    fields: dict[str, Any]
    if name in PAIR_SETS:
        fields = {key: text(row, key) for key in ("chosen", "rejected", "defect")}
    else:
        answer = None if row.get("answer") is None else text(row, "answer")
        if "answer" not in row:
            raise BadRow("'answer' is missing", "give the value, or null where the notes do not say it")
        fields = {"answer": answer, "distractors": texts(row, "distractors")}
        if name == DOCUMENT_SET:
            fields["source"] = None if row.get("source") is None else text(row, "source")
        else:
            fields |= {"cite": _cite(row), "kind": text(row, "kind", "")}
    return Case(name, identity(row, messages), messages, passages, language(row, text(row, "question")), where, fields)


def _cite(row: dict[str, Any]) -> list[int]:
    """The numbers of the notes that hold the answer."""
    cite = row.get("cite", [])
    if not isinstance(cite, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in cite):
        raise BadRow("'cite' is not a list of note numbers", "write it as [1], or [] where nothing is cited")
    return cite
