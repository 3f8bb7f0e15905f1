"""RLOO and GRPO by TRL's own trainers: several answers to a prompt, scored by the reward model, each against the others.

RLOO (Ahmadian et al. 2024) takes the mean of the other answers' rewards for its baseline, GRPO (Shao et al. 2024) the mean of
all, divided by their spread. Neither needs a value model. The reference is the policy with its adapter off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tasks.params import Online
from tasks.training import trainers
from tasks.training.alignment import Outcome, Task, watched
from tasks.training.rows import one_a_prompt, schedule
from tasks.training.tokens import Message, encode_chat

if TYPE_CHECKING:
    from datasets import Dataset


def rloo(task: Task) -> Outcome:
    """REINFORCE, each answer's baseline the others' mean."""
    from trl import RLOOConfig, RLOOTrainer

    return online(task, task.cfg.rloo, RLOOTrainer, RLOOConfig)


def grpo(task: Task) -> Outcome:
    """Group relative policy optimization."""
    from trl import GRPOConfig, GRPOTrainer

    return online(task, task.cfg.grpo, GRPOTrainer, GRPOConfig)


def online(task: Task, own: Online, kind: type, config: type) -> Outcome:
    """Train by one of the two and leave adapter, curve and looks in `task.out`."""
    cfg = task.cfg
    args = config(**trainers.arguments(own, 1, task.compute, task.seed, task.work), num_generations=own.answers, beta=own.beta,
                  epsilon=own.clip, temperature=own.temperature, max_completion_length=cfg.max_new_tokens, shuffle_dataset=False,
                  disable_dropout=cfg.lora.dropout == 0)
    trainer = kind(model=task.policy, reward_funcs=scorer(task, own, lambda: trainer.model), args=args,
                   processing_class=task.tokenizer, train_dataset=training_set(task, own),
                   peft_config=trainers.lora_config(cfg.lora, "CAUSAL_LM", task.policy))
    return watched(trainer, task, 1)


def training_set(task: Task, own: Online) -> Dataset:
    """The different prompts of the training pairs in the order of training, `epochs` passes."""
    from datasets import Dataset

    asked = [pair.messages for pair in one_a_prompt(task.pairs)]
    order = schedule([1] * len(asked), [1.0] * len(asked), own.epochs, own.batch_size * own.accumulate // own.answers, task.seed)
    return Dataset.from_dict({"prompt": [asked[i] for i in order]})


def scorer(task: Task, own: Online, policy: Callable[[], Any]) -> Callable[..., list[float]]:
    """The reward model as TRL asks for it; `policy`: the model that it shares a backbone with, once there is one."""
    end = task.tokenizer.eos_token_id

    def reward(prompts: Sequence[list[Message]], completion_ids: Sequence[list[int]], **_: Any) -> list[float]:
        """Scores of answers as token ids, end tokens included."""
        asked = [encode_chat(task.tokenizer, messages, add_generation_prompt=True) for messages in prompts]
        scores = task.judge.score(policy(), asked, completion_ids, own.batch_size)
        return [score - own.missing_end * (ids[-1] != end) for score, ids in zip(scores, completion_ids, strict=True)]

    return reward
