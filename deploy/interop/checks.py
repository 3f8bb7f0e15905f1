"""The checks of `make interop`: each is a real reading of the folder, and most have a control that must come out wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.checklist import Row, apart, same
from deploy.environments import ROOT, Environment, plain
from deploy.interop import variants, vllm_rules
from deploy.interop.inside import dequantize, fill, logits, read
from tasks.environment import SETTINGS
from tasks.errors import ModelError
from tasks.files import read_json, replace_dir, write_json
from tasks.params import Params

HOME = ROOT / "build" / "interop"
SIDE = Environment(target="interop", package="auto-gptq", size="5 GB; where uv links files, hardly any beside .venv",
                   lock=ROOT / "deploy" / "interop.lock", home=HOME)
INSIDE = Path(__file__).with_name("inside.py")
THETA = 500_000.0  # of a drawn model, where the folder's own is what old readers take anyhow
OLD_THETA = 10_000.0  # what they take when they are told nothing
TIGHT = 1e-4  # of the largest |logit|: another version of the same arithmetic in fp32
LOOSE = 0.05  # of the largest |logit|: kernels that multiply in bfloat16, which keeps 8 bits, layer after layer
CHATS = (
    [{"role": "user", "content": "When does the Ashgate store open?"}],
    [{"role": "user", "content": "[1] The Ashgate store opens at 9:30.\n[2] 新河店地址：金港路54号。\n\nWho manages the store?"}],
    [{"role": "user", "content": "请问新河店地址在哪？"}],
    [{"role": "user", "content": "What colour is the Sierra table?"}, {"role": "assistant", "content": "It is brown. [1]"},
     {"role": "user", "content": "And for how much does it sell?"}],
)
Logits = dict[str, Any]  # number of the prompt → (T, V)


@dataclass(frozen=True)
class Readings:
    """What the environment beside ours read: logits where it could, the reason where it could not."""

    logits: dict[str, Logits]
    facts: dict[str, dict[str, Any]]
    versions: dict[str, str]

    def row(self, check: str, what: str, name: str, make: Callable[[Logits], Row]) -> Row:
        """`make` of the reading `name`; a failed row with the reason where there is none."""
        for needed in (name, "dense"):
            if needed not in self.logits:
                return Row(check, what, None, False, f"NOT READ: {self.facts[needed].get('error', 'no reason given')}")
        return make(self.logits[name])


def run(model: Path, params: Params, home: Path = HOME) -> tuple[list[Row], dict[str, str]]:
    """All rows for a quantized folder, and the versions that took part.

    Leaves `home`/for-auto-gptq, a copy with its head written out, where the folder's is tied to the embedding.
    ModelError when `model` is no GPTQ folder, ServiceError when the environment cannot be installed.
    """
    refuse_other(model)
    SIDE.install()
    work = home / "work"
    for old in (work, home / "for-auto-gptq"):
        shutil.rmtree(old, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        rows, versions = _rows(model, params, work)
        if (work / "headed").is_dir():
            replace_dir(work / "headed", home / "for-auto-gptq")
        return rows, versions
    finally:
        shutil.rmtree(work, ignore_errors=True)


def refuse_other(model: Path) -> None:
    """ModelError unless this is a GPTQ folder."""
    remedy = 'run make nightly first, or give another folder: make interop FLAGS="--model DIR"'
    if not model.is_dir():
        raise ModelError(str(model), "is missing", remedy)
    if not (model / "quantize_config.json").is_file() or not list(model.glob("*.safetensors")):
        raise ModelError(str(model), "is no GPTQ folder (quantize_config.json and *.safetensors)", remedy)


def _rows(model: Path, params: Params, work: Path) -> tuple[list[Row], dict[str, str]]:
    import transformers

    from tasks.training.hardware import set_up
    from tasks.training.models import quiet
    from tasks.training.tokens import encode_chat, load_tokenizer

    set_up(params.compute)
    quiet()
    tokenizer = load_tokenizer(model)
    prompts = [encode_chat(tokenizer, chat, add_generation_prompt=True) for chat in CHATS]
    tied = variants.lacks_head(model)
    headed = variants.with_head(model, work / "headed") if tied else model
    drawn = variants.rotary_base(model) in (None, OLD_THETA)
    turned = variants.drawn(model, THETA, params.quantize, params.compute, work) if drawn else headed
    theta = variants.rotary_base(turned)

    reads = {"auto-gptq": (headed, "auto-gptq"), "dense": (headed, "dense"),
             "v2": (variants.as_v2(headed, work / "v2"), "auto-gptq"), "theta": (turned, "auto-gptq"),
             "no theta": (variants.copy(turned, work / "no-theta", without="rope_theta"), "auto-gptq")}
    if tied:
        reads["as it lies"] = (model, "auto-gptq")
    found = inside(reads, prompts, params.compute.threads, work)
    dense, here = found.logits.get("dense", {}), _dense(headed, prompts)
    straight = _dense(turned, prompts) if drawn else here
    new = transformers.__version__
    old = f"auto-gptq {found.versions['auto-gptq']} with transformers {found.versions['transformers']}"

    def row(check: str, what: str, name: str, make: Callable[[str, str, Logits], Row]) -> Row:
        return found.row(check, what, name, lambda logits: make(check, what, logits))

    rows = [
        row("auto-gptq is a plain dequantization", f"{old}, fp32: {len(prompts)} prompts, {sum(map(len, prompts))} positions",
            "auto-gptq", lambda check, what, logits: same(check, what, logits, dense, 0)),
        row("control: the same as gptq_v2", "zeros without the −1, read without an error", "v2",
            lambda check, what, logits: apart(check, what, logits, dense, LOOSE))]
    if tied:
        rows.append(row("control: a tied head, not written out", "auto-gptq leaves the embedding unset, without an error",
                        "as it lies", lambda check, what, logits: apart(check, what, logits, dense, LOOSE)))
    rows += [
        row("transformers of today says the same", f"transformers {new}, dequantized, fp32", "dense",
            lambda check, what, logits: same(check, what, here, logits, TIGHT)),
        same("so does what serves", f"transformers {new} with GPTQModel's kernel", _kernel(model, prompts, params), here, LOOSE),
        row(f"rope_theta {theta:g} is read", old + (", a drawn Llama" if drawn else ""), "theta",
            lambda check, what, logits: _turned(same(check, what, logits, straight, TIGHT), found.facts["theta"], theta)),
        row("control: no rope_theta at the top", f"old readers take {OLD_THETA:g}, without an error", "no theta",
            lambda check, what, logits: _turned(apart(check, what, logits, straight, TIGHT), found.facts["no theta"], OLD_THETA)),
        vllm(model)]
    return rows, {**found.versions, "transformers here": new}


def inside(reads: dict[str, tuple[Path, str]], prompts: list[list[int]], threads: int, work: Path) -> Readings:
    """Each reading, name → (folder, by), in one process of the environment beside ours."""
    from safetensors.torch import load_file

    out = work / "out"
    out.mkdir()
    write_json(work / "job.json", {"threads": threads, "prompts": prompts, "out": str(out.resolve()), "reads": [
        {"name": name, "folder": str(folder.resolve()), "by": by} for name, (folder, by) in reads.items()]})
    SIDE.run([str(SIDE.python), str(INSIDE), str((work / "job.json").resolve())], {**plain(os.environ), **SETTINGS}, work)
    facts = read_json(out / "facts.json")
    return Readings({name: load_file(out / f"{name}.safetensors") for name in reads if "error" not in facts["reads"][name]},
                    facts["reads"], facts["versions"])


def architecture(model: Path) -> dict[str, tuple[int, int]]:
    """Linear layer of the decoder blocks → (in, out), without any weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from tasks.training.quantized import quantizable

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(_config(model))
    return {name: (layer.in_features, layer.out_features) for name, layer in quantizable(empty).items()}


