"""Several assistants on one base: each says what its merged model says, however often they take turns."""

from __future__ import annotations

import pytest
import training_fixtures as tiny

from tasks.errors import ModelError
from tasks.training.models import load_base, load_policy
from tasks.training.shelf import Shelf


def test_assistants_take_turns():
    """Two stacks and the base: the logits of each merged model, in any order, and the base to the bit."""
    import torch

    base, compute, ids = tiny.world() / "base", tiny.params().compute, torch.arange(40, 60)[None]
    stacks = {"taught": [tiny.trained("sft")], "aligned": [tiny.trained("sft"), tiny.trained("align")]}
    shelf = Shelf(*load_base(base, compute))
    for name, adapters in stacks.items():
        shelf.put(name, adapters)
    with torch.inference_mode():
        merged = {name: load_policy(base, adapters, compute)[0](input_ids=ids).logits for name, adapters in stacks.items()}
        assert (merged["taught"] - merged["aligned"]).abs().max() > 1e-4
        for name in ("aligned", "taught", "aligned"):
            assert (shelf.turn(name)(input_ids=ids).logits - merged[name]).abs().max() < 1e-5
        with shelf.model.disable_adapter():
            assert torch.equal(shelf.model(input_ids=ids).logits, load_base(base, compute)[0](input_ids=ids).logits)


def test_what_does_not_belong_there_is_named(tmp_path):
    """A second assistant of a name, one without adapters, an empty folder, an unknown name."""
    shelf = Shelf(*load_base(tiny.world() / "base", tiny.params().compute))
    shelf.put("one", [tiny.trained("sft")])
    for name, adapters, said in (("one", [tiny.trained("sft")], "is on the shelf already"), ("two", [], "has no adapter"),
                                 ("two", [tmp_path], "holds no adapter")):
        with pytest.raises(ModelError, match=said):
            shelf.put(name, adapters)
    with pytest.raises(ModelError, match="there are: one"):
        shelf.turn("three")
