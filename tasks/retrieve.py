"""Search as a stage of its own: what the index finds for each question on the documents, by every way of searching.

The answers stage asks with the passages that are written here, so search is measured once, and apart from the model.
Tonight's search meets the live release's on the questions that both were asked, as the models do in stage evaluate:
champion-search.json carries what the release had found, so its index need not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field

from tasks import behaviours
from tasks import champion as champions
from tasks.champion import Found, SearchChampion
from tasks.params import Answers, Compute, Index, Seed
from tasks.progress import log
from tasks.rag import questions
from tasks.rag.retrieve import Retriever, ndcg, recall, reciprocal_rank, sources
from tasks.reports import Report, Share
from tasks.stats import Difference, paired

Row = dict[str, Any]
Modes = dict[str, dict[str, dict[str, float]]]  # mode → language → measure → mean


class Against(Report):
    """Tonight's search against the live release's, on the questions that are still asked and answered as they were."""

    release: str = Field(description="id of the live release")
    questions: int = Field(description="shared questions")
    found: Difference | None = Field(description="value among the passages, tonight − release; null without shared ones")
    reciprocal_rank: Difference | None = Field(description="1 / rank of the right document, 0 where it was not found")


class RetrieveReport(Report):
    """metrics/retrieve.json. Languages: all, en, zh, as far as there are answerable questions."""

    questions: int = Field(description="questions that a document answers")
    unanswerable: int = Field(description="questions that none answers: searched for as well, to be asked with what is found")
    top_k: int = Field(description="answers.top_k: passages that a question is asked with")
    reranker: str | None = Field(description="SHA-256 of the reranker's weights; null without one")
    modes: Modes = Field(
        description="dense, sparse, hybrid, reranked → language → recall@k, mrr@k and ndcg@k over documents, means of 0 … 1")
    found: dict[str, Share] = Field(description="language → questions of whose passages one of the right document has the value")
    champion: Against | None = Field(description="against the live release; null before the first one")


def retrieve(cfg: Answers, where: Index, compute: Compute, seed: Seed, index: Path, embedded: Path, starter: Path,
             evaluation: Path, champion: Path, out: Path) -> RetrieveReport:
    """Search for all questions of `evaluation`; write passages.jsonl and challenger.json.

    `champion`: champion-search.json. Without questions nothing is opened and every figure is missing.
    """
    cases, live = questions.read_cases(evaluation), champions.read(champion, SearchChampion)
    rows: list[Row] = []
    modes: Modes = {}
    reranker = None
    if cases:
        from tasks.training.hardware import set_up

        set_up(compute, seed.value)
        retriever = Retriever.open(index, embedded, starter, compute, where, cfg)
        reranker = getattr(retriever.reranker, "weights_sha256", None)
        rows, modes = search(cfg, retriever, cases)
    else:
        log(f"{evaluation} has no questions: nothing is looked up in the index")
    questions.write_passages(out / questions.PASSAGES, {row["id"]: row["passages"] for row in rows})
    tonight = {row["id"]: Found(case=row["case"], rank=row["rank"], found=row["found"]) for row in rows if row["source"]}
    champions.write_challenger(out, SearchChampion(release=None, questions=tonight))
    asked = [row for row in rows if row["source"]]
    report = RetrieveReport(
        questions=len(asked), unanswerable=len(rows) - len(asked), top_k=cfg.top_k, reranker=reranker, modes=modes,
        found=behaviours.by_language(asked, "found"),
        champion=face(live.release, tonight, live.questions, seed.value) if live.release else None)
    if asked:
        log(f"{len(asked)} questions on {len({row['source'] for row in asked})} documents: value among the first "
            f"{cfg.top_k} passages {report.found['all'].share:.1%}")
    return report


def search(cfg: Answers, retriever: Retriever, cases: Sequence[Row]) -> tuple[list[Row], Modes]:
    """(a row a question with its passages, the rank of its document and whether the value is there; mode → measures).

    The last mode is the one that questions are asked with.
    """
    answerable = [case for case in cases if case["source"]]
    modes: Modes = {}
    ranks: dict[str, int] = {}
    for mode in retriever.modes:
        # three times as many chunks as documents, for documents have several
        found = retriever.search([case["question"] for case in answerable], 3 * cfg.depth, mode)
        ranked = [(case, sources(hits)[: cfg.depth]) for case, hits in zip(answerable, found, strict=True)]
        modes[mode] = {language: measures(group, cfg.top_k, cfg.depth) for language, group in by_language(ranked).items()}
        ranks = {case["id"]: ranking.index(case["source"]) + 1 for case, ranking in ranked if case["source"] in ranking}
    rows = [
        {"id": case["id"], "language": case["language"], "source": case["source"], "case": questions.digest(case),
         "rank": ranks.get(case["id"]), "found": questions.found(case, hits) if case["source"] else None, "passages": hits}
        for case, hits in zip(cases, retriever.search([case["question"] for case in cases], cfg.top_k), strict=True)
    ]
    return rows, modes


def by_language(ranked: Sequence[tuple[Row, list[str]]]) -> dict[str, list[tuple[list[str], list[str]]]]:
    """Language ("all" besides each) → (ranking, relevant documents) of its questions."""
    groups: dict[str, list[tuple[list[str], list[str]]]] = {}
    for case, ranking in ranked:
        for language in ("all", case["language"]):
            groups.setdefault(language, []).append((ranking, [case["source"]]))
    return dict(sorted(groups.items()))


def measures(lists: Sequence[tuple[list[str], list[str]]], top_k: int, depth: int) -> dict[str, float]:
    """Means over (ranking, relevant documents) pairs; recall at 1, 5, `depth` and what the model is shown."""
    means = {f"recall@{k}": fmean(recall(ranking, gold, k) for ranking, gold in lists)
             for k in sorted({k for k in (1, top_k, 5) if k < depth} | {depth})}
    means[f"mrr@{depth}"] = fmean(reciprocal_rank(ranking, gold, depth) for ranking, gold in lists)
    means[f"ndcg@{depth}"] = fmean(ndcg(ranking, gold, depth) for ranking, gold in lists)
    return {name: round(value, 6) for name, value in means.items()}


def face(release: str, ours: Mapping[str, Found], theirs: Mapping[str, Found], seed: int) -> Against:
    """Tonight's search against the release's, paired by question."""
    pairs = [(found, theirs[name]) for name, found in ours.items() if name in theirs and theirs[name].case == found.case]

    def difference(value: Callable[[Found], float]) -> Difference | None:
        return paired([value(a) for a, _ in pairs], [value(b) for _, b in pairs], seed) if pairs else None

    return Against(release=release, questions=len(pairs), found=difference(lambda one: one.found),
                   reciprocal_rank=difference(lambda one: 1 / one.rank if one.rank else 0.0))
