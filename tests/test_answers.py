"""tasks/answers.py: the whole chain on small documents with a tiny model, and the verdicts by hand."""

from __future__ import annotations

import pytest

from tasks.answers import answers, cites_source, holds, judge, read_cases, summarize
from tasks.embed import embed
from tasks.errors import DataError
from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tasks.index import index
from tasks.params import Answers, Seed
from tasks.rag.answer import Answer
from tests import rag_fixtures as fixtures
from tests.evaluation_fixtures import write_base
from tests.test_rag_answer import hit
from tests.test_rag_embedder import CFG, CPU

CASE = {
    "id": "1",
    "question": "When does Ashgate open?",
    "answer": "8:00",
    "distractors": ["9:30"],
    "source": "documents/a.md",
    "language": "en",
}
OPEN = CASE | {"id": "2", "answer": None, "distractors": [], "source": None}
RIGHT, OTHER = hit("Ashgate opens at 8:00.", "documents/a.md"), hit("Oakleigh opens at 9:30.", "documents/b.md")


def given(text: str, cited=(), invented=(), shown=(RIGHT, OTHER)) -> Answer:
    """An answer to judge."""
    return Answer(text, tuple(shown), tuple(cited), tuple(invented), True)


@pytest.mark.parametrize(
    "text, cited, invented, right, cites",
    [
        ("It opens at 8:00. [1]", [RIGHT], [], True, True),
        ("It opens at 8:00.", [], [], True, False),
        ("It opens at 8:00. [2]", [OTHER], [], True, False),
        ("It opens at 8:00. [1][2]", [RIGHT, OTHER], [], True, False),
        ("It opens at 8:00. [1][9]", [RIGHT], [9], True, False),
        ("It opens at 9:30. [1]", [RIGHT], [], False, True),
        ("The notes do not say.", [], [], False, False),
    ],
)
def test_verdicts(text, cited, invented, right, cites):
    """Right is about the value alone; a citation is good when all it names is there and from the right document."""
    row = judge(CASE, given(text, cited, invented))
    assert (row["right"], row["cites"]) == (right, cites) == (right, cites_source(CASE, given(text, cited, invented)))
    assert row["sources"] == ["documents/a.md", "documents/b.md"] and len(row["retrieved"]) == 2


def test_questions_without_an_answer_have_no_right_one():
    """Only abstaining is judged there."""
    row = judge(OPEN, given("The notes do not say."))
    assert (row["right"], row["cites"], row["abstains"]) == (None, None, True)


def test_holds_looks_for_the_value_in_the_right_document():
    """The same value in another document is luck."""
    assert holds(CASE, [OTHER, RIGHT]) and not holds(CASE, [OTHER])
    assert not holds(CASE, [hit("Another store opens at 8:00.", "documents/b.md")])


def test_the_report_by_hand():
    """Four answerable: 2 right (one in Chinese), 1 wrongly abstained from, 1 wrong without its passage; two open, of
    which 1 abstained: precision 1/2, recall 1/2, right when grounded 2/3."""
    zh = {"language": "zh"}
    rows = [
        judge(CASE, given("At 8:00. [1]", [RIGHT])),
        judge(CASE | zh, given("At 8:00.")),
        judge(CASE, given("The notes do not say.")),
        judge(CASE | zh, given("At 9:30. [1]", [OTHER], shown=[OTHER])),
        judge(OPEN, given("The notes do not say. [3]", invented=[3])),
        judge(OPEN, given("At 8:00. [1]", [RIGHT])),
    ]
    report = summarize(rows, 2, {})
    assert {k: (s.share, s.n) for k, s in report.right.items()} == {"all": (0.5, 4), "en": (0.5, 2), "zh": (0.5, 2)}
    assert {k: s.share for k, s in report.cites_source.items()} == {"all": 0.25, "en": 0.5, "zh": 0.0}
    assert report.grounded["all"].share == 0.75
    assert report.right_when_grounded["all"].share == pytest.approx(2 / 3, abs=1e-6)
    assert (report.abstains.precision.share, report.abstains.recall.share) == (0.5, 0.5)
    assert report.invented_citations.share == pytest.approx(1 / 6, abs=1e-6) and report.ended.share == 1.0


