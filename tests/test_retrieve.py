"""tasks/retrieve.py: documents of every format found by each way of searching, and against the live release by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks import champion as champions
from tasks.champion import Found, SearchChampion
from tasks.embed import embed
from tasks.files import read_json, read_jsonl, sha256_tree, write_jsonl
from tasks.index import index
from tasks.params import Seed
from tasks.rag.questions import digest, read_passages
from tasks.retrieve import face, measures, retrieve
from tests import rag_fixtures as fixtures
from tests.test_answers import CASE, CFG, OPEN
from tests.test_rag_embedder import CFG as EMBED
from tests.test_rag_embedder import CPU
from tests.test_rag_rerank import write_cross_encoder

ZH = {"id": "3", "question": "青山店的店长是谁？", "answer": "王明华", "distractors": [], "language": "zh",
      "source": "documents/memos/冬季.txt"}
LOCKER = CASE | {"id": "4", "question": "Which locker does Ruth Hale have?", "answer": "B-123", "distractors": [],
                 "source": "documents/staff.docx"}
CASES = [CASE | {"source": "documents/stores/ashgate.html"}, ZH, LOCKER, OPEN | {"question": "Who is the mayor of Paris?"}]
ONE = CFG.model_copy(update={"top_k": 1})


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Documents, embedded and indexed; questions; nothing released."""
    root = tmp_path_factory.mktemp("world")
    for name in ("embedded", "index"):
        (root / name).mkdir()
    cfg = fixtures.index_params(root / "stores", probes=4)
    embed(EMBED, CPU, fixtures.write_documents(root / "documents"), fixtures.STARTER, root / "embedded")
    index(cfg, root / "embedded", root / "index")
    write_jsonl(root / "documents.jsonl", CASES)
    champions.write(root / "champion-search.json", SearchChampion(release=None))
    return root


def run(root: Path, out: Path, cfg=ONE, champion: str = "champion-search.json"):
    """The stage on the world."""
    out.mkdir()
    return retrieve(cfg, fixtures.index_params(root / "stores"), CPU, Seed(value=1), root / "index", root / "embedded",
                    fixtures.STARTER, root / "documents.jsonl", root / champion, out)


def test_every_question_is_looked_up_and_again(world, tmp_path):
    """Three answerable, all found first by hybrid search; passages whole; the open one has passages and no rank."""
    one, two = run(world, tmp_path / "one"), run(world, tmp_path / "two")
    assert one == two and sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["challenger.json", "passages.jsonl"]
    assert (one.questions, one.unanswerable, one.top_k, one.reranker, one.champion) == (3, 1, 1, None, None)
    assert list(one.modes) == ["dense", "sparse", "hybrid"]
    assert set(one.modes["hybrid"]) == {"all", "en", "zh"}
    assert set(one.modes["hybrid"]["all"]) == {"recall@1", "recall@3", "mrr@3", "ndcg@3"}
    assert set(one.modes["hybrid"]["all"].values()) == {1.0} and one.found["all"].share == 1.0 and one.found["zh"].n == 1
    shown = read_passages(tmp_path / "one" / "passages.jsonl", CASES)
    assert [hits[0].chunk.source for hits in shown[:3]] == [case["source"] for case in CASES[:3]]
    assert "8:00" in shown[0][0].chunk.text and len(shown[3]) == 1
    assert read_json(tmp_path / "one" / "challenger.json") == {
        "questions": {case["id"]: {"case": digest(case), "rank": 1, "found": True} for case in CASES[:3]}}


def test_against_itself_as_champion(world, tmp_path):
    """Tonight's own challenger, promoted: three shared questions, no difference. One asked anew is left out."""
    run(world, tmp_path / "out")
    champions.write(world / "live.json", champions.champion_from("r1", tmp_path / "out", SearchChampion))
    met = run(world, tmp_path / "again", champion="live.json").champion
    assert (met.release, met.questions, met.found.n, met.found.difference, met.reciprocal_rank.difference) == ("r1", 3, 3, 0, 0)
    write_jsonl(world / "documents.jsonl", [CASES[0] | {"question": "At what time does Ashgate open?"}, *CASES[1:]])
    try:
        assert run(world, tmp_path / "moved", champion="live.json").champion.questions == 2
    finally:
        write_jsonl(world / "documents.jsonl", CASES)


