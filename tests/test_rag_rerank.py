"""tasks/rag/rerank.py: a real CrossEncoder of a few numbers whose order can be told beforehand, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tasks.errors import ModelError, ParamsError
from tasks.rag.rerank import CrossEncoder, load_reranker
from tests.rag_fixtures import STARTER
from tests.test_answers import CFG
from tests.test_rag_embedder import CPU


def write_cross_encoder(folder: Path, weights: dict[str, float], labels: int = 1) -> Path:
    """A BERT without layers that reads one number a word and scores a pair by tanh of the mean's first component.

    Only the words of `weights` are known; all others are [UNK] with weight 0, and so are the special tokens.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *weights]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    config = BertConfig(vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                        intermediate_size=8, max_position_embeddings=64, num_labels=labels)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        embeddings, layer = model.bert.embeddings, model.bert.encoder.layer[0]
        for n, word in enumerate(words):  # ±w about a constant part, so that LayerNorm keeps it apart
            weight = weights.get(word, 0.0)
            embeddings.word_embeddings.weight[n] = torch.tensor([weight, -weight, 3.0, -3.0, 0, 0, 0, 0])
        for norm in (embeddings.LayerNorm, layer.attention.output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1.0)
        layer.attention.self.value.weight.copy_(torch.eye(8))  # no queries, no keys: every token looks at all alike
        layer.attention.output.dense.weight.copy_(torch.eye(8))
        model.bert.pooler.dense.weight.copy_(torch.eye(8))
        model.classifier.weight[:, 0] = 1.0
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                            sep_token="[SEP]", model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model that likes "good" and dislikes "bad"."""
    return write_cross_encoder(tmp_path_factory.mktemp("reranker") / "model", {"good": 2.0, "bad": -2.0, "lamp": 0.0})


def test_scores_are_the_models_own(folder):
    """Good above neutral above bad, whatever stands beside them, in one order of passages and in the other."""
    model = CrossEncoder(folder, "mine", "cpu")
    passages = ["bad lamp", "a lamp", "good lamp", "good good lamp"]
    scores = model.scores("lamp?", passages)
    assert scores == sorted(scores) and len(set(scores)) == 4 and scores[1] == pytest.approx(0.0, abs=1e-6)
    assert model.scores("lamp?", passages[::-1]) == pytest.approx(scores[::-1], abs=1e-6)
    assert model.scores("lamp?", []) == [] and len(model.weights_sha256) == 64


def test_where_rerankers_come_from(folder):
    """null is none; a folder by name; a hub id needs its revision; a typo is told what there is."""
    assert load_reranker(CFG, CPU) is None
    assert load_reranker(CFG.model_copy(update={"reranker": str(folder)}), CPU).name == str(folder)
    with pytest.raises(ParamsError, match=r"answers.reranker_revision: 'main' does not pin BAAI/bge-reranker-v2-m3"):
        load_reranker(CFG.model_copy(update={"reranker": "BAAI/bge-reranker-v2-m3", "reranker_revision": "main"}), CPU)
    with pytest.raises(ParamsError, match=r"answers\.reranker: 'rerankr' is no folder and no hub id"):
        load_reranker(CFG.model_copy(update={"reranker": "rerankr"}), CPU)


def test_models_that_are_not_loaded(folder, tmp_path):
    """An embedding model would get a head of random numbers; two labels have no order; pickles and code are not read."""
    with pytest.raises(ModelError, match="holds no CrossEncoder"):
        CrossEncoder(STARTER, "starter", "cpu")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no CrossEncoder \(no config.json\)"):
        CrossEncoder(tmp_path / "empty", "empty", "cpu")
    with pytest.raises(ModelError, match="gives 2 scores a pair"):
        CrossEncoder(write_cross_encoder(tmp_path / "two", {"good": 1.0}, labels=2), "two", "cpu")
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds no safetensors weights"):
        CrossEncoder(pickled, "pickled", "cpu")
    code = shutil.copytree(folder, tmp_path / "code")
    (code / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "custom.Evil"}]))
    with pytest.raises(ModelError, match=r"brings code of its own \(custom.Evil\)"):
        CrossEncoder(code, "code", "cpu")
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="cannot be loaded"):
        CrossEncoder(broken, "broken", "cpu")
