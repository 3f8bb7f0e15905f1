"""tasks/training/folders.py: template, end and pad token are the same wherever a folder states them."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import training_fixtures as tiny

from tasks.errors import ModelError
from tasks.training.folders import check_same_chat, number


@pytest.fixture
def pair(tmp_path):
    """A base folder and a copy of it to change."""
    shutil.copytree(tiny.world() / "base", tmp_path / "other")
    return tiny.world() / "base", tmp_path / "other"


def edit(path, **changes):
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_copy_is_the_same(pair):
    """Any number of folders; the first alone is held to itself."""
    check_same_chat(*pair, pair[0])
    check_same_chat(pair[1])


@pytest.mark.parametrize("file, changes, what", [
    ("tokenizer_config.json", {"eos_token": "<|pad|>"}, "eos_token_id 1, and"),
    ("tokenizer_config.json", {"pad_token": {"content": "<|im_start|>"}}, "pad_token_id 2, and"),
    ("tokenizer_config.json", {"eos_token": "<|never|>"}, "eos_token_id None, and"),
    ("config.json", {"eos_token_id": 0}, "eos_token_id 0, and"),
    ("config.json", {"pad_token_id": None}, "pad_token_id None, and"),
    ("config.json", {"text_config": {"eos_token_id": 7}}, "eos_token_id 7, and"),
    ("generation_config.json", {"eos_token_id": [3, 0]}, r"eos_token_id [3, 0], and"),
    ("generation_config.json", {"pad_token_id": 3}, "pad_token_id 3, and"),
])
def test_each_place_is_read_and_both_are_named(pair, file, changes, what):
    """Changed in one place, it is found there, and the place that says otherwise is named too."""
    first, other = pair
    edit(other / file, **changes)
    with pytest.raises(ModelError, match=f"{re.escape(str(other / file))}: has {re.escape(what)} {re.escape(str(first))}/"):
        check_same_chat(first, other)
    with pytest.raises(ModelError, match="token_id"):
        check_same_chat(other)  # it disagrees with itself


def test_another_template_and_another_vocabulary(pair):
    """One byte of the template; an end token that has another number in tokenizer.json."""
    first, other = pair
    vocabulary = json.loads((other / "tokenizer.json").read_text())
    for added in vocabulary["added_tokens"]:
        added["id"] += added["content"] == "<|im_end|>"
    (other / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(ModelError, match="has eos_token_id 4, and"):
        check_same_chat(first, other)
    (other / "chat_template.jinja").write_bytes((other / "chat_template.jinja").read_bytes() + b"\n")
    with pytest.raises(ModelError, match=r"other/chat_template.jinja: is another template than .*base/chat_template.jinja"):
        check_same_chat(first, other)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "generation_config.json"])
def test_a_missing_file_is_named(pair, name):
    """A folder that leaves it to the reader what ends an answer is not complete."""
    (pair[1] / name).unlink()
    with pytest.raises(ModelError, match=f"other/{name}: is missing"):
        check_same_chat(*pair)


def test_numbers_of_tokens_in_every_kind_of_vocabulary():
    """Added tokens go first; BPE has a mapping, Unigram a list."""
    assert number({"added_tokens": [{"content": "</s>", "id": 9}], "model": {"vocab": {"</s>": 2}}}, "</s>") == 9
    assert number({"model": {"vocab": {"</s>": 2}}}, {"content": "</s>"}) == 2
    assert number({"model": {"vocab": [["<unk>", 0.0], ["</s>", -1.0]]}}, "</s>") == 1
    assert number({"model": {"vocab": [["<unk>", 0.0]]}}, None) is None
