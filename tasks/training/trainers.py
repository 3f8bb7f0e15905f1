"""What the TRL trainers share: arguments, checkpoints, the learning curve, and an adapter folder without noise.

Precision is stated, never inherited (TRL's default is bf16), and so is everything else that would change the bits.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import environment
from tasks.errors import ModelError
from tasks.files import read_json, write_json, write_jsonl
from tasks.params import Compute, Lora, Steps
from tasks.progress import log
from tasks.training import checkpoints, launch
from tasks.training.hardware import device_of
from tasks.training.models import WEIGHTS, dense_only

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel, TrainerCallback

# Seconds and memory differ from run to run; token counts restart when a killed run resumes.
NOT_IN_CURVE = ("epoch", "num_tokens", "total_flos")


class NotFinite(ModelError):
    """A loss or gradient that is no number."""


def arguments(cfg: Steps, processes: int, compute: Compute, seed: int, work: Path) -> dict[str, Any]:
    """Keyword arguments for the configurations of all TRL trainers alike.

    One epoch, in sequence: the passes over the rows are laid out by rows.schedule.
    """
    return {
        "output_dir": str(work), "num_train_epochs": 1, "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": cfg.batch_size // processes, "per_device_eval_batch_size": cfg.batch_size,
        "gradient_accumulation_steps": cfg.accumulate, "gradient_checkpointing": False,
        "learning_rate": cfg.learning_rate, "warmup_steps": cfg.warmup, "lr_scheduler_type": "linear",
        "weight_decay": cfg.weight_decay, "max_grad_norm": 1.0, "optim": "adamw_torch_fused" if fused(compute) else "adamw_torch",
        "logging_steps": cfg.log_every, "logging_nan_inf_filter": False,
        "save_strategy": "steps", "save_steps": cfg.save_every, "save_total_limit": checkpoints.KEPT,
        "eval_strategy": "no", "report_to": "none", "disable_tqdm": True, "dataloader_num_workers": 0,
        "dataloader_pin_memory": False, "seed": seed, "data_seed": seed,
        "fp16": compute.precision == "fp16", "bf16": compute.precision == "bf16", "use_cpu": device_of(compute).type == "cpu",
    }


def fused(compute: Compute) -> bool:
    """Whether AdamW is the fused one: torch.sqrt is MKL's, which approximates as each processor's makers do; the fused
    optimizer takes the exact square root."""
    return compute.reproducible == "any-x86"


def lora_config(lora: Lora | None, task: str, model: nn.Module) -> LoraConfig | None:
    """A PEFT adapter of `task` CAUSAL_LM or SEQ_CLS; the latter keeps its whole score head beside it. None: all weights."""
    from peft import LoraConfig

    if lora is None:
        return None
    check_targets(lora, model)
    dense_only()
    targets = lora.targets if isinstance(lora.targets, str) else sorted(lora.targets)
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets,
                      task_type=task, modules_to_save=["score"] if task == "SEQ_CLS" else None)


def check_targets(lora: Lora, model: nn.Module) -> None:
    """ModelError where a target is no module of the model: of several, PEFT would pass over one that is misspelt."""
    kinds = ("Linear", "Conv1D", "Embedding")
    layers = {name: module for name, module in model.named_modules() if type(module).__name__ in kinds}
    named = [] if isinstance(lora.targets, str) else lora.targets
    unknown = [target for target in named if not any(f".{name}".endswith(f".{target}") for name in layers)]
    if unknown:
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        inner = {name.rpartition(".")[2] for name, module in layers.items() if module not in ends}
        raise ModelError("lora.targets", f"the model has no {', '.join(unknown)}",
                         f"take all-linear, or some of {', '.join(sorted(inner))}")


def untrained(model: PreTrainedModel, lora: Lora, task: str, seed: int) -> PeftModel:
    """The model with a fresh adapter that changes nothing (B = 0), for a stage that has nothing to train on."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(seed)  # A is drawn: the same bytes again
    return get_peft_model(model, lora_config(lora, task, model))


def train(trainer: Any, work: Path, processes: int, look: checkpoints.Look | None = None) -> None:
    """Train, from the newest complete checkpoint in `work` where there is one, and mark the checkpoints made.

    `look` may end it at a checkpoint. NotFinite when the loss is no number. Of several `processes` the first alone returns.
    """
    launch.expect(processes)
    trainer.remove_callback(_printer())
    trainer.add_callback(checkpoints.marker_callback(look))
    trainer.add_callback(_progress())
    newest = launch.agreed(None if environment.rank() else checkpoints.newest_complete(work))
    checkpoints.say_resume(newest)
    try:
        with answers_only_head():
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    except NotFinite:
        launch.leave_the_first_alone()
        raise
    launch.leave_the_first_alone()


