"""Ways to train on preferences, by name. To add one: write its module beside dpo.py and name it here."""

from __future__ import annotations

from collections.abc import Callable

from tasks.errors import ParamsError
from tasks.training.alignment import Outcome, Task
from tasks.training.dpo import dpo
from tasks.training.none import none
from tasks.training.online import grpo, rloo
from tasks.training.ppo import ppo

NONE = "none"
METHODS: dict[str, Callable[[Task], Outcome]] = {"dpo": dpo, "ppo": ppo, "rloo": rloo, "grpo": grpo, NONE: none}


def method(name: str) -> Callable[[Task], Outcome]:
    """The method of this name; ParamsError with the choices for any other."""
    if name not in METHODS:
        raise ParamsError("align.method", f"{name!r} is no method", f"take one of: {', '.join(METHODS)}")
    return METHODS[name]
