"""The committed starter models: small, loadable offline, and as good as recipe.json says; the tokenizer's reload."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from starter import embedder, tokenizer
from starter.evaluate import accuracy

STARTER = Path(__file__).parent.parent / "starter"
BASE, EMBEDDER = STARTER / "base", STARTER / "embedder"


def test_tokenizer_reloads_identically():
    """AutoTokenizer beside a Llama config gives the ids that the saved file gives."""
    saved = PreTrainedTokenizerFast(tokenizer_file=str(BASE / "tokenizer.json"))
    assert len(saved) == tokenizer.ENTRIES
    tokenizer.check_reload(BASE, saved, count=100)


def test_names_numbers_and_chinese_are_single_tokens():
    """What has to be copied is one token: names after a space, 0-999, clock times, Chinese characters."""
    tok = AutoTokenizer.from_pretrained(BASE)
    wanted = [" " + word for word in tokenizer.single_words()] + [str(n) for n in range(1000)]
    wanted += ["9:15", "22:45", *tokenizer.chinese_characters()]
    assert [text for text in wanted if len(tok(text)["input_ids"]) != 1] == []


def test_no_chat_template_is_saved():
    """The chat template is the product's own file; two of them would drift apart."""
    assert AutoTokenizer.from_pretrained(BASE).chat_template is None


@pytest.mark.parametrize("folder", [BASE, EMBEDDER], ids=["base", "embedder"])
def test_files_are_small(folder: Path):
    """The repository carries weights of a few megabytes, never more than 25."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files and max(p.stat().st_size for p in files) <= 25 * 2**20


def test_base_loads_with_quantizable_layers():
    """Every Linear fits int4 kernels: in_features % 64 == 0 and out_features % 16 == 0; the dtype is stated."""
    model = AutoModelForCausalLM.from_pretrained(BASE)
    assert model.dtype == torch.bfloat16
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    assert all(m.in_features % 64 == 0 and m.out_features % 16 == 0 for m in linears)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    config = json.loads((BASE / "config.json").read_text())
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 100_000.0


def test_base_copies_as_well_as_the_recipe_says():
    """Forty fresh cases with one passage and with three: within four standard errors of the recorded accuracy."""
    recorded = json.loads((BASE / "recipe.json").read_text())["accuracy"]
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    now = accuracy(model, AutoTokenizer.from_pretrained(BASE), 40, seed=77, only=("en1", "en3", "zh1"))
    for cell in ("en1", "en3", "zh1"):
        p = recorded[cell]
        margin = 4 * (max(p * (1 - p), 0.04) / 40) ** 0.5
        assert now[cell] >= p - margin, (cell, now[cell], p)


def test_embedder_loads_offline_and_ranks():
    """One small collection: the recorded recall@1 holds with a margin of 0.1, and vectors have length 1."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(EMBEDDER), device="cpu")
    recorded = json.loads((EMBEDDER / "recipe.json").read_text())
    for lang in ("en", "zh"):
        found = embedder.recall(model, lang, passages=300, seed=21)
        assert found["recall@1"] >= recorded[lang]["recall@1"] - 0.1
    assert torch.tensor(model.encode(["When does the Thornleigh store open?"])).norm().item() == pytest.approx(
        1, abs=1e-4
    )


def test_embedder_training_is_deterministic():
    """Two short trainings from one seed give the same table."""
    tables = []
    for _ in range(2):
        model = embedder.new_model(BASE, seed=5)
        embedder.train(model, steps=3, batch=16, lr=0.03, seed=5)
        tables.append(model.state_dict()["0.embedding.weight"])
    assert torch.equal(*tables)
