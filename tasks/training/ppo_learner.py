"""What changes in the course of a PPO training, from its first state to its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.files import read_json, write_json
from tasks.training import checkpoints, trainers
from tasks.training.alignment import Task
from tasks.training.backbone import POLICY
from tasks.training.ppo_terms import Penalty

if TYPE_CHECKING:
    import torch

VALUE = "value"  # the adapter beside the policy's


@dataclass
class Learner:
    """All that changes in the course of a training."""

    model: Any  # PeftModel with adapters POLICY and VALUE
    head: torch.nn.Linear  # (H → 1) on the states under VALUE
    optimizer: torch.optim.Optimizer
    scaler: Any  # of the losses, for fp16
    penalty: Penalty
    step: int = 0
    round: int = 0
    points: list[dict[str, float]] = field(default_factory=list)

    def weights(self) -> dict[str, torch.nn.Parameter]:
        """What is trained, by name."""
        found = {name: p for name, p in self.model.named_parameters() if f".{POLICY}." in name or f".{VALUE}." in name}
        return found | {f"head.{name}": p for name, p in self.head.named_parameters()}


def begin(task: Task) -> Learner:
    """Fresh adapters on the SFT model: the policy is what it was (B = 0), every value is the same."""
    import torch
    from peft import get_peft_model

    cfg, lora = task.cfg.ppo, [trainers.lora_config(task.cfg.lora, "CAUSAL_LM", task.policy) for _ in (POLICY, VALUE)]
    torch.manual_seed(task.seed)
    model = get_peft_model(task.policy, lora[0], adapter_name=POLICY)
    model.add_adapter(VALUE, lora[1])
    model.set_adapter(POLICY)
    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1).to(model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    named = dict(model.named_parameters())
    groups = [{"params": [p for name, p in named.items() if f".{POLICY}." in name], "peak": cfg.learning_rate},
              {"params": [p for name, p in named.items() if f".{VALUE}." in name] + list(head.parameters()),
               "peak": cfg.value_learning_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=cfg.weight_decay, fused=trainers.fused(task.compute) or None)
    scaler = torch.amp.GradScaler(model.device.type, enabled=task.compute.precision == "fp16")
    return Learner(model.eval(), head, optimizer, scaler, Penalty(cfg.kl, cfg.kl.beta))


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise, then a linear fall to 0."""
    rise = int(steps * warmup)
    return (step + 1) / (rise + 1) if step < rise else max(0.0, (steps - step) / max(1, steps - rise))


def save(task: Task, learner: Learner) -> bool:
    """A complete checkpoint, looked at; returns whether the training may go on."""
    from safetensors.torch import save_file

    checkpoint = task.work / f"checkpoint-{learner.step}"
    checkpoint.mkdir(parents=True, exist_ok=True)
    weights = learner.weights()
    save_file({name: p.detach().contiguous() for name, p in weights.items()}, checkpoint / "weights.safetensors")
    save_file({f"{name}/{key}": value for name, p in weights.items() for key, value in learner.optimizer.state[p].items()},
              checkpoint / "optimizer.safetensors")
    write_json(checkpoint / "state.json", {"step": learner.step, "round": learner.round, "beta": learner.penalty.beta,
                                           "points": learner.points, "scaler": learner.scaler.state_dict()})
    goes_on = task.watch.visit(learner.model, learner.step, checkpoint)
    checkpoints.mark_complete(checkpoint)
    checkpoints.forget_old(task.work)
    return goes_on


def load(learner: Learner, checkpoint: Path) -> None:
    """Go on from a complete checkpoint."""
    import torch
    from safetensors.torch import load_file

    state, found = read_json(checkpoint / "state.json"), load_file(checkpoint / "weights.safetensors")
    moments = load_file(checkpoint / "optimizer.safetensors")
    with torch.no_grad():
        for name, p in learner.weights().items():
            p.copy_(found[name])
            learner.optimizer.state[p] = {key.partition("/")[2]: value.to(p.device) if value.dim() else value
                                          for key, value in moments.items() if key.partition("/")[0] == name}
    learner.step, learner.round, learner.points = state["step"], state["round"], state["points"]
    learner.penalty.beta = state["beta"]
    learner.scaler.load_state_dict(state["scaler"])
