"""What all sections are made of: kinds of number, arithmetic, and the rule that a typo is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """Base of all sections: values are fixed once read, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Seed(Section):
    """One seed for everything that draws."""

    value: Annotated[int, Field(ge=0, lt=2**31)] = Field(description="seed of sampling, shuffling and initialisation")


def _renamed(value: object) -> object:
    if value == "bf16-autocast":
        raise ValueError("is called bf16 now, and holds for stages that answer too; a stage's own precision goes before it")
    return value


Precision = Annotated[Literal["fp32", "bf16", "fp16"], BeforeValidator(_renamed)]


class Compute(Section):
    """Where and how exactly the sums are done."""

    threads: Count = Field(description="CPU threads of a training process; another number may change the bits")
    precision: Precision = Field(
        description="arithmetic of the stages that state none of their own. Trainings keep fp32 weights and make matrix "
                    "products in it (autocast); stages that only answer have their weights in it too")
    device: Literal["auto", "cpu", "cuda"] = Field(description="auto takes a GPU where there is one")
    reproducible: Literal["this-cpu", "any-x86"] = Field(
        description="equal bytes again on this kind of processor, or on x86 processors of any make (tasks/environment.py)")

    @model_validator(mode="after")
    def _on_a_cpu(self) -> Compute:
        if self.reproducible == "any-x86" and self.device != "cpu":
            raise ValueError(f"reproducible: any-x86 needs device: cpu, not {self.device}")
        return self

    def at(self, precision: str | None) -> Compute:
        """The same place with a stage's own precision, where it has one."""
        return self if precision is None else self.model_copy(update={"precision": precision})


class Precise(Section):
    """A stage that computes, and may say how exactly."""

    precision: Precision | None = Field(
        description="arithmetic of this stage: fp32, bf16 or fp16 (in which a GPU alone trains); null: compute.precision")
