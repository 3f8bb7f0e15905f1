"""One frozen model under several adapters: what is trained, what judges it, and with none of them the reference.

Policy, value and reward are a few per cent of the model each, so that a training with all of them needs the memory of
one. The model below them is base + SFT, merged: switched off, they leave exactly the policy that training began with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.files import read_json
from tasks.training.generate import cut, in_order, pad_left
from tasks.training.rewards import features
from tasks.training.scoring import pad_right

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

POLICY = "default"  # as PEFT calls an adapter without a name
REWARD = "reward"


@contextlib.contextmanager
def using(model: PeftModel, adapter: str | None) -> Iterator[PeftModel]:
    """The model with this adapter alone, or with none; afterwards with the policy's.

    PEFT lets the active adapter alone gather gradients, so a loss goes backward inside the block.
    """
    if adapter is None:
        with model.disable_adapter():
            yield model
        return
    model.set_adapter(adapter)
    try:
        yield model
    finally:
        model.set_adapter(POLICY)


@contextlib.contextmanager
def undisturbed(model: PeftModel) -> Iterator[None]:
    """Looking at a model changes no draw: the generators are afterwards where they were, so a training that is looked at
    has the bytes of one that is not."""
    import torch

    training = model.training
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        model.eval()
        try:
            yield
        finally:
            model.train(training)


def body_of(model: PeftModel) -> Any:
    """The layers below the output embedding, adapters included."""
    causal = model.get_base_model()
    return getattr(causal, causal.base_model_prefix)


class Judge:
    """The reward model on another model's backbone: its adapter and head, read once and laid on while it scores."""

    def __init__(self, reward: Path, tokenizer: PreTrainedTokenizerBase):
        """`reward`: the folder that stage reward has written. ModelError where it has no score head."""
        from safetensors.torch import load_file

        if not (reward / "adapter_config.json").is_file() or read_json(reward / "adapter_config.json")["task_type"] != "SEQ_CLS":
            raise ModelError(str(reward), "holds no score head", "run the stage that writes it: dvc repro reward")
        self.folder, self.pad = reward, tokenizer.pad_token_id
        weights = load_file(reward / "adapter_model.safetensors")
        (self.head,) = (weights.pop(key) for key in list(weights) if key.endswith("score.weight"))  # (1, H + 2)
        self.weights = weights

    def score(self, model: PeftModel, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]],
              batch_size: int) -> list[float]:
        """One reward an answer, both sides as token ids: what tasks/training/rewards.py says of the same text.

        Where an answer begins is told and not looked for: a model that learns could write the mark itself.
        """
        import torch

        batches, rewards = cut([[*prompt, *said] for prompt, said in zip(prompts, answers, strict=True)], batch_size), []
        words = model.get_output_embeddings().weight.detach()
        with undisturbed(model), self._laid_on(model), torch.no_grad():
            for chosen in batches:
                ids, mask = pad_right([[*prompts[i], *answers[i]] for i in chosen], self.pad)
                said, _ = pad_right([[0] * len(prompts[i]) + [1] * len(answers[i]) for i in chosen], 0)
                ids, mask, said = (t.to(model.device) for t in (ids, mask, said))
                hidden = body_of(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                known = features(hidden, words, ids, mask, said).float()
                with torch.autocast(hidden.device.type, enabled=False):  # rewards differ in digits that bf16 does not have
                    found = known @ self.head.to(hidden.device, torch.float32).T  # (B, 1)
                rewards += found[:, 0].tolist()
        return in_order(batches, rewards)

    @contextlib.contextmanager
    def _laid_on(self, model: PeftModel) -> Iterator[None]:
        """The reward adapter, for as long as the block lasts: a checkpoint never holds it."""
        from peft import LoraConfig, set_peft_model_state_dict

        config = LoraConfig.from_pretrained(self.folder)
        config.task_type, config.modules_to_save, config.inference_mode = "CAUSAL_LM", None, True
        model.add_adapter(REWARD, config)
        try:
            found = set_peft_model_state_dict(model, self.weights, adapter_name=REWARD)
            if found.unexpected_keys:
                raise ModelError(str(self.folder), f"does not fit the model below it ({found.unexpected_keys[0]})",
                                 "run the stage that writes it again: dvc repro")
            with using(model, REWARD):
                yield
        finally:
            model.delete_adapter(REWARD)
            model.set_adapter(POLICY)


def logps_of(model: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad: int,
             temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the answers' tokens, (B, T), and their mask; T is the longest answer, rows flush right."""
    ids, mask = (t.to(model.device) for t in pad_left([[*p, *a] for p, a in zip(prompts, answers, strict=True)], pad))
    positions = (mask.cumsum(1) - 1).clamp(min=0)  # (B, L): all answers end in the last column
    width = max(map(len, answers))
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=width + 1,
                   use_cache=False).logits[:, :-1].float()  # (B, T, V): column t predicts token t
    logps = (logits / temperature).log_softmax(-1).gather(2, ids[:, -width:, None])[:, :, 0]  # (B, T)
    real = answer_mask(answers, width, model.device)
    return logps * real, real


def answer_mask(answers: Sequence[Sequence[int]], width: int, device: Any) -> torch.Tensor:
    """(B, width) 1.0 at answer tokens, which stand flush right."""
    import torch

    lengths = torch.tensor([len(a) for a in answers], device=device)
    return (torch.arange(width, device=device) >= width - lengths[:, None]).float()