def vllm(model: Path) -> Row:
    """vLLM's rules for the format, which are read and not run."""
    check, what = "vLLM's rules for the format", "read in its source, not run"
    verdict = vllm_rules.check(model, architecture(model))
    if verdict.problems:
        more = f" (and {len(verdict.problems) - 1} more)" if len(verdict.problems) > 1 else ""
        return Row(check, what, None, False, f"BROKEN: {verdict.problems[0]}{more}")
    kernels = "; ".join(f"{platform}: {', '.join(names)}" for platform, names in verdict.kernels.items())
    return Row(check, f"{what}. Kernels: {kernels}", None, True, "kept")


def _dense(folder: Path, prompts: list[list[int]]) -> Logits:
    """The folder dequantized into an unquantized model of our transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(_config(folder), dtype=torch.float32)
    return logits(fill(model, dequantize(read(folder), read_json(folder / "quantize_config.json"))), prompts)


def _kernel(model: Path, prompts: list[list[int]], params: Params) -> Logits:
    """The folder as the service loads it."""
    from tasks.training.quantized import load_quantized

    return {name: rows.cpu() for name, rows in logits(load_quantized(model, params.compute)[0], prompts).items()}


def _config(folder: Path) -> Any:
    """The architecture's configuration, as if nothing had been quantized."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _turned(row: Row, facts: dict[str, Any], theta: float) -> Row:
    """`row` where the reader turned by `theta`; a failed one where it used another."""
    used = facts["theta"]
    if used is None or abs(used / theta - 1) > 1e-3:
        return Row(row.check, row.what, row.difference, False, f"WRONG: {used} was used")
    return row
