"""What must not be learned from: refused, too long, in the evaluation, or said before.

Kept rows stay in their order, and of copies the first stays. Each row left out is noted with the reason.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from tasks.duplicates import NearDuplicates, questions
from tasks.formats import Case, Instruction, Prompt, Ranking
from tasks.formats.rows import FEEDBACK, fingerprint
from tasks.params import Prepare
from tasks.progress import bar

Row = Instruction | Ranking | Prompt
T = TypeVar("T", Instruction, Ranking, Prompt, Case)


class Dropped:
    """What is left out, in order, with the reason's kind (for counting) and its detail."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str | None]] = []
        self.counts: Counter[str] = Counter()

    def add(self, source: str, id_: str | None, kind: str, detail: str = "") -> None:
        """`kind` "exact duplicate of" with `detail` "a.jsonl:3" is told as both."""
        self.rows.append({"source": source, "id": id_, "reason": f"{kind} {detail}".rstrip()})
        self.counts[kind.removesuffix(" of")] += 1


class Few:
    """Keeps at most so many questions, drawn by a hash of the seed and the text: new rows never move old ones."""

    def __init__(self, seed: int, dropped: Dropped) -> None:
        self.seed, self.dropped = seed, dropped

    def __call__(self, rows: list[T], most: int | None, name: str) -> list[T]:
        """The rows of `most` different prompts, in their order; the others are noted as over the parameter `name`."""
        drawn = {self._draw(row) for row in rows}
        kept = set(sorted(drawn)[:most])
        for row in rows:
            if self._draw(row) not in kept:
                self.dropped.add(row.source, row.id, f"over {name}")
        return [row for row in rows if self._draw(row) in kept]

    def _draw(self, row: Row | Case) -> str:
        prompt = row.messages[:-1] if isinstance(row, Instruction) else row.messages
        told = fingerprint(prompt)
        return hashlib.sha256(f"{self.seed}\0{told}".encode()).hexdigest()


def unsettled(prompts: Sequence[Prompt], judged: Sequence[Ranking]) -> list[Prompt]:
    """The prompts, of which those that users sent back stay first in line until somebody has judged what was answered.

    After that they are prompts like others: the answers drawn beside it are new each night, so it would be asked for ever.
    """
    told = {(fingerprint(r.messages), answer) for r in judged if not r.skipped for answer in (*r.answers.values(), None)}
    out = []
    for row in prompts:
        asked = fingerprint(row.messages)
        left = tuple(answer for answer in row.answers if (asked, answer) not in told)
        settled = row.origin == FEEDBACK and not left and (asked, None) in told
        out.append(replace(row, answers=left, origin=None if settled else row.origin))
    return out


class Sift:
    """Leaves out rows that were refused, are too long, stand in the evaluation, or say what another row says, and those of
    annotators who have withdrawn."""

    def __init__(self, cfg: Prepare, refused: dict[str, str], cases: Sequence[Case], dropped: Dropped,
                 withdrawn: frozenset[str] = frozenset()) -> None:
        self.cfg, self.refused, self.dropped, self.withdrawn = cfg, refused, dropped, withdrawn
        self.evaluation = NearDuplicates(cfg.similarity, cfg.added_words)
        self.exact: dict[str, str] = {}
        for case in bar(cases, "evaluation prompts"):
            (asked,) = questions(case.messages)
            if asked not in self.exact:
                self.exact[asked] = case.id
                self.evaluation.add(case.id, asked)

    def keeps(self, row: Row, answers: Sequence[str]) -> bool:
        """Whether the row stays; otherwise it is noted in `dropped`."""
        prompt = row.messages[:-1] if isinstance(row, Instruction) else row.messages
        reason = None
        if row.source in self.refused:
            reason = ("refused:", self.refused[row.source])
        elif getattr(row, "annotator", None) in self.withdrawn:
            reason = ("annotator withdrawn", "")
        elif sum(len(m["content"]) for m in prompt) > self.cfg.max_prompt_characters:
            reason = ("prompt longer than prepare.max_prompt_characters", "")
        elif max(map(len, answers), default=0) > self.cfg.max_answer_characters:
            reason = ("answer longer than prepare.max_answer_characters", "")
        else:
            for asked in questions(row.messages):
                case = self.exact.get(asked) or self.evaluation.find(asked)
                if case:
                    reason = ("overlaps evaluation case", case)
                    break
        if reason:
            self.dropped.add(row.source, row.id, *reason)
        return reason is None

    def distinct(self, rows: Sequence[Instruction] | Sequence[Prompt], title: str) -> list[Instruction] | list[Prompt]:
        """Rows without refused ones and copies. Two rows that share an id by accident get different ones."""
        seen: dict[str, str] = {}
        near = NearDuplicates(self.cfg.similarity, self.cfg.added_words)
        kept, ids = [], set()
        for row in bar(rows, title):
            said = row.messages
            if not self.keeps(row, [m["content"] for m in said if m["role"] == "assistant"]):
                continue
            key, text = fingerprint(said), "\n".join(f"{m['role']} {m['content']}" for m in said)
            if key in seen:
                self.dropped.add(row.source, row.id, "exact duplicate of", seen[key])
                continue
            twin = near.add(row.source, text)
            if twin:
                self.dropped.add(row.source, row.id, "near duplicate of", twin)
                continue
            seen[key] = row.source
            kept.append(replace(row, id=f"{row.id}.{key[:8]}") if row.id in ids else row)
            ids.add(row.id)
        return kept

    def prompts(self, rows: Sequence[Prompt]) -> list[Prompt]:
        """`distinct` prompts, those that users sent back first: a copy of theirs must not take their place. What they were
        not content with is gathered from all copies of a prompt, but for empty answers and such as are too long."""
        given: dict[str, dict[str, None]] = {fingerprint(row.messages): {} for row in rows}
        for row in rows:
            if row.source not in self.refused:
                fit = (answer for answer in row.answers if 0 < len(answer) <= self.cfg.max_answer_characters)
                given[fingerprint(row.messages)].update(dict.fromkeys(fit))
        ordered = sorted(rows, key=lambda row: row.origin != FEEDBACK)
        kept = self.distinct(ordered, "prompts")
        return [replace(row, answers=tuple(given[fingerprint(row.messages)])) for row in kept]

    def judgements(self, rows: Sequence[Ranking]) -> list[Ranking]:
        """Rankings without refused ones and without the same judgement twice. Different people's are no copies.

        Of copies the one that was said last stays, in the first one's place: it may have to outweigh one said between.
        """
        seen: dict[tuple, Ranking] = {}
        for row in bar(rows, "preferences"):
            if not self.keeps(row, list(row.answers.values())):
                continue
            texts = tuple(tuple(sorted(row.answers[letter] for letter in group)) for group in row.ranking)
            asked = fingerprint(row.messages), tuple(sorted(row.answers.values()))
            key = (*asked, texts, row.annotator, row.skipped, tuple(sorted(row.flags)))
            stays, goes = (row, seen[key]) if key in seen and row.updated > seen[key].updated else (seen.get(key, row), row)
            if key in seen:
                self.dropped.add(goes.source, goes.id, "exact duplicate of", stays.source)
            seen[key] = stays
        return list(seen.values())
