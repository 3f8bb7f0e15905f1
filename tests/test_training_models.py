"""Loading, merging and saving: the same tokens, the same template, and weights that add up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import training_fixtures as tiny

from tasks.errors import ModelError
from tasks.training import hardware, models, tokens

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "When does Marsh open?"},
        {"role": "assistant", "content": "At 11."}, {"role": "user", "content": "And Redford?"},
        {"role": "assistant", "content": "At 12."}]


def tokenizer():
    """The tiny base's tokenizer, with our template."""
    return tokens.load_tokenizer(tiny.world() / "base")


def test_chatml_renders_turns_and_nothing_after_the_last_end_token():
    """Turns are joined by newlines, so a conversation is exactly prompt + answer + end token."""
    text = tokens.render_chat(tokenizer(), CHAT[:3])
    assert text == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhen does Marsh open?<|im_end|>\n"
                    "<|im_start|>assistant\nAt 11.<|im_end|>")
    prompt = tokens.render_chat(tokenizer(), CHAT[:2], add_generation_prompt=True)
    assert text == prompt + "At 11.<|im_end|>"


def test_the_mask_covers_the_answers_with_their_end_tokens():
    """Decoded, the marked tokens are the two answers, each with its end token, and no newline after it."""
    t = tokenizer()
    ids, mask = tokens.encode_response(t, CHAT)
    marked = [i for i, m in zip(ids, mask, strict=True) if m]
    assert t.decode(marked) == "At 11.<|im_end|>At 12.<|im_end|>"
    assert ids[-1] == t.eos_token_id and mask[-1] == 1
    assert ids == tokens.encode_chat(t, CHAT)


def test_gemma_template_has_one_bos_and_puts_the_system_text_into_the_first_turn():
    """Roles are user and model; the system text opens the first user turn."""
    t = tiny.tiny_tokenizer()
    t.chat_template = (tiny.TEMPLATES / "gemma.jinja").read_text()
    assert tokens.render_chat(t, CHAT[:3]) == (
        "<|endoftext|><start_of_turn>user\nBe brief.\n\nWhen does Marsh open?<end_of_turn>\n"
        "<start_of_turn>model\nAt 11.<end_of_turn>")
    assert tokens.render_chat(t, CHAT[:2], True).endswith("<end_of_turn>\n<start_of_turn>model\n")


def test_probe_texts_are_many_and_of_all_kinds():
    """Several hundred different strings: English, Chinese, digits, code, odd spaces."""
    texts = tokens.probe_texts()
    assert len(set(texts)) > 300
    joined = "".join(texts)
    assert all(part in joined for part in ("资料没有说明", "def f(x)", "1000000", "  two  spaces"))


def test_save_model_writes_exactly_a_model_folder(tmp_path):
    """No optimizer, no training arguments, no card; and a second save gives the same bytes."""
    model, t = models.load_base(tiny.world() / "base", tiny.params().compute)
    for name in ("a", "b"):
        models.save_model(model, t, tmp_path / name)
    assert tiny.names(tmp_path / "a") == ["chat_template.jinja", "config.json", "generation_config.json",
                                          "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    for name in tiny.names(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    settings = json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert str(tmp_path) not in json.dumps(settings)


def test_a_tokenizer_that_reloads_with_other_ids_is_refused():
    """The trap of AutoTokenizer: another pre-tokenizer after reload, other tokens everywhere."""
    from tokenizers import pre_tokenizers

    other = tokenizer()
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    with pytest.raises(ModelError, match="tokens in memory and"):
        tokens.check_same_tokens(tokenizer(), other, "there")


def test_another_template_or_end_token_is_refused():
    """Both would go unseen until the model babbles."""
    changed = tokenizer()
    changed.chat_template = changed.chat_template.replace("assistant", "bot")
    with pytest.raises(ModelError, match="the chat template changed"):
        tokens.check_same_tokens(tokenizer(), changed, "there")
    changed = tokenizer()
    changed.eos_token = "<|endoftext|>"
    with pytest.raises(ModelError, match="eos_token_id changed from 3 to 0"):
        tokens.check_same_tokens(tokenizer(), changed, "there")


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: setattr(t, "chat_template", None), "has no chat template"),
    (lambda t: setattr(t, "pad_token", t.eos_token), "needs a pad token that is not the end token"),
    (lambda t: setattr(t, "chat_template", t.chat_template.replace("generation -%}", "if true -%}", 1)
               .replace("endgeneration", "endif")), "marks no answer"),
    (lambda t: setattr(t, "chat_template", t.chat_template + "{{- '\\n' -}}"), "does not end an answer with the end"),
    (lambda t: setattr(t, "chat_template", t.chat_template.replace("assistant\\n'", "assistant:'")), "opens an answer"),
])
def test_a_tokenizer_that_cannot_chat_is_refused(change, message):
    """No template, pad = end, no marks, text after the end, or another opening in generation."""
    t = tokenizer()
    change(t)
    with pytest.raises(ModelError, match=message):
        tokens.check_tokenizer(t, "there")


