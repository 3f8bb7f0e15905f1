"""Quantize the merged model by GPTQ (Frantar et al. 2022, arXiv:2210.17323) and measure what it costs.

Done by GPTQModel, the maintained successor of auto-gptq, in its plain "gptq" format: transformers loads the folder, and
so does auto-gptq 0.7.1. Its "original" packer is chosen because the other one compiles a C++ extension at first use
(half a minute, and a compiler) to write the same bytes.

Accuracy is too blunt to see quantization; the comparison is of distributions, on held-out chats, along the unquantized
model's own greedy answers. Beside it stands round-to-nearest at the same size: what GPTQ has to beat. What people notice
stands there too: the same chats' answers of both models, judged case by case.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.behaviours import Limits
from tasks.errors import ModelError
from tasks.evaluation.fidelity import Fidelity, along, identical, measure, references
from tasks.evaluation.kept import Kept, judged, kept
from tasks.files import read_json, read_jsonl, write_json
from tasks.params import Compute, Evaluate, Quantize, Seed
from tasks.progress import log
from tasks.reports import Report
from tasks.training.folders import check_same_chat
from tasks.training.hardware import answering, device_of, dtype_of, set_up
from tasks.training.models import load_base
from tasks.training.quantized import check_dimensions, hushed, load_quantized, quantizable, round_to_nearest
from tasks.training.rows import read_rows
from tasks.training.tokens import check_same_tokens, encode_chat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SETS = ("facts", "context", "unanswerable")
SHORTEST = 10  # tokens; gptqmodel drops shorter calibration rows, so they are left out and counted here
GRID_NORM = 2.4  # exponent of the error norm in the search for scales, as in the GPTQ authors' code
PACKED = (".qweight", ".qzeros", ".scales", ".g_idx")


class Calibration(Report):
    """What the Hessians were summed over."""

    chats: int = Field(description="training chats in the chat template")
    tokens: int = Field(description="their tokens")
    too_short: int = Field(description=f"chats left out because they have fewer than {SHORTEST} tokens")


class Module(Report):
    """What GPTQModel logs of one layer."""

    name: str = Field(description="layers.BLOCK.MODULE")
    loss: float | None = Field(description="mean squared error of its output, weighed by the Hessian; null: rounded to nearest")
    tokens: int = Field(description="calibration tokens that it saw")


class Layers(Report):
    """What GPTQ says of the layers."""

    quantized: int = Field(description="linear layers quantized")
    modules: list[Module] = Field(description="all of them, by block and name")
    fallbacks: list[str] = Field(description="layers that saw too few tokens and were rounded to nearest instead")
    least_tokens: int = Field(description="calibration tokens of the layer that saw fewest")
    worst: str = Field(description="layer with the largest loss")
    worst_loss: float = Field(description="its loss as GPTQModel gives it: mean squared error, weighed by the Hessian")


class Sizes(Report):
    """Bytes of tensors. Embedding, head and norms are not quantized, so a small model shrinks less than a large one."""

    total_bytes: int = Field(description="all tensors of the folder")
    quantized_bytes: int = Field(description="packed weights with scales, zeros and group indices")
    unquantized_bytes: int = Field(description="everything else")
    unquantized: list[str] = Field(description="the tensors that stay as they are and hold 1 % of the total or more")
    merged_bytes: int = Field(description="all tensors of the merged model, fp32")
    share_of_bf16: float = Field(description="total_bytes over the merged model's size in bfloat16")
    bits_a_weight: float = Field(description="quantized_bytes in bits over the weights they hold")


class QuantizeReport(Report):
    """How small the model became and how faithful it stayed."""

    bits: int = Field(description="bits of a quantized weight")
    group_size: int = Field(description="weights that share a scale")
    symmetric: bool = Field(description="levels symmetric about 0; false: with zero-points")
    order: str = Field(description="of columns: activation (act_order), group (act_group_aware), or as they stand")
    calibration: Calibration = Field(description="what the quantizer saw")
    layers: Layers = Field(description="what it says of the layers")
    sizes: Sizes = Field(description="bytes before and after")
    chats: int = Field(description="held-out chats of the comparison")
    tokens: int = Field(description="answer tokens of the comparison")
    perplexity: float = Field(description="of the unquantized model, on the answers of instructions/eval.jsonl")
    quantized: Fidelity = Field(description="the quantized model against the unquantized one")
    rounded: Fidelity = Field(description="round-to-nearest on the same grid, for comparison")
    kept: Kept = Field(description="behaviours of the quantized model beside the unquantized one's, on the same chats")


def quantize(cfg: Quantize, judging: Evaluate, compute: Compute, seed: Seed, merged: Path, calibration: Path,
             evaluation: Path, out: Path) -> QuantizeReport:
    """Write a GPTQ model folder and compare it with `merged`.

    `calibration`: artifacts/dataset/instructions; `evaluation`: artifacts/dataset/evaluation; `judging` says what a concise
    answer is. ModelError when a layer's dimensions cannot be packed, when a layer was left out, or when tokenizer, template
    or end token would change.
    """
    compute = compute.at(cfg.precision)
    set_up(compute, seed.value)
    model, tokenizer = load_base(merged, compute)
    check_dimensions(model, cfg.group_size, str(merged))
    chats, seen = calibration_chats(cfg, seed.value, tokenizer, calibration / "train.jsonl")
    log(f"quantize: {len(quantizable(model))} layers to {cfg.bits} bits over {seen.chats} chats, {seen.tokens} tokens")
    run_gptq(cfg, compute, merged, chats, out)
    layers = read_log(out / "quant_log.csv")
    complete_folder(merged, out)
    halve(out)
    sizes = weigh(model, out)

    small, again = load_quantized(out, compute)
    check_same_tokens(tokenizer, again, str(out))
    check_same_chat(merged, out)
    rounded = copy.deepcopy(model)
    for layer in quantizable(rounded).values():
        layer.weight.data = round_to_nearest(layer.weight.data, cfg.bits, cfg.group_size, cfg.symmetric)
    model, rounded = answering(model, compute), answering(rounded, compute)
    cases = held_out(evaluation, calibration / "eval.jsonl", cfg.chats)
    log(f"quantize: {len(cases)} held-out chats answered by both models")
    work = {"max_new_tokens": cfg.max_new_tokens, "batch_size": cfg.batch_size}
    chats = [case["messages"] for case in cases]
    spoken, answers = along(model, tokenizer, chats, **work)
    _, small_answers = along(small, tokenizer, chats, **work)
    known = references(tokenizer, read_rows(calibration / "eval.jsonl", ["id", "messages"]), cfg.chats, cfg.max_length)
    figures, perplexity = measure(model, {"quantized": small, "rounded": rounded}, spoken, known,
                                  pad=tokenizer.pad_token_id, batch_size=cfg.batch_size, seed=seed.value)
    likeness = figures["quantized"].model_copy(update={"identical": identical(small_answers, answers)})
    limits = Limits(judging.concise_words, judging.concise_characters)
    beside = kept(judged(cases, answers, limits), judged(cases, small_answers, limits), seed.value)
    log(f"quantize: agreement {likeness.agreement.mean:.4f}, KL {likeness.kl.mean:.2e} nats a token "
        f"(round-to-nearest {figures['rounded'].kl.mean:.2e}), {sizes.total_bytes} bytes")
    return QuantizeReport(
        bits=cfg.bits, group_size=cfg.group_size, symmetric=cfg.symmetric,
        order="activation" if cfg.act_order else "group" if cfg.act_group_aware else "as they stand",
        calibration=seen, layers=layers, sizes=sizes, chats=len(cases), tokens=sum(len(s.answer) for s in spoken),
        perplexity=perplexity, quantized=likeness, rounded=figures["rounded"], kept=beside)


def calibration_chats(cfg: Quantize, seed: int, tokenizer: PreTrainedTokenizerBase,
                      path: Path) -> tuple[list[list[int]], Calibration]:
    """Token ids of `cfg.calibration_chats` training rows, chosen by seed and id, as the model meets them."""
    rows = read_rows(path, ["id", "messages"])
    rows.sort(key=lambda row: hashlib.sha256(f"{seed}/{row['id']}".encode()).digest())
    encoded = [encode_chat(tokenizer, row["messages"])[: cfg.max_length] for row in rows[: cfg.calibration_chats]]
    kept = [ids for ids in encoded if len(ids) >= SHORTEST]
    if not kept:
        raise ModelError(str(path), f"has no chat of {SHORTEST} tokens to calibrate with", "add instruction rows")
    return kept, Calibration(chats=len(kept), tokens=sum(map(len, kept)), too_short=len(encoded) - len(kept))


def run_gptq(cfg: Quantize, compute: Compute, merged: Path, chats: list[list[int]], out: Path) -> None:
    """Let GPTQModel quantize `merged` into `out`. Two runs write the same bytes, but for the times in quant_log.csv."""
    import torch

    with hushed(str(merged), "GPTQModel cannot quantize it") as say:
        from gptqmodel import GPTQModel, QuantizeConfig

        settings = QuantizeConfig(
            bits=cfg.bits, group_size=cfg.group_size, desc_act=cfg.act_order, act_group_aware=cfg.act_group_aware,
            sym=cfg.symmetric, format="gptq", damp_percent=cfg.damp,
            mse=GRID_NORM if cfg.scale_search else 0.0, pack_impl="original",
            device=str(device_of(compute)), offload_to_disk=False)  # else a random path gets into config.json
        quantizer = GPTQModel.load(str(merged), settings, dtype=dtype_of(compute.precision))
        blocks = quantizer.model.config.get_text_config().num_hidden_layers
        done: set[int] = set()

        def layer_complete(layer_idx: int, submodule_finalized: bool) -> None:  # called twice a block
            if layer_idx not in done:
                done.add(layer_idx)
                say(f"quantize: block {len(done)} of {blocks}")

        quantizer.layer_callback = layer_complete
        rows = [{"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
                for ids in chats]
        quantizer.quantize(rows, batch_size=min(cfg.batch_size, len(rows)))
        quantizer.save(str(out))


def read_log(path: Path) -> Layers:
    """GPTQModel's record of each layer, read and removed: it holds times, which would change every hash."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path.unlink()
    modules = [Module(name=f"layers.{row['layer']}.{row['module']}", tokens=int(row["samples"]),
                      loss=None if row["loss"].startswith("fallback") else float(f"{float(row['loss']):.4g}"))
               for row in sorted(rows, key=lambda row: (int(row["layer"]), row["module"]))]
    worst = max((m for m in modules if m.loss is not None), key=lambda m: m.loss, default=None)
    return Layers(quantized=len(rows), modules=modules, fallbacks=[m.name for m in modules if m.loss is None],
                  least_tokens=min((m.tokens for m in modules), default=0), worst=worst.name if worst else "",
                  worst_loss=worst.loss if worst else 0.0)


