"""Direct preference optimization: −log σ(β·[log π/π_ref(chosen) − log π/π_ref(rejected)]) (Rafailov et al. 2023).

The reference is the same model without the adapter. Its log-probabilities are computed once for each pair, before
training; the trainer would compute them again for each pass.
The loss cares about the difference only, so it can sink both answers until the model babbles; a second term,
−log π(chosen) a token, keeps the preferred answers likely (Pang et al. 2024, eq. 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.training import trainers
from tasks.training.alignment import Outcome, Task, watched
from tasks.training.hardware import autocast
from tasks.training.rows import schedule
from tasks.training.scoring import answer_logprobs

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOTrainer


def dpo(task: Task) -> Outcome:
    """Train an adapter by TRL's DPOTrainer and leave it, with its curve, in `task.out`."""
    return watched(make_trainer(task), task, task.cfg.processes)


def make_trainer(task: Task) -> DPOTrainer:
    """TRL's trainer with the reference's log-probabilities computed."""
    from trl import DPOConfig, DPOTrainer

    cfg, own = task.cfg, task.cfg.dpo
    args = DPOConfig(**trainers.arguments(own, cfg.processes, task.compute, task.seed, task.work), beta=own.beta,
                     loss_type=list(own.losses), loss_weights=list(own.losses.values()), label_smoothing=own.flipped,
                     max_length=cfg.max_length, disable_dropout=cfg.lora.dropout == 0)
    trainer = DPOTrainer(model=task.policy, args=args, processing_class=task.tokenizer,
                         train_dataset=training_set(task), peft_config=trainers.lora_config(cfg.lora, "CAUSAL_LM", task.policy))
    trainer.precompute_ref_logps = True  # the loss reads them from the columns ref_*_logps
    return trainer


def training_set(task: Task) -> Dataset:
    """Pairs in the order of training, as conversations (this trainer tokenizes them itself, with our template), and the
    sums of the reference's log-probabilities of both answers."""
    from datasets import Dataset

    cfg, pairs = task.cfg.dpo, task.pairs
    order = schedule([max(len(p.chosen.ids), len(p.rejected.ids)) for p in pairs], [p.weight for p in pairs],
                     cfg.epochs, cfg.batch_size * cfg.accumulate, task.seed)
    with autocast(task.compute):  # as in training, so that the margin is 0 before the first step
        chosen, rejected = (answer_logprobs(task.policy, [getattr(p, side) for p in pairs], task.tokenizer.pad_token_id,
                                            cfg.batch_size) for side in ("chosen", "rejected"))
    return Dataset.from_dict({
        "ref_chosen_logps": [chosen[i][0] for i in order], "ref_rejected_logps": [rejected[i][0] for i in order],
        "prompt": [pairs[i].messages for i in order],
        "chosen": [[{"role": "assistant", "content": pairs[i].answers[0]}] for i in order],
        "rejected": [[{"role": "assistant", "content": pairs[i].answers[1]}] for i in order]})
