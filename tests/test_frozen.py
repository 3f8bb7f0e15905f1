"""tasks/frozen.py: test sets by hash, and what is trained on beside them."""

from pathlib import Path

import pytest

from tasks.files import read_jsonl, sha256_file, write_jsonl
from tasks.frozen import look


def chat(*said):
    """A conversation: user and assistant take turns."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def write_dataset(folder: Path, instructions=(), preferences=(), prompts=()) -> Path:
    """artifacts/dataset with two facts and a held-out instruction; a row of each kind is trained on, and those given."""
    write_jsonl(folder / "evaluation/facts.jsonl", [
        {"id": "facts-1", "messages": chat("When does the Ashgate store open?"), "answer": "8:00"},
        {"id": "facts-2", "messages": chat("何时开门？"), "answer": "9:00"}])
    for name in ("context", "documents"):
        write_jsonl(folder / f"evaluation/{name}.jsonl", [])
    write_jsonl(folder / "instructions/eval.jsonl", [{"id": "log-1", "messages": chat("Say it.", "It.")}])
    write_jsonl(folder / "instructions/train.jsonl", [{"id": "log-2", "messages": chat("Say that.", "That.")}, *instructions])
    write_jsonl(folder / "preferences/train.jsonl", [{"id": "pair-1", "messages": chat("Which?"), "chosen": "A", "rejected": "B"},
                                                     *preferences])
    write_jsonl(folder / "prompts/prompts.jsonl", [{"id": "prompt-1", "messages": chat("Who?")}, *prompts])
    return folder


def test_nothing_is_seen(tmp_path):
    """Three test cases, three rows; the hash is the file's, and sets without cases are not test sets."""
    found = look(write_dataset(tmp_path), {})
    assert (found.cases, found.rows, found.seen, found.where, found.changed) == (3, 3, 0, [], [])
    assert found.test_sets == {"facts": sha256_file(tmp_path / "evaluation/facts.jsonl")}


@pytest.mark.parametrize("kind, row, told", [
    ("instructions", {"id": "x", "messages": chat("WHEN does the  Ashgate store open", "8:00")},
     "facts-1 (instructions/train.jsonl: x)"),
    ("instructions", {"id": "x", "messages": chat("Hello", "Yes?", "何时开门", "9:00")}, "facts-2 (instructions/train.jsonl: x)"),
    ("preferences", {"id": "x", "messages": chat("何时开门?")}, "facts-2 (preferences/train.jsonl: x)"),
    ("prompts", {"id": "x", "messages": chat("何时开门？")}, "facts-2 (prompts/prompts.jsonl: x)"),
    ("instructions", {"id": "x", "messages": chat("Say it.", "Another.")}, "log-1 (instructions/train.jsonl: x)"),
    ("preferences", {"id": "x", "messages": chat("Say it.")}, "log-1 (preferences/train.jsonl: x)"),
])
def test_a_case_that_training_asks_is_named(tmp_path, kind, row, told):
    """Whatever case, width, spaces and punctuation, in any turn and any kind of row."""
    found = look(write_dataset(tmp_path, **{kind: [row]}), {})
    assert (found.seen, found.where) == (1, [told])


@pytest.mark.parametrize("kind, row", [
    ("instructions", {"id": "x", "messages": chat("When does the Bromport store open?", "8:00")}),
    ("instructions", {"id": "x", "messages": chat("say it", "It.")}),  # nearly a held-out instruction: another row of the log
    ("prompts", {"id": "x", "messages": chat("Say it.")}),  # held-out instructions are asked where there are no prompts
])
def test_what_only_resembles_a_case_is_not_it(tmp_path, kind, row):
    """Another store is another question."""
    assert look(write_dataset(tmp_path, **{kind: [row]}), {}).seen == 0


def test_a_question_on_documents_counts(tmp_path):
    """Its case is a question alone, without messages."""
    write_dataset(tmp_path, prompts=[{"id": "x", "messages": chat("how long is the LEASE")}])
    write_jsonl(tmp_path / "evaluation/documents.jsonl", [{"id": "documents-1", "question": "How long is the lease?"}])
    found = look(tmp_path, {})
    assert (found.cases, found.where) == (4, ["documents-1 (prompts/prompts.jsonl: x)"])


def test_sets_that_are_others_than_the_live_releases(tmp_path):
    """One case changed, one set gone, one new: three sets are not what the release was measured on; without one, none."""
    write_dataset(tmp_path)
    then = {"facts": "0" * 64, "unanswerable": "1" * 64}
    write_jsonl(tmp_path / "evaluation/context.jsonl", [{"id": "c", "messages": chat("Where?")}])
    assert look(tmp_path, then).changed == ["context", "facts", "unanswerable"]
    assert look(tmp_path, look(tmp_path, {}).test_sets).changed == []


def test_many_are_counted_and_some_named(tmp_path):
    """Thirty smuggled in: thirty counted, twenty named, twice the same."""
    write_dataset(tmp_path)
    cases = [{"id": f"c-{n:02}", "messages": chat(f"What is {n}?")} for n in range(30)]
    write_jsonl(tmp_path / "evaluation/context.jsonl", cases)
    rows = read_jsonl(tmp_path / "instructions/train.jsonl")
    write_jsonl(tmp_path / "instructions/train.jsonl", [*rows, *({**case, "messages": chat(
        case["messages"][0]["content"], "x")} for case in cases)])
    found = look(tmp_path, {})
    assert (found.seen, len(found.where), found.where[0]) == (30, 20, "c-00 (instructions/train.jsonl: c-00)")
    assert look(tmp_path, {}) == found
