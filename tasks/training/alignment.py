"""What a method of preference training gets and gives; the methods themselves are named in methods.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import environment
from tasks.params import Align, Compute
from tasks.training import checkpoints, launch, trainers
from tasks.training.backbone import Judge
from tasks.training.rows import Pair
from tasks.training.watch import Watch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Task:
    """The model to start from (base + SFT, merged, fp32), the pairs, and where things go."""

    cfg: Align
    compute: Compute
    seed: int
    policy: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    pairs: Sequence[Pair]
    judge: Judge  # the reward model
    watch: Watch  # looks at the model at each checkpoint
    work: Path  # for checkpoints; outlives a killed run
    out: Path  # for the adapter


@dataclass(frozen=True)
class Outcome:
    """What a method tells of its training; the adapter and its curve.jsonl are in `task.out`."""

    steps: int  # optimizer steps
    trained_parameters: int
    points: list[dict[str, float]]  # the learning curve; empty where nothing was trained


def watched(trainer: Any, task: Task, processes: int) -> Outcome:
    """Train by one of TRL's trainers under the watch, from where a killed run stopped; leave adapter, curve and looks."""
    from transformers import TrainerState

    first, watch = not environment.rank(), task.watch
    newest = checkpoints.newest_complete(task.work) if first else None
    if launch.agreed(watch.begin(trainer.model, newest) if first else True):
        try:
            trainers.train(trainer, task.work, processes, watch.visit)
        except trainers.NotFinite as error:
            watch.failed(trainer.state.global_step, error.what)
        else:
            watch.end(trainer.model, trainer.state.global_step)
    else:  # killed between the alarm and the end
        launch.leave_the_first_alone()
        trainer.state = TrainerState.load_from_json(str(newest / "trainer_state.json"))
    points = trainers.curve(trainer)
    watch.finish(trainer.model, points, task.out)
    return Outcome(trainer.state.global_step, trainers.trainable(trainer.model), points)