def complete_folder(merged: Path, out: Path) -> None:
    """Keep GPTQModel's weights and settings; everything else is carried over from `merged`, byte for byte.

    GPTQModel rewrites the tokenizer's class and the generation settings on saving; what is served must not change.
    """
    settings = read_json(out / "config.json")["quantization_config"]
    for file in out.iterdir():
        if file.suffix != ".safetensors" and file.name != "model.safetensors.index.json":
            file.unlink()
    for file in sorted(merged.iterdir()):
        if file.is_file() and file.suffix != ".safetensors" and not file.name.endswith(".index.json"):
            shutil.copyfile(file, out / file.name)
    config = read_json(merged / "config.json")
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None:
        config["rope_theta"] = theta  # where readers older than transformers 5 look for it; they would take 10,000
    write_json(out / "config.json", config | {"quantization_config": settings})
    write_json(out / "quantize_config.json", settings)


def halve(out: Path) -> None:
    """Store what was not quantized in bfloat16 where that loses nothing, tensor by tensor.

    A base is published in bfloat16 and adapters leave its embedding alone, which is most of a small model's bytes.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    for file in sorted(out.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            metadata = tensors.metadata()
        stored = load_file(file)
        for name, tensor in stored.items():
            if tensor.dtype == torch.float32 and not name.endswith(PACKED):
                half = tensor.to(torch.bfloat16)
                if torch.equal(half.to(torch.float32), tensor):
                    stored[name] = half
        save_file(stored, file, metadata)


def weigh(model: PreTrainedModel, out: Path) -> Sizes:
    """Bytes of the tensors in `out`; ModelError when a layer that should be quantized is not."""
    from safetensors import safe_open

    found: dict[str, int] = {}
    for file in sorted(out.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (no mapping)
                tensor = tensors.get_tensor(name)
                found[name] = tensor.numel() * tensor.element_size()
    layers = quantizable(model)
    left_out = sorted(name for name in layers if f"{name}.qweight" not in found)
    if left_out:
        raise ModelError(str(out), f"GPTQModel did not quantize {', '.join(left_out[:3])} ({len(left_out)} layers)",
                         "take a base of an architecture that it knows")
    packed = sum(count for name, count in found.items() if name.endswith(PACKED))
    total, parameters = sum(found.values()), sum(p.numel() for p in model.parameters())
    plain = sorted(((count, name) for name, count in found.items() if not name.endswith(PACKED)), reverse=True)
    return Sizes(
        total_bytes=total, quantized_bytes=packed, unquantized_bytes=total - packed, merged_bytes=4 * parameters,
        unquantized=[name for count, name in plain if count >= 0.01 * total],
        share_of_bf16=round(total / (2 * parameters), 4),
        bits_a_weight=round(8 * packed / sum(layer.weight.numel() for layer in layers.values()), 4))


def held_out(evaluation: Path, instructions: Path, most: int) -> list[dict]:
    """The `most` evaluation cases with the smallest hashed ids, each with its "set": the same ones every night.

    Where the sets are empty, the prompts of held-out `instructions` serve.
    """
    cases = [case | {"set": name} for name in SETS for case in read_jsonl(evaluation / f"{name}.jsonl")]
    if not cases:
        log("quantize: no evaluation cases: held-out instructions are asked instead")
        cases = [{"id": row["id"], "messages": row["messages"][:-1]} for row in read_rows(instructions, ["id", "messages"])]
    return sorted(cases, key=lambda case: hashlib.sha256(case["id"].encode()).digest())[:most]