def test_missing_folders_are_named(tmp_path):
    """The error says which stage writes what is missing."""
    compute = tiny.params().compute
    with pytest.raises(ModelError, match="holds no tokenizer"):
        models.load_base(tmp_path / "none", compute)
    model, _ = models.load_base(tiny.world() / "base", compute)
    with pytest.raises(ModelError, match="holds no adapter"):
        models.with_adapter(model, tmp_path)
    shutil.copytree(tiny.world() / "base", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="run the stage that writes it again"):
        models.load_base(tmp_path / "base", compute)


def test_a_fresh_adapter_changes_nothing():
    """B = 0 at the start, so the logits are identical, not just close (Hu et al. 2021, §4.1)."""
    import torch
    from peft import get_peft_model

    from tasks.training.trainers import lora_config

    model, t = models.load_base(tiny.world() / "base", tiny.params().compute)
    ids = torch.tensor([tokens.encode_chat(t, CHAT)])
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        peft = get_peft_model(model, lora_config(tiny.params().sft.lora, "CAUSAL_LM", model)).eval()
        assert torch.equal(peft(input_ids=ids).logits, before)


@pytest.mark.parametrize(("targets", "missing"), [(["q_proj", "qkv"], "qkv"), (["attn.v_proj", "q_pro"], "attn.v_proj, q_pro"),
                                                  (["self_attn.q_proj", "v_proj"], None)])  # fmt: skip
def test_an_adapter_goes_where_it_is_told_to_or_nowhere(targets, missing):
    """Of several targets PEFT passes over one that no module is called by; here it is named, with those that there are."""
    from tasks.training.trainers import lora_config

    model, _ = models.load_base(tiny.world() / "base", tiny.params().compute)
    lora = tiny.params().sft.lora.model_copy(update={"targets": targets})
    if missing is None:
        assert lora_config(lora, "CAUSAL_LM", model).target_modules == set(targets)
        return
    with pytest.raises(ModelError) as refused:
        lora_config(lora, "CAUSAL_LM", model)
    assert str(refused.value) == f"lora.targets: the model has no {missing}; take all-linear, or some of " \
                                 "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"


def test_load_policy_adds_the_scaled_product_by_hand():
    """W ← W + (α/r)·BA with r = 4, α = 8: the factor is 2."""
    import torch
    from safetensors.torch import load_file

    compute, base, sft = tiny.params().compute, tiny.world() / "base", tiny.trained("sft")
    adapter = load_file(sft / "adapter_model.safetensors")
    name = "model.layers.1.self_attn.v_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{k}.weight"] for k in "AB")  # (r, in), (out, r)
    w0 = models.load_base(base, compute)[0].get_submodule(name).weight
    w = models.load_policy(base, [sft], compute)[0].get_submodule(name).weight
    assert a.shape == (4, 32) and b.abs().max() > 0
    assert torch.allclose(w, w0 + 8 / 4 * b @ a, atol=1e-7)
    assert w.dtype == torch.float32


def test_cuda_without_a_gpu_is_an_error():
    """Not a silent and slow fall-back."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match="no usable GPU"):
        hardware.device_of(tiny.params().compute.model_copy(update={"device": "cuda"}))


def test_a_training_does_not_import_the_quantizer(tmp_path):
    """PEFT asks whether a layer is GPTQModel's; stage sft, base to measured adapter, must not load that to answer."""
    code = """
import sys
sys.path[:0] = sys.argv[4:]
from tasks import environment
environment.apply()
from pathlib import Path
import training_fixtures as tiny
out, data, base = map(Path, sys.argv[1:4])
tiny.world = lambda: out
tiny.run_stage("sft", out / "sft", base=base, dataset=data)
print(sys.modules.get("gptqmodel"))
"""
    told, here = tiny.inputs("sft"), Path(__file__).parent
    command = [sys.executable, "-c", code, tmp_path, told["dataset"], told["base"], here, here.parent]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "None\n", done.stdout + done.stderr[-2000:]