def test_nothing_to_abstain_from_is_null():
    """No open question and no abstention: there is no precision or recall to state."""
    report = summarize([judge(CASE, given("At 8:00. [1]", [RIGHT]))], 2, {})
    assert report.abstains.precision is None and report.abstains.recall is None


def test_bad_rows_are_named(tmp_path):
    """Line and field of the first bad row; a set without answers measures nothing."""
    path = tmp_path / "documents.jsonl"
    write_jsonl(path, [CASE, {k: v for k, v in CASE.items() if k != "source"}])
    with pytest.raises(DataError, match=r"documents.jsonl:2: lacks source"):
        read_cases(path)
    write_jsonl(path, [CASE | {"source": None}])
    with pytest.raises(DataError, match=r":1: has an answer without its document"):
        read_cases(path)
    write_jsonl(path, [OPEN])
    with pytest.raises(DataError, match="no answerable question"):
        read_cases(path)


def test_the_whole_chain_twice(tmp_path):
    """Documents of every format, questions in both languages, a tiny model: found, asked, judged, and again."""
    folders = {name: tmp_path / name for name in ("embedded", "index", "one", "two")}
    for folder in folders.values():
        folder.mkdir()
    documents = fixtures.write_documents(tmp_path / "documents")
    cfg = fixtures.index_params(tmp_path / "stores", probes=4)
    embed(CFG, CPU, documents, fixtures.STARTER, folders["embedded"])
    index(cfg, folders["embedded"], folders["index"])
    model = write_base(tmp_path / "base", tmp_path / "start")
    questions = tmp_path / "documents.jsonl"
    write_jsonl(
        questions,
        [
            CASE | {"source": "documents/stores/ashgate.html"},
            CASE
            | {
                "id": "3",
                "question": "青山店的店长是谁？",
                "answer": "王明华",
                "distractors": [],
                "language": "zh",
                "source": "documents/memos/冬季.txt",
            },
            CASE
            | {
                "id": "4",
                "question": "Which locker does Ruth Hale have?",
                "answer": "B-123",
                "distractors": [],
                "source": "documents/staff.docx",
            },
            OPEN | {"question": "Who is the mayor of Paris?"},
        ],
    )
    asked = Answers(top_k=1, headings="section", depth=3, max_new_tokens=4, batch_size=4)
    reports = [
        answers(
            asked,
            cfg,
            CPU,
            Seed(value=1),
            folders["index"],
            folders["embedded"],
            fixtures.STARTER,
            model,
            questions,
            folders[name],
        )
        for name in ("one", "two")
    ]
    assert reports[0] == reports[1] and sha256_tree(folders["one"]) == sha256_tree(folders["two"])
    assert reports[0].grounded["all"].share == reports[0].retrieval["hybrid"]["recall@1"] == 1.0
    assert set(reports[0].retrieval) == {"dense", "sparse", "hybrid"}
    rows = read_jsonl(folders["one"] / "answers.jsonl")
    assert [row["sources"] for row in rows[:3]] == [
        ["documents/stores/ashgate.html"],
        ["documents/memos/冬季.txt"],
        ["documents/staff.docx"],
    ]
    assert set(rows[0]) == {
        "id",
        "question",
        "retrieved",
        "sources",
        "answer",
        "right",
        "cites",
        "abstains",
        "language",
    }


def test_no_questions(tmp_path, capsys):
    """An empty file and a report of nothing; neither index nor model is opened."""
    write_jsonl(tmp_path / "documents.jsonl", [])
    cfg = Answers(top_k=1, headings="section", depth=3, max_new_tokens=4, batch_size=4)
    gone = tmp_path / "gone"
    paths = (gone, gone, gone, gone, tmp_path / "documents.jsonl", tmp_path / "out")
    report = answers(cfg, fixtures.index_params(gone), CPU, Seed(value=1), *paths)
    assert "has no questions" in capsys.readouterr().err
    assert (report.questions, report.right, report.retrieval) == (0, {}, {})
    assert report.ended is report.invented_citations is report.abstains.recall is None
    assert (tmp_path / "out" / "answers.jsonl").read_text() == ""