def test_the_comparison_by_hand():
    """a: lost, from rank 1 to none; b: rank 2 to 1; c: as it was; d and e are not shared. Found −1/3; 1/rank −1/6."""
    def one(rank, found, case="0"):
        return Found(case=case, rank=rank, found=found)
    theirs = {"a": one(1, True), "b": one(2, True), "c": one(None, False), "d": one(1, True), "e": one(1, True)}
    ours = {"a": one(None, False), "b": one(1, True), "c": one(None, False), "e": one(1, True, case="1"), "f": one(1, True)}
    met = face("r1", ours, theirs, 1)
    assert (met.questions, met.found.better, met.found.worse) == (3, 0, 1)
    assert met.found.difference == pytest.approx(-1 / 3, abs=1e-6)
    assert met.reciprocal_rank.difference == pytest.approx((-1 + 0.5) / 3, abs=1e-6)
    nothing = face("r1", {}, theirs, 1)
    assert (nothing.release, nothing.questions, nothing.found, nothing.reciprocal_rank) == ("r1", 0, None, None)


def test_measures_by_hand():
    """Ranks 1 and 3 of 2 questions: recall@1 ½, @2 ½, @3 1; MRR (1 + ⅓)/2; nDCG (1 + 1/log₂4)/2 = ¾."""
    made = measures([(["a", "b"], ["a"]), (["x", "y", "a"], ["a"])], top_k=2, depth=3)
    assert made == {"recall@1": 0.5, "recall@2": 0.5, "recall@3": 1.0, "mrr@3": pytest.approx(2 / 3, abs=1e-6), "ndcg@3": 0.75}
    assert list(measures([(["a"], ["a"])], top_k=2, depth=10)) == [
        "recall@1", "recall@2", "recall@5", "recall@10", "mrr@10", "ndcg@10"]


def test_no_questions(tmp_path, capsys):
    """Empty files, no figure, and still the release it would have met, for the gate asks; no index is opened."""
    write_jsonl(tmp_path / "documents.jsonl", [])
    champions.write(tmp_path / "champion-search.json", SearchChampion(release="r1"))
    gone = tmp_path / "gone"
    report = retrieve(ONE, fixtures.index_params(gone), CPU, Seed(value=1), gone, gone, gone, tmp_path / "documents.jsonl",
                      tmp_path / "champion-search.json", tmp_path / "out")
    assert "has no questions" in capsys.readouterr().err
    assert (report.questions, report.modes, report.found, report.champion.release) == (0, {}, {}, "r1")
    assert report.champion.found is None and read_json(tmp_path / "out/challenger.json") == {"questions": {}}
    assert read_jsonl(tmp_path / "out/passages.jsonl") == []
    assert champions.champion_from("r2", tmp_path / "out", SearchChampion).questions == {}


def test_a_reranker_decides_what_is_shown(world, tmp_path):
    """One that hates what the right passages say: a fourth mode, worse, its passages are shown, and the release that
    searched without it had found what is lost now."""
    weights = {"ashgate": -3.0, "locker": -3.0, "青": -3.0, "aisle": 3.0}
    model = write_cross_encoder(tmp_path / "model", weights)
    cfg = ONE.model_copy(update={"reranker": str(model), "rerank": 20})
    run(world, tmp_path / "before")
    champions.write(world / "live.json", champions.champion_from("r1", tmp_path / "before", SearchChampion))
    report = run(world, tmp_path / "out", cfg, champion="live.json")
    assert list(report.modes) == ["dense", "sparse", "hybrid", "reranked"] and len(report.reranker) == 64
    assert report.modes["hybrid"]["all"]["recall@1"] == 1.0 > report.modes["reranked"]["all"]["recall@1"]
    shown = read_passages(tmp_path / "out" / "passages.jsonl", CASES)
    assert "aisle 12" in shown[0][0].chunk.text and report.found["all"].share < 1.0
    assert read_json(tmp_path / "out/challenger.json")["questions"]["1"]["found"] is False
    assert report.champion.found.worse >= 1 and report.champion.found.better == 0 > report.champion.found.difference
    shutil.rmtree(model)
