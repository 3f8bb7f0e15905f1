"""Section align: preference training, by any of its methods, and what ends it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.fields import Count, Fraction, Positive, Section
from tasks.params.training import Optimizer, Steps, Training, shared

Loss = Literal["sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "sft"]


class Dpo(Steps):
    """Direct preference optimization (Rafailov et al. 2023) with terms that keep the model whole."""

    beta: Positive = Field(description="temperature; larger stays nearer the reference")
    losses: dict[Loss, Positive] = Field(
        min_length=1, description="loss → weight: sigmoid, sigmoid_norm (by the token), ipo, hinge, robust, sft")
    flipped: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        description="share of the pairs that loss robust takes to be the wrong way round")


class Kl(Section):
    """The price of leaving the SFT model, per nat: r − β·KL (Stiennon et al. 2020)."""

    beta: Positive = Field(description="reward that a nat costs")
    target: Positive | None = Field(description="nats an answer that β is steered to (Ziegler et al. 2019, § 2.2); null: β stays")
    horizon: Count = Field(description="answers over which β is steered")


class Ppo(Optimizer):
    """Proximal policy optimization (Schulman et al. 2017) on the reward model's score."""

    rollout: Count = Field(description="answers of a round: sampled together, then trained on")
    passes: Count = Field(description="times that a round's answers are trained on")
    save_every: Count = Field(description="rounds between two checkpoints")
    value_learning_rate: Positive = Field(description="peak learning rate of the value adapter and its head")
    kl: Kl = Field(description="penalty on every token")
    discount: Annotated[float, Field(gt=0, le=1)] = Field(description="γ")
    trace: Fraction = Field(description="λ of generalized advantage estimation (Schulman et al. 2016)")
    clip: Positive = Field(description="ε: how far the probability of a token may move in a round")
    value_clip: Positive = Field(description="how far a value may move in a round")
    temperature: Positive = Field(description="of the sampled answers")
    whiten_rewards: bool = Field(description="rewards of a round divided by their standard deviation")
    missing_end: Annotated[float, Field(ge=0)] = Field(description="taken off the score of an answer that does not end")

    @model_validator(mode="after")
    def _whole(self) -> Ppo:
        """A round is cut into whole optimizer steps."""
        if self.rollout % (self.batch_size * self.accumulate):
            raise ValueError(f"rollout ({self.rollout}) must be a multiple of batch_size · accumulate "
                             f"({self.batch_size * self.accumulate})")
        return self


class Online(Steps):
    """RLOO and GRPO: several answers to a prompt, each judged against the others, in the place of a value model."""

    answers: Annotated[int, Field(ge=2)] = Field(description="answers to a prompt")
    beta: Positive = Field(description="weight of the KL to the SFT model")
    clip: Positive = Field(description="ε of the clipped ratio")
    temperature: Positive = Field(description="of the sampled answers")
    missing_end: Annotated[float, Field(ge=0)] = Field(description="taken off the score of an answer that does not end")

    @model_validator(mode="after")
    def _whole(self) -> Online:
        if self.batch_size * self.accumulate % self.answers:
            raise ValueError(f"batch_size · accumulate ({self.batch_size * self.accumulate}) must be a multiple of answers "
                             f"({self.answers})")
        return self


class Stop(Section):
    """When a preference training is broken: looked at with every checkpoint and at the end, on held-out prompts; null: never."""

    kl: Positive | None = Field(description="most nats an answer from the SFT model")
    ended: Fraction | None = Field(description="least share of the answers that end by themselves")
    end_logprob_drop: Positive | None = Field(
        description="most nats that the end token may lose after the answers that people chose")
    distinct: Fraction | None = Field(
        description="least number of different answers, as a share of the different ones that people chose")
    length: Annotated[float, Field(gt=1)] | None = Field(
        description="most times as long or as short as the answers that people chose, in tokens, on average")
    logprob_drop: Positive | None = Field(description="most nats a token that answers that people chose may lose")
    kept_loss: Positive | None = Field(
        description="most that the share of answers that say what people chose (or abstain where they did) may fall")


class Align(Training):
    """Preference training of the SFT model."""

    method: str = Field(description="dpo | ppo | rloo | grpo | none: nothing is trained, the aligned model is the SFT model")
    dpo: Dpo = Field(description="what method dpo reads")
    ppo: Ppo = Field(description="what method ppo reads")
    rloo: Online = Field(description="what method rloo reads")
    grpo: Online = Field(description="what method grpo reads")
    samples: Count = Field(description="held-out prompts that are answered to see whether the model is whole")
    max_new_tokens: Count = Field(description="tokens after which an answer is cut")
    stop: Stop = Field(description="what ends a training that goes wrong")

    @model_validator(mode="after")
    def _shared(self) -> Align:
        if self.method == "dpo":
            shared(self.dpo.batch_size, self.processes)
        elif self.processes > 1:
            raise ValueError(f"processes is {self.processes}, and method {self.method} trains in one: take 1, or method dpo")
        return self
