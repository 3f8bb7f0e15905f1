"""The whole chain on the team's own documents: retrieve, ask the model that would be released, judge its answers.

Each question has one document that answers it, or none. Right means the value is stated and no wrong one is; a
citation is good when every note it names comes from that document; abstaining is right exactly where no document
answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field

from tasks import behaviours
from tasks.errors import DataError
from tasks.files import read_jsonl, write_jsonl
from tasks.params import Answers, Compute, Index, Seed
from tasks.progress import log
from tasks.rag.answer import Answer, ask, load_model
from tasks.rag.retrieve import MODES, Retriever, ndcg, recall, reciprocal_rank, sources
from tasks.rag.stores import Hit
from tasks.reports import Report, Share
from tasks.stats import share

FIELDS = {"id", "question", "answer", "distractors", "source", "language"}


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
    cites_source: dict[str, Share] = Field(
        description="answerable questions whose answer names notes, all of them from the document that answers"
    )
    grounded: dict[str, Share] = Field(description="answerable questions of whose passages one holds the value")
    right_when_grounded: dict[str, Share] = Field(description="of those, the ones answered right: the model's own part")
    abstains: Abstention = Field(description="abstaining, over all questions")
    invented_citations: Share | None = Field(
        description="answers that name a note that was not there; null without questions"
    )
    ended: Share | None = Field(description="answers that the model ended itself; null without questions")
    retrieval: dict[str, dict[str, float]] = Field(
        description="dense, sparse, hybrid → recall@k, mrr and ndcg over documents, answerable questions"
    )


def answers(
    cfg: Answers,
    where: Index,
    compute: Compute,
    seed: Seed,
    index: Path,
    embedded: Path,
    starter: Path,
    int4: Path,
    evaluation: Path,
    out: Path,
) -> AnswersReport:
    """Ask all questions of `evaluation` and write answers.jsonl. `int4` may be any model folder, dense ones too.

    Without questions the file is empty and every figure null or missing.
    """
    from tasks.training.models import set_up

    cases = read_cases(evaluation)
    if not cases:
        log(f"{evaluation} has no questions: nothing is asked of the index")
        write_jsonl(out / "answers.jsonl", [])
        return summarize([], cfg.top_k, {})
    set_up(compute, seed.value)
    retriever = Retriever.open(index, embedded, starter, compute, where)
    known = {case["source"] for case in cases} - {None}
    log(f"{len(cases)} questions on {len(known)} documents")
    questions = [case["question"] for case in cases]
    retrieval = {mode: ranked(retriever, cases, mode, cfg.depth) for mode in MODES}
    retrieved = retriever.search(questions, cfg.top_k)
    model, tokenizer = load_model(int4, compute)
    given = ask(
        model,
        tokenizer,
        questions,
        retrieved,
        headings=cfg.headings,
        max_new_tokens=cfg.max_new_tokens,
        batch_size=cfg.batch_size,
    )
    rows = [judge(case, answer) for case, answer in zip(cases, given, strict=True)]
    write_jsonl(out / "answers.jsonl", ({k: v for k, v in row.items() if not k.startswith("_")} for row in rows))
    report = summarize(rows, cfg.top_k, retrieval)
    log(
        f"right {report.right['all'].share:.1%}, cites its source {report.cites_source['all'].share:.1%}, "
        f"value among the passages {report.grounded['all'].share:.1%}"
    )
    return report


def read_cases(path: Path) -> list[dict[str, Any]]:
    """Rows of documents.jsonl, maybe none; DataError for a row without its fields and for questions of which none is
    answerable."""
    cases = read_jsonl(path)
    for number, case in enumerate(cases, 1):
        if missing := sorted(FIELDS - set(case)):
            raise DataError(f"{path}:{number}", f"lacks {', '.join(missing)}", "add the field, or drop the row")
        if (case["answer"] is None) != (case["source"] is None):
            raise DataError(
                f"{path}:{number}",
                "has an answer without its document, or a document without an answer",
                "give both, or null for both",
            )
    if cases and not any(case["answer"] is not None for case in cases):
        raise DataError(str(path), "has no answerable question", "add questions with their answers")
    return cases


def ranked(retriever: Retriever, cases: Sequence[Mapping[str, Any]], mode: str, depth: int) -> dict[str, float]:
    """Means over the answerable questions. Three times as many chunks are searched, as documents have several."""
    asked = [case for case in cases if case["source"] is not None]
    found = retriever.search([case["question"] for case in asked], 3 * depth, mode)
    lists = [(sources(hits)[:depth], [case["source"]]) for hits, case in zip(found, asked, strict=True)]
    steps = sorted({k for k in (1, 2, 3, 5) if k < depth} | {depth})
    means = {f"recall@{k}": fmean(recall(ranking, gold, k) for ranking, gold in lists) for k in steps}
    means[f"mrr@{depth}"] = fmean(reciprocal_rank(ranking, gold, depth) for ranking, gold in lists)
    means[f"ndcg@{depth}"] = fmean(ndcg(ranking, gold, depth) for ranking, gold in lists)
    return {name: round(value, 6) for name, value in means.items()}


def judge(case: Mapping[str, Any], answer: Answer) -> dict[str, Any]:
    """A row of answers.jsonl; keys with an underscore are for the report only."""
    answerable = case["answer"] is not None
    return {
        "id": case["id"],
        "question": case["question"],
        "retrieved": [hit.chunk.id for hit in answer.shown],
        "sources": [hit.chunk.source for hit in answer.shown],
        "answer": answer.text,
        "right": behaviours.right(answer.text, case) if answerable else None,
        "cites": cites_source(case, answer) if answerable else None,
        "abstains": behaviours.abstains(answer.text),
        "language": case["language"],
        "_grounded": holds(case, answer.shown) if answerable else None,
        "_invented": bool(answer.invented),
        "_ended": answer.ended,
    }


def cites_source(case: Mapping[str, Any], answer: Answer) -> bool:
    """At least one note is named, all that are named were there, and all come from the document that answers."""
    return bool(answer.cited) and not answer.invented and all(h.chunk.source == case["source"] for h in answer.cited)


def holds(case: Mapping[str, Any], shown: Sequence[Hit]) -> bool:
    """Whether a passage of the right document states the value."""
    right = (hit.chunk.passage for hit in shown if hit.chunk.source == case["source"])
    return any(behaviours.found(passage, [case["answer"]]) for passage in right)


def summarize(rows: Sequence[Mapping[str, Any]], top_k: int, retrieval: dict[str, dict[str, float]]) -> AnswersReport:
    """The figures of all judged rows."""
    unanswerable = [row for row in rows if row["right"] is None]
    abstained = [row for row in rows if row["abstains"]]
    return AnswersReport(
        questions=len(rows),
        top_k=top_k,
        right=behaviours.by_language(rows, "right"),
        cites_source=behaviours.by_language(rows, "cites"),
        grounded=behaviours.by_language(rows, "_grounded"),
        right_when_grounded=behaviours.by_language([row for row in rows if row["_grounded"]], "right"),
        abstains=Abstention(
            precision=share([row["right"] is None for row in abstained]) if abstained else None,
            recall=share([row["abstains"] for row in unanswerable]) if unanswerable else None,
        ),
        invented_citations=share([row["_invented"] for row in rows]) if rows else None,
        ended=share([row["_ended"] for row in rows]) if rows else None,
        retrieval=retrieval,
    )
