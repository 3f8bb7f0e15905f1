"""Adapters into dense weights: W = W₀ + (α/r)·BA for the SFT adapter, then for the aligned one on top of it.

Done in fp32: bf16 sums lose low bits of the update. The result is compared with the model whose adapters are both still
live, on real prompts, and its tokens and template with the base's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tasks.errors import ModelError
from tasks.files import sha256_file
from tasks.params import Compute, Merge
from tasks.progress import log
from tasks.reports import Report
from tasks.training.folders import check_same_chat
from tasks.training.hardware import set_up
from tasks.training.models import is_whole, load_base, load_policy, parameter_count, save_model
from tasks.training.rows import read_rows
from tasks.training.shelf import Shelf
from tasks.training.tokens import TEMPLATE, check_same_tokens, encode_chat

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class MergeReport(Report):
    """metrics/merge.json."""

    parameters: int = Field(description="parameters of the dense model")
    prompts: int = Field(description="prompts compared")
    positions: int = Field(description="positions compared")
    max_logit_difference: float = Field(description="largest |Δlogit| between merged and adapter model")
    argmax_equal: bool = Field(description="whether both choose the same token at every position")
    weights_sha256: str = Field(description="SHA-256 of the merged model.safetensors")
    template_sha256: str = Field(description="SHA-256 of its chat template, the base's")


def merge(cfg: Merge, compute: Compute, base: Path, sft: Path, align: Path, prompts: Path, out: Path) -> MergeReport:
    """Write the dense model to `out`; ModelError where it differs too much from the model with its adapters live."""
    set_up(compute)
    merged, tokenizer = load_policy(base, [sft, align], compute)
    save_model(merged, tokenizer, out)
    written, again = load_base(out, compute)  # what will be served, not what is in memory
    original = load_base(base, compute)[1]
    check_same_tokens(original, again, str(out))
    check_same_chat(base, out)

    rows = read_rows(prompts / "prompts.jsonl", ("id", "messages"))[: cfg.prompts]
    sequences = [encode_chat(tokenizer, row["messages"], add_generation_prompt=True) for row in rows]
    difference, positions, equal = compare(written, live(base, [sft, align], compute), sequences)
    found = f"largest |Δlogit| {difference:.2e} over {positions} positions, same choices: {equal}"
    log(found)
    if difference > cfg.tolerance or not equal:
        raise ModelError("merge", f"{found} (merge.tolerance: {cfg.tolerance})",
                         "a little above the tolerance with the same choices is rounding, as deep models have it: raise "
                         "merge.tolerance; else adapters and base do not belong together: run sft, align and merge again")
    (weights,) = out.glob("*.safetensors")
    return MergeReport(parameters=parameter_count(written), prompts=len(rows), positions=positions,
                       max_logit_difference=float(f"{difference:.1e}"), argmax_equal=equal,
                       weights_sha256=sha256_file(weights), template_sha256=sha256_file(out / TEMPLATE))


def live(base: Path, adapters: list[Path], compute: Compute) -> Any:
    """The base with all adapters switched on side by side and nothing merged: their updates are added at run time."""
    whole = [trained for trained in adapters if is_whole(trained)]
    shelf = Shelf(*load_policy(base, whole, compute))
    shelf.put("aligned", [trained for trained in adapters if trained not in whole])
    return shelf.turn("aligned")


def compare(first: PreTrainedModel, second: Any, sequences: list[list[int]]) -> tuple[float, int, bool]:
    """(largest |Δlogit|, positions, same argmax everywhere), one sequence at a time, so nothing is padded."""
    import torch

    largest, positions, equal = 0.0, 0, True
    with torch.inference_mode():
        for sequence in sequences:
            ids = torch.tensor([sequence], device=first.device)
            a, b = (m(input_ids=ids, use_cache=False).logits[0].float() for m in (first, second))
            delta = (a - b).abs().max().item()  # (T, V) → ()
            largest, positions = max(largest, delta), positions + len(a)
            equal = equal and _same_choice(a, b, delta)
    return largest, positions, equal


def _same_choice(a: torch.Tensor, b: torch.Tensor, delta: float) -> bool:
    """Whether b's best token is a's too, at each position; two tokens closer than 2·delta are a tie."""
    best = a.max(-1).values
    return bool((best - a.gather(1, b.argmax(-1, keepdim=True))[:, 0] <= 2 * delta).all())
