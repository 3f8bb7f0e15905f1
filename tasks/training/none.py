"""No preference training: for a team that has ranked nothing yet, or that wants to see the SFT model itself.

The adapter is there and complete, so that everything after it works unchanged, but its update is 0.
"""

from __future__ import annotations

from tasks.training import trainers
from tasks.training.alignment import Outcome, Task


def none(task: Task) -> Outcome:
    """Leave an adapter that changes nothing, with an empty curve, in `task.out`."""
    trainers.save_adapter(trainers.untrained(task.policy, task.cfg.lora, "CAUSAL_LM", task.seed), [], task.out)
    return Outcome(0, 0, [])
