"""Rows into tokens, what is left out, and the order of training."""

from __future__ import annotations

from collections import Counter

import pytest
import training_fixtures as tiny

from tasks.errors import DataError
from tasks.files import write_jsonl
from tasks.training import rows
from tasks.training.tokens import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    """The tiny base's tokenizer."""
    return load_tokenizer(tiny.world() / "base")


def test_missing_columns_and_empty_files_are_named(tmp_path):
    """File, line and column, instead of the trainer's KeyError."""
    path = tmp_path / "train.jsonl"
    write_jsonl(path, [{"id": "a", "messages": []}, {"id": "b", "text": "x"}])
    with pytest.raises(DataError, match=r"train.jsonl:2: lacks messages \(has id, text\)"):
        rows.read_rows(path, ("id", "messages"))
    write_jsonl(path, [])
    with pytest.raises(DataError, match="has no rows"):
        rows.read_rows(path, ("id",))
    with pytest.raises(DataError, match="is missing"):
        rows.read_rows(tmp_path / "none.jsonl", ("id",))


def test_long_rows_are_counted_and_all_long_is_an_error(tokenizer):
    """The trainer would drop them without a word."""
    data = tiny.instruction_rows(5)
    data[2]["messages"][0]["content"] *= 9
    encoded, too_long = rows.encode_instructions(tokenizer, data, 100, "train.jsonl")
    assert too_long == ["row-2"] and [e.id for e in encoded] == ["row-0", "row-1", "row-3", "row-4"]
    with pytest.raises(DataError, match=r"all 5 rows are longer than max_length \(10 tokens\)"):
        rows.encode_instructions(tokenizer, data, 10, "train.jsonl")


def test_a_row_without_an_answer_is_an_error(tokenizer):
    """There would be nothing to learn from it."""
    with pytest.raises(DataError, match="row-0: does not end with an assistant message"):
        rows.encode_instructions(tokenizer, [{"id": "row-0", "messages": [{"role": "user", "content": "?"}]}], 99, "x")


def test_a_pair_is_two_whole_conversations(tokenizer):
    """Both start with the prompt, and the mask covers the answer with its end token."""
    (pair,), too_long = rows.encode_pairs(tokenizer, tiny.preference_rows(1), 128, "x")
    for side, answer in zip((pair.chosen, pair.rejected), pair.answers, strict=True):
        marked = [i for i, m in zip(side.ids, side.mask, strict=True) if m]
        assert tokenizer.decode(marked) == answer + "<|im_end|>"
    start = pair.chosen.mask.index(1)
    assert pair.chosen.ids[:start] == pair.rejected.ids[:start] and too_long == []


def test_only_the_last_answer_of_a_long_conversation_is_scored(tokenizer):
    """Earlier answers belong to the prompt: they are equal on both sides."""
    turns = (("user", "a"), ("assistant", "b"), ("user", "c"))
    messages = [{"role": role, "content": content} for role, content in turns]
    encoded = rows.encode_answer(tokenizer, "x", messages, "d")
    assert tokenizer.decode([i for i, m in zip(encoded.ids, encoded.mask, strict=True) if m]) == "d<|im_end|>"


def test_equal_sides_are_refused(tokenizer):
    """Such a pair says nothing."""
    (row,) = tiny.preference_rows(1)
    with pytest.raises(DataError, match="'chosen' equals 'rejected'"):
        rows.encode_pairs(tokenizer, [row | {"rejected": row["chosen"]}], 128, "x")


def test_the_schedule_shows_each_row_once_a_pass():
    """5 rows, 3 passes, batches of 2: every row three times, and the same list from the same seed."""
    order = rows.schedule([9, 1, 5, 3, 7], [1.0] * 5, epochs=3, batch=2, seed=4)
    assert Counter(order) == {i: 3 for i in range(5)}
    assert order == rows.schedule([9, 1, 5, 3, 7], [1.0] * 5, 3, 2, 4)
    assert order != rows.schedule([9, 1, 5, 3, 7], [1.0] * 5, 3, 2, 5)


def test_no_row_comes_twice_in_a_batch():
    """Passes are not mixed: with 24 rows and batches of 8 each batch holds 8 different ones, in each of 3 passes."""
    order = rows.schedule(list(range(24)), [1.0] * 24, 3, 8, 1)
    assert all(len(set(order[k:k + 8])) == 8 for k in range(0, 72, 8))
    assert all(sorted(order[k:k + 24]) == list(range(24)) for k in range(0, 72, 24))


def test_a_weight_is_a_share_of_the_passes():
    """Weights 1, 0.5, 0 and 2 over 4 passes: 4, 2, 0 and 8 times, each spread over the passes."""
    order = rows.schedule([1] * 4, [1.0, 0.5, 0.0, 2.0], epochs=4, batch=1, seed=0)
    assert Counter(order) == {0: 4, 1: 2, 3: 8}


def test_a_remainder_is_drawn_by_its_probability():
    """Weight 0.25 in one pass: about a quarter of 2,000 rows (± 4 standard errors), the same ones again."""
    order = rows.schedule([1] * 2000, [0.25] * 2000, 1, 10, 7)
    assert abs(len(order) - 500) < 4 * (2000 * 0.25 * 0.75) ** 0.5
    assert max(Counter(order).values()) == 1


def test_batches_hold_rows_of_similar_length():
    """Padding falls below 5 % where shuffling alone would waste about a third."""
    import random

    draw = random.Random(1)
    lengths = [draw.randrange(20, 250) for _ in range(1024)]
    order = rows.schedule(lengths, [1.0] * 1024, 1, 16, 0)
    batches = [[lengths[i] for i in order[k:k + 16]] for k in range(0, 1024, 16)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    firsts = [batch[0] for batch in batches]
    assert firsts != sorted(firsts)  # long and short batches alternate
