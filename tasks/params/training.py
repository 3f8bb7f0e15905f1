"""Sections of the trainings and of what stands between them: base, sft, candidates, reward, select, merge."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.fields import Count, Fraction, Positive, Precise, Section


class Base(Section):
    """The model that everything starts from."""

    model: str = Field(description="starter, gemma-3-270m, a folder, or a hub id (owner/name; then `revision` is needed)")
    revision: str | None = Field(description="commit hash of a hub model (40 hex digits); null for all others")
    chat_template: Literal["chatml", "gemma", "model"] = Field(
        description="template to install from tasks/templates, or the model's own")
    accept_license: str | None = Field(description="licence terms that you accept, where the model needs it: gemma")


class Lora(Section):
    """A low-rank adapter: W₀ + (α/r)·BA (Hu et al. 2021, eq. 3), B = 0 at the start."""

    r: Count = Field(description="rank")
    alpha: Positive = Field(description="scale; the update is multiplied by alpha / r")
    dropout: Fraction = Field(description="dropout on the adapter's input")
    targets: list[str] | Literal["all-linear"] = Field(description="module names that get an adapter")


class Optimizer(Section):
    """How far and how fast an adapter is moved."""

    epochs: Count = Field(description="passes over the training rows (ppo, rloo and grpo: over their prompts)")
    learning_rate: Positive = Field(description="peak learning rate of AdamW")
    warmup: Fraction = Field(description="share of the steps in which the rate rises from 0")
    weight_decay: Annotated[float, Field(ge=0)] = Field(description="AdamW's decoupled weight decay")
    batch_size: Count = Field(description="rows (or pairs, or answers) of one forward pass")
    accumulate: Count = Field(description="forward passes of one optimizer step")


class Steps(Optimizer):
    """A training of TRL's, step by step."""

    log_every: Count = Field(description="optimizer steps between two points of curve.jsonl")
    save_every: Count = Field(description="optimizer steps between two checkpoints; a multiple of log_every")

    @model_validator(mode="after")
    def _aligned(self) -> Steps:
        """A checkpoint between two points of the curve would lose the sums of the next point on resuming."""
        if self.save_every % self.log_every:
            raise ValueError(f"save_every ({self.save_every}) must be a multiple of log_every ({self.log_every})")
        return self


class Training(Precise):
    """What the three trainings (sft, reward, align) have in common."""

    lora: Lora = Field(description="the adapter that is trained")
    max_length: Count = Field(description="tokens; longer rows are left out, counted and reported")
    processes: Count = Field(description="processes that share each batch (torchrun), one a GPU; their number changes bits")


class Supervised(Training, Steps):
    """A training whose steps stand in the stage's own section."""

    @model_validator(mode="after")
    def _shared(self) -> Supervised:
        shared(self.batch_size, self.processes)
        return self


def shared(batch_size: int, processes: int) -> None:
    """ValueError unless so many processes can share a batch."""
    if batch_size % processes:
        raise ValueError(f"batch_size ({batch_size}) must be a multiple of processes ({processes})")


class Sft(Supervised):
    """Supervised fine-tuning on instruction rows; the loss is on the response only."""

    lora: Lora | None = Field(description="the adapter that is trained; null: all weights of the model")
    packing: bool = Field(description="join rows to sequences of max_length tokens, with attention kept apart (bfd)")


class Candidates(Precise):
    """Answers sampled from the SFT model, for people to rank."""

    answers: Count = Field(description="answers sampled for a prompt")
    temperature: Positive = Field(description="divides the logits before sampling; 1 samples the model itself")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(description="probability mass of the nucleus sampled from")
    max_new_tokens: Count = Field(description="tokens after which an answer is cut")
    batch_size: Count = Field(description="prompts answered at once")


class Select(Precise):
    """Active choice: which prompts people are asked about first, and which of their sampled answers they see."""

    answers: Annotated[int, Field(ge=2, le=4)] = Field(
        description="answers shown of a prompt: 2 side by side (A, B, tie), 3 or 4 to rank")
    random: Fraction = Field(description="share of the order that chance picks, so that what the model is sure of is seen too")
    batch_size: Count = Field(description="answers scored at once")


class Reward(Supervised):
    """Reward model on pairs: −log σ(r_chosen − r_rejected)."""

    margin: Annotated[float, Field(ge=0)] = Field(
        description="reward by which the chosen answer shall lead: −log σ(r_chosen − r_rejected − margin); 0: the plain loss")
    center: Annotated[float, Field(ge=0)] = Field(description="weight of (r_chosen + r_rejected)², which keeps the scores near 0")
    bins: Count = Field(description="bins of the calibration table")


class Merge(Section):
    """Adapters into dense weights."""

    tolerance: Positive = Field(description="largest |Δlogit| between merged model and adapters that is accepted")
    prompts: Count = Field(description="prompts on which the two are compared")
