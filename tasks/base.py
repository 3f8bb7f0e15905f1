"""The model that everything starts from, as a complete folder with our chat template installed.

The template travels with the tokenizer from here to the release, so it is chosen once, checked once (its answers end
with the end token and nothing after it, and they are marked for the loss) and its hash is reported.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.errors import ModelError
from tasks.files import sha256_file, sha256_tree
from tasks.params import Base, Compute, Quantize
from tasks.progress import log
from tasks.reports import Report
from tasks.training import sources
from tasks.training.folders import check_same_chat
from tasks.training.fresh import refresh
from tasks.training.hardware import set_up
from tasks.training.models import parameter_count, quiet, save_model
from tasks.training.quantized import check_dimensions
from tasks.training.tokens import TEMPLATE, check_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The tokens that a template writes, each of which must be one entry of the vocabulary; the last one ends an answer.
MARKS = {"chatml": ("<|im_start|>", "<|im_end|>"), "gemma": ("<start_of_turn>", "<end_of_turn>")}


class BaseReport(Report):
    """metrics/base.json."""

    model: str = Field(description="base.model")
    revision: str | None = Field(description="commit hash of a hub model")
    licence: str = Field(description="whose terms apply")
    architecture: str = Field(description="class of the model")
    parameters: int = Field(description="parameters, tied ones counted once")
    vocabulary: int = Field(description="entries of the tokenizer")
    window: int = Field(description="longest input in tokens; 0 where the model states none")
    dtype: str = Field(description="type of the saved weights")
    fresh_embeddings: int = Field(description="tokens that pre-training never showed, whose embeddings were redrawn")
    chat_template: str = Field(description="base.chat_template")
    template_sha256: str = Field(description="SHA-256 of chat_template.jinja")
    weights_sha256: str = Field(description="SHA-256 of model.safetensors, or over its shards")
    end_token: str = Field(description="token that ends an answer")
    pad_token: str = Field(description="token that fills batches up")


def base(cfg: Base, quantize: Quantize, compute: Compute, starter: Path, templates: Path, out: Path) -> BaseReport:
    """Load the base model, install the chat template, and write a complete model folder.

    ModelError where its layers could not be quantized as section `quantize` has it: the stage that would meet it first comes
    after the trainings.
    """
    set_up(compute)
    quiet()
    with tempfile.TemporaryDirectory() as scratch:
        source = sources.fetch(cfg, starter, Path(scratch))
        model, tokenizer = source.model, source.tokenizer
        install_template(cfg.chat_template, tokenizer, templates)
        agree(model, tokenizer)
        check_dimensions(model, quantize.group_size, f"base.model {cfg.model}")
        renewed = refresh(model, tokenizer, MARKS[cfg.chat_template]) if cfg.chat_template in MARKS else 0
        if renewed:
            log(f"{renewed} tokens never occurred in pre-training; their embeddings are drawn anew")
        save_model(model, tokenizer, out)
    check_same_chat(out)
    weights = sorted(out.glob("*.safetensors"))
    log(f"{cfg.model}: {parameter_count(model):,} parameters, {len(tokenizer):,} tokens; licence: {source.licence}")
    return BaseReport(
        model=cfg.model, revision=cfg.revision, licence=source.licence, architecture=type(model).__name__,
        parameters=parameter_count(model), vocabulary=len(tokenizer),
        window=getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0,
        dtype=str(model.dtype).removeprefix("torch."), chat_template=cfg.chat_template,
        fresh_embeddings=renewed, template_sha256=sha256_file(out / TEMPLATE),
        weights_sha256=sha256_file(weights[0]) if len(weights) == 1 else sha256_tree(out),
        end_token=tokenizer.eos_token, pad_token=tokenizer.pad_token)


def install_template(name: str, tokenizer: PreTrainedTokenizerBase, templates: Path) -> None:
    """Give the tokenizer its chat template, the end token that this template writes, and a pad token beside it.

    ModelError where the vocabulary lacks the template's tokens: an adapter does not train new embeddings.
    """
    if name == "model":
        check_tokenizer(tokenizer, "base.chat_template: model")
        return
    path = templates / f"{name}.jinja"
    if not path.is_file():
        raise ModelError(str(path), "is missing", "restore it: git checkout tasks/templates")
    for mark in MARKS[name]:
        if len(tokenizer(mark, add_special_tokens=False)["input_ids"]) != 1:
            raise ModelError(f"base.chat_template: {name}", f"{mark} is no single token of this model",
                             f"take another of {', '.join([*MARKS, 'model'])}")
    before = tokenizer.eos_token
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    tokenizer.eos_token = MARKS[name][-1]
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        tokenizer.pad_token = before  # the old end of text, which no answer contains
    check_tokenizer(tokenizer, f"base.chat_template: {name}")


def agree(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the model's configs name the same special tokens as the tokenizer; what a serving program reads is these."""
    from transformers import GenerationConfig

    for config in (model.config, model.config.get_text_config()):
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
                                               pad_token_id=tokenizer.pad_token_id)
