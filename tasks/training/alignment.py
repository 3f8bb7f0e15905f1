"""What a method of preference training gets and gives; the methods themselves are named in methods.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.params import Align, Compute
from tasks.training.rows import Pair

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
    work: Path  # for checkpoints; outlives a killed run
    out: Path  # for the adapter


@dataclass(frozen=True)
class Outcome:
    """What a method tells of its training; the adapter and its curve.jsonl are in `task.out`."""

    steps: int  # optimizer steps
    trained_parameters: int
    points: list[dict[str, float]]  # the learning curve; empty where nothing was trained