@contextlib.contextmanager
def answers_only_head() -> Iterator[None]:
    """Let TRL's fused head score only the positions that have a label.

    It does so on a GPU by itself; elsewhere it scores every position, for the sake of accelerators that would compile
    anew for each shape. Nine tenths of our tokens are prompt, and the head is half of a small model's work on a CPU.
    The loss is the same: what is left out was multiplied by 0.
    """
    from trl.trainer import utils

    before = utils._use_triton  # read by the forward of add_fused_lm_head to choose the positions, and by nothing else there
    utils._use_triton = lambda device: True
    try:
        yield
    finally:
        utils._use_triton = before


def curve(trainer: Any) -> list[dict[str, float]]:
    """The logged points, {"step", "loss", "learning_rate", "grad_norm", …}, without what differs between equal runs."""
    points = []
    for entry in trainer.state.log_history:
        if "loss" in entry and math.isfinite(entry["loss"]):
            points.append({key: round(float(value), 6) if key != "step" else value for key, value in entry.items()
                           if key not in NOT_IN_CURVE and not key.endswith(("time", "per_second"))})
    last = trainer.state.log_history[-1] if trainer.state.log_history else {}
    if not points and math.isfinite(last.get("train_loss", math.nan)):  # fewer steps than log_every: the mean over all of them
        points.append({"step": last["step"], "loss": round(float(last["train_loss"]), 6)})
    return points


def save_adapter(model: Any, points: Sequence[dict[str, float]], out: Path) -> None:
    """Write adapter_model.safetensors, a canonical adapter_config.json and curve.jsonl, and nothing else.

    PEFT writes its target modules in set order and a README with the place of the base model; neither is stable.
    """
    model.save_pretrained(out, safe_serialization=True, save_embedding_layers=False, selected_adapters=["default"])
    (out / "README.md").unlink(missing_ok=True)
    config = read_json(out / "adapter_config.json")
    config["base_model_name_or_path"] = None  # the graph says what it sits on
    for key, value in config.items():
        if key in ("target_modules", "modules_to_save", "exclude_modules") and isinstance(value, list):
            config[key] = sorted(value)
    write_json(out / "adapter_config.json", config)
    write_jsonl(out / "curve.jsonl", points)


def save_weights(model: Any, points: Sequence[dict[str, float]], out: Path) -> None:
    """Write all weights of a model that was trained whole, in the place of an adapter, and curve.jsonl."""
    from safetensors.torch import save_model

    save_model(model, str(out / WEIGHTS))
    write_jsonl(out / "curve.jsonl", points)


def trainable(model: Any) -> int:
    """Number of parameters that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def trained(model: Any) -> dict[str, Any]:
    """How much of the model was trained, for a report; the memory that it took, which no report may hold, is said."""
    count = trainable(model)
    below = sum(p.numel() for p in model.parameters()) - count
    share = count / below if below else 1.0
    say_cost(count, share)
    return {"trained_parameters": count, "trained_share": round(share, 6)}


def say_cost(count: int, share: float) -> None:
    """One line: parameters trained, their share of the model below them, most memory of this process so far."""
    import resource

    import torch

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    on_gpu = f", {torch.cuda.max_memory_allocated() / 1e9:.2f} GB of the GPU's" if torch.cuda.is_available() else ""
    log(f"{count:,} parameters trained, {share:.1%} of the model's; peak memory {peak / 1e9:.2f} GB{on_gpu}")


def _printer() -> type[TrainerCallback]:
    from transformers import PrinterCallback

    return PrinterCallback


def _progress() -> TrainerCallback:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        """One line at each point of the curve."""

        def on_log(self, args, state, control, logs=None, **_):
            """Step, loss and, for pairs, how many are the right way round. NotFinite where it is no number."""
            if logs and "loss" in logs:
                for name in ("loss",) if args.fp16 else ("loss", "grad_norm"):  # fp16's scaler skips steps that overflow
                    if not math.isfinite(float(logs.get(name, 0.0))):
                        raise NotFinite(f"step {state.global_step}", f"{name} is {float(logs[name])}",
                                        "lower learning_rate, or take precision fp32")
                right = logs.get("accuracy", logs.get("rewards/accuracies"))
                pairs = f", pairs right {float(right):.2f}" if right is not None else ""
                log(f"step {state.global_step}/{state.max_steps}: loss {float(logs['loss']):.4f}{pairs}")

    return Progress()
