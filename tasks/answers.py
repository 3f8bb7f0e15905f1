"""Answers on the team's own documents: ask the model that would be released with the passages that search has found
(stage retrieve), and judge what it says.

Each question has one document that answers it, or none. Right means the value is stated and no wrong one is; a
citation is good when the note it names comes from that document; abstaining is right exactly where no document
answers; an answer is grounded when all it claims stands in its passages (tasks/rag/groundedness.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import behaviours
from tasks.files import write_jsonl
from tasks.params import Answers, Compute, Seed
from tasks.progress import log
from tasks.rag import questions
from tasks.rag.answer import Answer, ask, load_model
from tasks.rag.groundedness import grounded
from tasks.reports import Report, Share
from tasks.stats import Mean, ratio, share


class Abstention(Report):
    """Abstaining as a decision; null where there was nothing to decide."""

    precision: Share | None = Field(
        description="of the answers that abstain, those to questions that no document answers"
    )
    recall: Share | None = Field(
        description="of the questions that no document answers, those that were abstained from"
    )


class AnswersReport(Report):
    """metrics/answers.json."""

    questions: int = Field(description="questions asked")
    top_k: int = Field(description="answers.top_k")
    right: dict[str, Share] = Field(description="answerable questions answered right: all, and by language")
    right_when_found: dict[str, Share] = Field(
        description="of those whose passages shown hold the value, the ones answered right: the model's own part"
    )
    groundedness: dict[str, Share] = Field(
        description="answers, abstentions left out, all of whose figures and answers.grounded_share of whose other content "
        "words stand in the passages shown or the question"
    )
    cites_source: dict[str, Share] = Field(
        description="answerable questions whose answer names notes, all of them from the document that answers"
    )
    citation_precision: dict[str, Mean] = Field(
        description="of all notes that answers name, those from the document that answers (n: answers that name any); a note "
        "that was not there, or where no document answers, is a wrong one"
    )
    citation_recall: dict[str, Share] = Field(
        description="answerable questions whose answer names at least one note from the document that answers"
    )
    abstains: Abstention = Field(description="abstaining, over all questions")
    invented_citations: Share | None = Field(
        description="answers that name a note that was not there; null without questions"
    )
    ended: Share | None = Field(description="answers that the model ended itself; null without questions")


def answers(
    cfg: Answers, compute: Compute, seed: Seed, passages: Path, int4: Path, evaluation: Path, out: Path
) -> AnswersReport:
    """Ask all questions of `evaluation` and write answers.jsonl.

    `passages`: passages.jsonl of stage retrieve; `int4` may be any model folder, dense ones too. Without questions the
    file is empty and every figure null or missing.
    """
    from tasks.training.hardware import set_up

    cases = questions.read_cases(evaluation)
    retrieved = questions.read_passages(passages, cases)
    if not cases:
        log(f"{evaluation} has no questions: nothing is asked")
        write_jsonl(out / "answers.jsonl", [])
        return summarize([], cfg.top_k, seed.value)
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value)
    model, tokenizer = load_model(int4, compute)
    given = ask(
        model,
        tokenizer,
        [case["question"] for case in cases],
        retrieved,
        headings=cfg.headings,
        max_new_tokens=cfg.max_new_tokens,
        batch_size=cfg.batch_size,
    )
    rows = [judge(cfg, case, answer) for case, answer in zip(cases, given, strict=True)]
    write_jsonl(out / "answers.jsonl", ({k: v for k, v in row.items() if not k.startswith("_")} for row in rows))
    report = summarize(rows, cfg.top_k, seed.value)
    log(
        f"{len(cases)} questions; right {report.right['all'].share:.1%}, cites its source "
        f"{report.cites_source['all'].share:.1%}"
    )
    return report


def judge(cfg: Answers, case: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """A row of answers.jsonl; keys with an underscore are for the report only."""
    answerable, abstains = case["answer"] is not None, behaviours.abstains(answer.text)
    notes = [hit.chunk.note(cfg.headings) for hit in answer.shown]
    good = sum(hit.chunk.source == case["source"] for hit in answer.cited)
    return {
        "id": case["id"],
        "question": case["question"],
        "retrieved": [hit.chunk.id for hit in answer.shown],
        "sources": [hit.chunk.source for hit in answer.shown],
        "answer": answer.text,
        "right": behaviours.right(answer.text, case) if answerable else None,
        "cites": cites_source(case, answer) if answerable else None,
        "abstains": abstains,
        "grounded": None if abstains else grounded(answer.text, case["question"], notes, cfg.grounded_share),
        "language": case["language"],
        "_found": questions.found(case, answer.shown) if answerable else None,
        "_cited": len(answer.cited) + len(answer.invented),
        "_good": good,
        "_recalled": good > 0 if answerable else None,
        "_invented": bool(answer.invented),
        "_ended": answer.ended,
    }


def cites_source(case: Mapping[str, Any], answer: Answer) -> bool:
    """At least one note is named, all that are named were there, and all come from the document that answers."""
    return bool(answer.cited) and not answer.invented and all(h.chunk.source == case["source"] for h in answer.cited)


def summarize(rows: Sequence[Mapping[str, Any]], top_k: int, seed: int) -> AnswersReport:
    """The figures of all judged rows."""
    unanswerable = [row for row in rows if row["right"] is None]
    abstained = [row for row in rows if row["abstains"]]
    citing: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        for language in ("all", row["language"]) if row["_cited"] else ():
            citing.setdefault(language, []).append(row)
    return AnswersReport(
        questions=len(rows),
        top_k=top_k,
        right=behaviours.by_language(rows, "right"),
        right_when_found=behaviours.by_language([row for row in rows if row["_found"]], "right"),
        groundedness=behaviours.by_language(rows, "grounded"),
        cites_source=behaviours.by_language(rows, "cites"),
        citation_precision={
            language: ratio([row["_good"] for row in group], [row["_cited"] for row in group], seed)
            for language, group in sorted(citing.items())
        },
        citation_recall=behaviours.by_language(rows, "_recalled"),
        abstains=Abstention(
            precision=share([row["right"] is None for row in abstained]) if abstained else None,
            recall=share([row["abstains"] for row in unanswerable]) if unanswerable else None,
        ),
        invented_citations=share([row["_invented"] for row in rows]) if rows else None,
        ended=share([row["_ended"] for row in rows]) if rows else None,
    )
