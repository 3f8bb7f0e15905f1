"""tasks/answers.py: a tiny model asked with given passages, and the verdicts by hand."""

from __future__ import annotations

import pytest

from tasks.answers import answers, cites_source, summarize
from tasks.answers import judge as judge_
from tasks.errors import DataError
from tasks.files import read_jsonl, sha256_tree, write_jsonl
from tasks.params import Answers, Seed
from tasks.rag.answer import Answer
from tasks.rag.questions import write_passages
from tests.evaluation_fixtures import CPU, write_base
from tests.test_rag_answer import hit

CFG = Answers(precision=None, top_k=2, headings="section", depth=3, reranker=None, reranker_revision=None, rerank=4,
              max_new_tokens=4, batch_size=4, grounded_share=0.8)
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


def judge(case, answer):
    """A judged row under the usual settings."""
    return judge_(CFG, case, answer)


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


@pytest.mark.parametrize(
    "text, grounded",
    [("It opens at 8:00. [1]", True), ("It opens at 9:30. [1]", True), ("It opens at 7:00. [1]", False),
     ("The notes do not say.", None)],
)
def test_grounded_is_not_right(text, grounded):
    """The other store's time stands in the passages, and is wrong; abstaining claims nothing."""
    assert judge(CASE, given(text))["grounded"] is grounded


def test_the_report_by_hand():
    """Four answerable: 2 right (one in Chinese), 1 wrongly abstained from, 1 wrong without its passage; two open, of
    which 1 abstained: precision 1/2, recall 1/2, right when found 2/3. Notes cited: 4 in 4 answers, 1 of them right
    (one was not there, one is another document's, one where no document answers): 1/4; English 1/3, Chinese 0."""
    zh = {"language": "zh"}
    rows = [
        judge(CASE, given("At 8:00. [1]", [RIGHT])),
        judge(CASE | zh, given("At 8:00.")),
        judge(CASE, given("The notes do not say.")),
        judge(CASE | zh, given("At 9:30. [1]", [OTHER], shown=[OTHER])),
        judge(OPEN, given("The notes do not say. [3]", invented=[3])),
        judge(OPEN, given("At 8:00. [1]", [RIGHT])),
    ]
    report = summarize(rows, 2, 1)
    assert {k: (s.share, s.n) for k, s in report.right.items()} == {"all": (0.5, 4), "en": (0.5, 2), "zh": (0.5, 2)}
    assert {k: s.share for k, s in report.cites_source.items()} == {"all": 0.25, "en": 0.5, "zh": 0.0}
    assert report.right_when_found["all"].share == pytest.approx(2 / 3, abs=1e-6) and report.right_when_found["all"].n == 3
    assert {k: (v.mean, v.n) for k, v in report.citation_precision.items()} == {
        "all": (0.25, 4), "en": (pytest.approx(1 / 3, abs=1e-6), 3), "zh": (0.0, 1)}
    assert {k: s.share for k, s in report.citation_recall.items()} == {"all": 0.25, "en": 0.5, "zh": 0.0}
    assert (report.groundedness["all"].share, report.groundedness["all"].n) == (1.0, 4)
    assert (report.abstains.precision.share, report.abstains.recall.share) == (0.5, 0.5)
    assert report.invented_citations.share == pytest.approx(1 / 6, abs=1e-6) and report.ended.share == 1.0


def test_nothing_to_abstain_from_is_null():
    """No open question and no abstention: there is no precision or recall to state."""
    report = summarize([judge(CASE, given("At 8:00.", []))], 2, 1)
    assert report.citation_precision == {}  # and no note was cited
    assert report.abstains.precision is None and report.abstains.recall is None


def test_the_model_is_asked_with_the_passages_and_nothing_else(tmp_path):
    """Neither index nor embedding model is there; two questions with passages, one without; and again: the same bytes."""
    model = write_base(tmp_path / "base", tmp_path / "start")
    rows = [CASE, CASE | {"id": "3", "question": "青山店的店长是谁？", "answer": "王明华", "distractors": [], "language": "zh"},
            OPEN | {"question": "Who is the mayor of Paris?"}]
    write_jsonl(tmp_path / "documents.jsonl", rows)
    write_passages(tmp_path / "passages.jsonl", {"1": [RIGHT, OTHER], "2": [], "3": [hit("店长：王明华。", "documents/a.md")]})
    reports = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        reports.append(answers(CFG, CPU, Seed(value=1), tmp_path / "passages.jsonl", model, tmp_path / "documents.jsonl",
                               tmp_path / name))
    assert reports[0] == reports[1] and sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")
    assert (reports[0].questions, reports[0].abstains.recall.share) == (3, 1.0)
    said = read_jsonl(tmp_path / "one" / "answers.jsonl")
    assert [row["sources"] for row in said] == [["documents/a.md", "documents/b.md"], ["documents/a.md"], []]
    assert set(said[0]) == {"id", "question", "retrieved", "sources", "answer", "right", "cites", "abstains", "grounded",
                            "language"}


def test_passages_of_other_questions_are_refused(tmp_path):
    """A question without its line would be asked with nothing: the stage before it has to run again."""
    write_jsonl(tmp_path / "documents.jsonl", [CASE, OPEN])
    write_passages(tmp_path / "passages.jsonl", {"1": [RIGHT]})
    with pytest.raises(DataError, match=r"passages.jsonl: has the passages of other questions; .*dvc repro retrieve"):
        answers(CFG, CPU, Seed(value=1), tmp_path / "passages.jsonl", tmp_path, tmp_path / "documents.jsonl", tmp_path / "out")


def test_no_questions(tmp_path, capsys):
    """An empty file and a report of nothing; no model is opened."""
    for name in ("documents", "passages"):
        write_jsonl(tmp_path / f"{name}.jsonl", [])
    report = answers(CFG, CPU, Seed(value=1), tmp_path / "passages.jsonl", tmp_path / "gone", tmp_path / "documents.jsonl",
                     tmp_path / "out")
    assert "has no questions" in capsys.readouterr().err
    assert (report.questions, report.right, report.groundedness, report.citation_precision) == (0, {}, {}, {})
    assert report.ended is report.invented_citations is report.abstains.recall is None
    assert (tmp_path / "out" / "answers.jsonl").read_text() == ""
