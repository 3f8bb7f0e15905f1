"""Rankings: {"question", "passages", "answers": {"A": …}, "ranking": [["B"], ["A", "C"]], "annotator", …}.

The prompt may be given as `messages` instead. What a labelling tool knows besides is kept where it is there: `skipped`
(then the ranking is empty), `seconds`, `order` (place shown → place sampled: the letters are then those that were seen),
`flags`, `reasons`, and when it was said, `updated`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from tasks.formats.messages import asked, first_user
from tasks.formats.rows import BadRow, Ranking, annotation, clean, identity, language, text, texts

KEYS = {"answers", "ranking"}


def read(row: dict[str, Any], where: str) -> Ranking:
    """Best first; a tie shares a list, and a bare letter stands for a list of one."""
    messages = asked(row)
    answers = row["answers"]
    if not isinstance(answers, dict) or not all(isinstance(a, str) for a in answers.values()):
        raise BadRow("'answers' is not an object of texts", 'write it as {"A": "…", "B": "…"}, or drop the row')
    flags, skipped = tuple(texts(row, "flags")), row.get("skipped") or False
    if not isinstance(skipped, bool) or (skipped and row["ranking"]):
        raise BadRow("'skipped' is not true or false, or there is a ranking too", "a skipped row has an empty ranking")
    return Ranking(
        identity(row, messages),
        messages,
        {k: clean(v) for k, v in answers.items()},
        _groups(row["ranking"], may_be_empty=skipped or bool(flags)),
        text(row, "annotator"),
        annotation(row),
        language(row, text(row, "question", "") or first_user(messages)),
        where,
        "rankings",
        skipped,
        _seconds(row),
        _shown(row, len(answers)),
        flags,
        tuple(texts(row, "reasons")),
        _moment(row),
    )


def _groups(ranking: object, *, may_be_empty: bool) -> list[list[str]]:
    """The ranking as lists of letters."""
    if ranking == [] and may_be_empty:
        return []
    if not isinstance(ranking, list) or not ranking:
        raise BadRow("'ranking' is not a list", 'write it best first, as [["B"], ["A", "C"]], or drop the row')
    groups = [[g] if isinstance(g, str) else g for g in ranking]
    if not all(isinstance(g, list) and g and all(isinstance(letter, str) for letter in g) for g in groups):
        raise BadRow("'ranking' holds something that is no answer's letter", 'write it as [["B"], ["A", "C"]]')
    return groups


def _seconds(row: dict[str, Any]) -> float | None:
    """The time that the annotator took."""
    value = row.get("seconds")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise BadRow("'seconds' is not a number of seconds", "write it as 12.5, or leave it out")
    return float(value)


def _shown(row: dict[str, Any], count: int) -> bool:
    """Whether the row tells that A was shown first, B second, …"""
    order = row.get("order")
    if order is None:
        return False
    if not isinstance(order, list) or any(type(n) is not int for n in order) or sorted(order) != list(range(count)):
        raise BadRow("'order' is not a permutation of the answers", "write it as [1, 0] for two answers, or leave it out")
    return True


def _moment(row: dict[str, Any]) -> str:
    """When it was said, written so that texts compare as moments do; "" where the row does not tell."""
    told = text(row, "updated", "")
    if not told:
        return ""
    try:
        moment = datetime.fromisoformat(told)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRow(f"'updated' is no moment ({told[:40]!r})", "write it as 2026-11-24T03:10:00Z, or leave it out") from None
    return moment.isoformat(timespec="microseconds")
