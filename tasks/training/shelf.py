"""Several assistants on one base: their adapters lie beside each other in memory, and one of them is on at a time.

An assistant is a stack of adapters (SFT, then alignment on top of it). Their updates are added at run time, W₀ + Σ (α/r)·BA,
so nothing is merged and switching moves no weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.training.models import dense_only

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Shelf:
    """A base with the adapters of named assistants."""

    def __init__(self, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        """A loaded base, in evaluation mode."""
        self.base, self.tokenizer = base, tokenizer
        self.model: Any = None  # PeftModel, once there is an adapter
        self.stacks: dict[str, list[str]] = {}

    def put(self, name: str, adapters: Sequence[Path]) -> None:
        """Add an assistant; ModelError where an adapter is not there or does not fit the base."""
        from peft import PeftModel

        if name in self.stacks or not adapters:
            raise ModelError(name, "is on the shelf already" if adapters else "has no adapter", "give each its own name")
        dense_only()
        stack = [f"{len(self.stacks)}_{place}" for place in range(len(adapters))]  # PEFT's names may hold no dot
        for own, adapter in zip(stack, adapters, strict=True):
            if not (adapter / "adapter_config.json").is_file():
                raise ModelError(str(adapter), "holds no adapter", "run the stage that writes it: dvc repro")
            try:
                if self.model is None:
                    self.model = PeftModel.from_pretrained(self.base, adapter, adapter_name=own)
                else:
                    self.model.load_adapter(adapter, adapter_name=own)
            except (RuntimeError, ValueError, OSError) as error:
                raise ModelError(str(adapter), f"does not fit the model below it ({str(error).splitlines()[0]})",
                                 "take the base that it was trained on") from error
        self.stacks[name] = stack
        self.model.eval()

    def turn(self, name: str) -> Any:
        """The model, with this assistant's adapters on until another one's turn. Its `disable_adapter()` gives the base."""
        if name not in self.stacks:
            raise ModelError(name, "is not on the shelf", f"there are: {', '.join(self.stacks) or 'none'}")
        self.model.base_model.set_adapter(self.stacks[name])
        return self.model
