"""Rankings: {"question", "passages", "answers": {"A": …}, "ranking": [["B"], ["A", "C"]], "annotator", …}."""

from __future__ import annotations

from typing import Any

from tasks.formats.rows import BadRow, Ranking, clean, identity, language, question, text

KEYS = {"answers", "ranking"}


def read(row: dict[str, Any], where: str) -> Ranking:
    """Best first; a tie shares a list, and a bare letter stands for a list of one."""
    messages = question(row)
    answers = row["answers"]
    if not isinstance(answers, dict) or not all(isinstance(a, str) for a in answers.values()):
        raise BadRow("'answers' is not an object of texts", 'write it as {"A": "…", "B": "…"}, or drop the row')
    annotation = row.get("annotation")
    if annotation is not None and (isinstance(annotation, bool) or not isinstance(annotation, int | str)):
        raise BadRow("'annotation' is neither a number nor a text", "give it the annotation's id, or drop the row")
    return Ranking(
        identity(row, messages),
        messages,
        {k: clean(v) for k, v in answers.items()},
        _groups(row["ranking"]),
        text(row, "annotator"),
        annotation,
        language(row, text(row, "question")),
        where,
        "rankings",
    )


def _groups(ranking: object) -> list[list[str]]:
    """The ranking as lists of letters."""
    if not isinstance(ranking, list) or not ranking:
        raise BadRow("'ranking' is not a list", 'write it best first, as [["B"], ["A", "C"]], or drop the row')
    groups = [[g] if isinstance(g, str) else g for g in ranking]
    if not all(isinstance(g, list) and g and all(isinstance(letter, str) for letter in g) for g in groups):
        raise BadRow("'ranking' holds something that is no answer's letter", 'write it as [["B"], ["A", "C"]]')
    return groups
