"""tasks/rag/stream.py: the tokens of `generate`, one by one, and never half a character."""

from __future__ import annotations

import pytest
import torch

from tasks.errors import ModelError
from tasks.rag.stream import HALF, Detokenizer, stream
from tasks.training.generate import generate
from tasks.training.models import load_base
from tests.evaluation_fixtures import CPU, teach, write_base
from tests.training_fixtures import instruction_rows


@pytest.fixture(scope="module", params=["untaught", "taught"])
def loaded(request, tmp_path_factory):
    """A tiny model whose answers are noise to the end of the room, and one whose answers end."""
    folder = tmp_path_factory.mktemp("base")
    base = write_base(folder / "base", folder / "start")
    return load_base(teach(base, folder / "taught", 60) if request.param == "taught" else base, CPU)


def test_the_same_as_generate(loaded):
    """Equal tokens, text, end and log-probability; the pieces are the text."""
    chats = [row["messages"][:1] for row in instruction_rows(6, start=900)] + [[{"role": "user", "content": "几点开门？"}]]
    for chat in chats:
        *pieces, whole = stream(*loaded, chat, max_new_tokens=24)
        [[expected]] = generate(*loaded, [chat], max_new_tokens=24, batch_size=1)
        assert (whole.ids, whole.text, whole.ended, whole.tokens) == (
            expected.ids, expected.text, expected.ended, expected.tokens)
        assert whole.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert "".join(pieces).strip() == expected.text
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("text", ["店铺几点开门？9:00。", "naïve café 🙂🙂 end", "  It opens", "x"])
def test_characters_come_whole(loaded, text):
    """Byte-level tokens split Chinese and emoji; what comes out is the text, and no piece holds half a character."""
    tokenizer = loaded[1]
    detokenizer = Detokenizer(tokenizer)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert text == "x" or len(ids) > 1
    pieces = [detokenizer.feed(token) for token in ids]
    assert all(HALF not in piece for piece in pieces)
    assert "".join(pieces) + detokenizer.finish() == text.lstrip()


def test_a_character_that_never_becomes_whole(loaded):
    """An answer cut within one ends with the sign for that, and only there."""
    tokenizer = loaded[1]
    detokenizer = Detokenizer(tokenizer)
    ids = tokenizer("店", add_special_tokens=False)["input_ids"]
    assert [detokenizer.feed(token) for token in ids[:-1]] == [""] * (len(ids) - 1)
    assert detokenizer.finish() == tokenizer.decode(ids[:-1]) and HALF in tokenizer.decode(ids[:-1])


def test_it_can_be_stopped_between_two_tokens(loaded):
    """`check` raises at the fourth token: three were chosen and the model is asked no more."""
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise TimeoutError

    chat = [{"role": "user", "content": "When?"}]
    with pytest.raises(TimeoutError):
        list(stream(*loaded, chat, max_new_tokens=24, check=check))
    assert len(calls) == 4


def test_a_prompt_without_room_is_refused(loaded):
    """As in generate."""
    chat = [{"role": "user", "content": "When? " * 200}]
    with pytest.raises(ModelError, match="exceed the model's window of 256"):
        next(stream(*loaded, chat, max_new_tokens=24))

