"""tasks/rag/questions.py: what a question on the documents must have, what counts as found, and passages on their way."""

from __future__ import annotations

import pytest

from tasks.errors import DataError
from tasks.files import write_jsonl
from tasks.rag.questions import digest, found, read_cases, read_passages, write_passages
from tests.test_answers import CASE, OPEN, OTHER, RIGHT
from tests.test_rag_answer import hit


def test_found_looks_for_the_value_in_the_right_document():
    """The same value in another document is luck."""
    assert found(CASE, [OTHER, RIGHT]) and not found(CASE, [OTHER])
    assert not found(CASE, [hit("Another store opens at 8:00.", "documents/b.md")])


def test_bad_rows_are_named(tmp_path):
    """Line and field of the first bad row, a second use of an id; a set without answers measures nothing."""
    path = tmp_path / "documents.jsonl"
    write_jsonl(path, [CASE, {k: v for k, v in CASE.items() if k != "source"}])
    with pytest.raises(DataError, match=r"documents.jsonl:2: lacks source"):
        read_cases(path)
    write_jsonl(path, [CASE | {"source": None}])
    with pytest.raises(DataError, match=r":1: has an answer without its document"):
        read_cases(path)
    write_jsonl(path, [CASE, CASE])
    with pytest.raises(DataError, match=r":2: id '1' occurs twice"):
        read_cases(path)
    write_jsonl(path, [OPEN])
    with pytest.raises(DataError, match="no answerable question"):
        read_cases(path)
    write_jsonl(path, [])
    assert read_cases(path) == []


def test_digest_sees_what_counts():
    """Question, value and document count; distractors do not decide whether something is found."""
    assert digest(CASE) == digest(CASE | {"distractors": [], "id": "9"})
    assert len({digest(CASE), digest(CASE | {"answer": "9:00"}), digest(CASE | {"source": "x"}),
                digest(CASE | {"question": "?"})}) == 4


def test_passages_travel_whole(tmp_path):
    """Chunks and scores as they were, in the order of the questions; none is fine."""
    path = tmp_path / "passages.jsonl"
    write_passages(path, {"2": [], "1": [RIGHT, OTHER]})
    assert read_passages(path, [CASE, OPEN]) == [[RIGHT, OTHER], []]
