"""Sampled answers for people to rank."""

from __future__ import annotations

import pytest
import training_fixtures as tiny

from tasks.errors import DataError
from tasks.files import read_jsonl, sha256_tree


def run(out, dataset=None, **changes):
    """Run the stage on the tiny SFT model."""
    return tiny.run_stage("candidates", out, changes, dataset=dataset or tiny.world() / "dataset" / "prompts",
                          base=tiny.world() / "base", sft=tiny.trained("sft"))


def test_answers_to_every_prompt_and_the_same_again(tmp_path):
    """One file; each prompt with its different answers and their log-probabilities; equal seeds, equal bytes."""
    report = run(tmp_path / "a")
    run(tmp_path / "b")
    assert tiny.names(tmp_path / "a") == ["candidates.jsonl"]
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b")
    rows = read_jsonl(tmp_path / "a" / "candidates.jsonl")
    assert [row["id"] for row in rows] == [f"row-{i}" for i in range(6)]
    for row in rows:
        assert set(row) == {"id", "messages", "answers", "language"}
        texts = [answer["text"] for answer in row["answers"]]
        assert len(texts) == len(set(texts)) <= 4
        assert all(answer["logprob"] < 0 for answer in row["answers"])
    assert (report.prompts, report.answers) == (6, 24)
    assert report.different == pytest.approx(sum(len(row["answers"]) for row in rows) / 6, abs=1e-6)


def test_equal_answers_are_written_once(tmp_path):
    """With a nucleus of one token all samples are the greedy answer: one candidate each."""
    report = run(tmp_path / "out", top_p=1e-9)
    assert report.different == 1.0
    assert all(len(row["answers"]) == 1 for row in read_jsonl(tmp_path / "out" / "candidates.jsonl"))


def test_no_prompts(tmp_path):
    """An empty prompts file is said, not divided by."""
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "prompts.jsonl").write_text("")
    with pytest.raises(DataError, match="has no rows"):
        run(tmp_path / "out", dataset=tmp_path / "prompts")
