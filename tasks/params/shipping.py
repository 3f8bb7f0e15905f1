"""Sections of what decides whether a model goes out, and of what is said of it: evaluate, quantize, gate, release, report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.fields import Count, Fraction, Natural, Positive, Precise, Section


class Evaluate(Precise):
    """Held-out behaviours of base, SFT and aligned model."""

    max_new_tokens: Count = Field(description="tokens after which an answer is cut, and then counts as degenerate")
    batch_size: Count = Field(description="prompts answered, compared or scored at once")
    concise_words: Count = Field(description="most words of a concise English answer; citations are not counted")
    concise_characters: Count = Field(description="most letters, digits and characters of a concise Chinese answer")
    kl_prompts: Count = Field(description="held-out prompts to which the aligned model is sampled for its KL")
    champion_cases: Count | None = Field(
        description="cases of each set whose answers travel with a release, to be compared with the next ones; null: all")
    sampled_cases: Natural = Field(
        description="cases of each set that SFT and aligned model also answer by sampling at temperature 1; 0: none")
    reference_cases: Count = Field(description="held-out instruction rows whose answers are compared by chrF, at most")


class Quantize(Precise):
    """GPTQ (Frantar et al. 2022) of the merged model's linear layers, and the comparison with the unquantized model."""

    bits: Literal[4, 8] = Field(description="bits of a quantized weight")
    group_size: Literal[16, 32, 64, 128, 256, 512, 1024] = Field(
        description="weights that share a scale; must divide the input width of every quantized layer. (-1, a scale a row, is "
                    "refused: the CPU kernel that readers choose for it at 4 bits reads no zero-points)")
    symmetric: bool = Field(description="levels symmetric about 0; false: each group has a zero-point of its own too")
    act_order: bool = Field(description="quantize columns in order of activation size; slower to serve on some kernels")
    act_group_aware: bool = Field(
        description="quantize whole groups in order of activation size: most of act_order's gain at no cost in serving")
    damp: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="added to the Hessian's diagonal, as a share of its mean, so that it can be inverted")
    scale_search: bool = Field(description="search each group's scale for the least error; false: its largest weight")
    calibration_chats: Count = Field(description="training chats that the Hessians are summed over")
    max_length: Count = Field(description="tokens; calibration chats are cut there")
    chats: Count = Field(description="held-out chats on which the quantized model is compared with the unquantized one")
    max_new_tokens: Count = Field(description="tokens after which an answer in that comparison is cut")
    batch_size: Count = Field(description="chats of one forward pass")

    @model_validator(mode="after")
    def _goes_together(self) -> Quantize:
        """GPTQModel would say so after hours, and in its own words."""
        if self.act_order and self.act_group_aware:
            raise ValueError("act_order and act_group_aware are two orders of the same columns: set one of them to false")
        return self


class Gate(Section):
    """What a release must reach, and how much it may lose against the live one. null switches a rule off."""

    correct: Fraction | None = Field(description="least share of facts and context cases answered right")
    correct_in_any_language: Fraction | None = Field(description="the same in the language with the lowest share")
    preferred: Fraction | None = Field(description="least share of grounded cases answered the way people prefer")
    abstains: Fraction | None = Field(description="least share of unanswerable cases on which it abstains")
    over_abstains: Fraction | None = Field(description="greatest share of answerable cases on which it abstains")
    degenerate: Fraction | None = Field(description="greatest share of answers empty, cut or repeating themselves")
    most_frequent: Fraction | None = Field(description="greatest share of one text among answers to answerable cases")
    sft_gain: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="least lower end of the interval of SFT's gain over the base in right answers")
    reference_gain: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="least lower end of the interval of the aligned model's gain over the base in chrF, 0 … 1")
    alignment_loss: Fraction | None = Field(
        description="right answers that preference training may cost: the interval must lie above minus this")
    kl: Positive | None = Field(description="nats an answer, greatest KL(aligned ‖ SFT)")
    reward_accuracy: Fraction | None = Field(description="least accuracy of the reward model on correctness pairs")
    agreement: Fraction | None = Field(description="least share of answer tokens on which the quantized model agrees")
    quantized_correct_loss: Fraction | None = Field(
        description="right answers that quantization may cost: the interval must lie below this")
    quantized_preferred_loss: Fraction | None = Field(description="the same for answers the way people prefer")
    quantized_degenerate: Fraction | None = Field(
        description="greatest share of the quantized model's answers empty, cut or repeating themselves")
    documents_right: Fraction | None = Field(
        description="least share of questions on data/documents that the quantized model answers right")
    documents_found: Fraction | None = Field(description="least share of them whose retrieved passages hold the value")
    retrieval_loss: Fraction | None = Field(
        description="values among the passages that search may lose against the live release's, at worst")
    seen_cases: Natural | None = Field(description="most cases of the test sets that rows trained on ask")
    against_champion: Literal["better", "not_worse", "floors"] = Field(
        description="better: worse than the live release in nothing and proven better in something; not_worse: the first "
                    "alone; floors: it is not compared")
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = Field(
        description="chance that a model which is no better (with not_worse: one worse by a margin) goes out within `nights`")
    nights: Count = Field(description="nights that share alpha: each spends alpha / nights")
    champion_cases: Annotated[int, Field(ge=2)] = Field(
        description="least shared cases of a comparison; with fewer the live release stays")
    champion_proves: list[Literal["correct", "preferred", "abstains", "over_abstains", "degenerate", "reference"]] = Field(
        min_length=1, description="behaviours of which one must be proven better; each may spend its part of the night's level")
    champion_correct_loss: Fraction | None = Field(description="share of right answers that may be lost, at worst")
    champion_preferred_loss: Fraction | None = Field(description="the same for answers the way people prefer")
    champion_abstains_loss: Fraction | None = Field(description="the same for abstentions on unanswerable cases")
    champion_over_abstains_rise: Fraction | None = Field(
        description="share of answerable cases on which it may abstain more, at worst")
    champion_degenerate_rise: Fraction | None = Field(
        description="share of answers that may be empty, cut or repetitive more, at worst")
    champion_reference_loss: Fraction | None = Field(
        description="chrF on held-out instructions that may be lost, at worst, 0 … 1")

    @model_validator(mode="after")
    def _asks_something(self) -> Gate:
        """"Not worse" in nothing would let everything out and look like a comparison."""
        limits = [name for name in type(self).model_fields if name.startswith("champion_") and name.endswith(("_loss", "_rise"))]
        if self.against_champion == "not_worse" and all(getattr(self, name) is None for name in limits):
            raise ValueError("against_champion: not_worse asks nothing, for every champion_… limit is null; take floors")
        return self


class Release(Section):
    """What a release says of itself."""

    name: str = Field(description="the model's name on its card")
    license: str = Field(description="license of the weights, for the card; the base model's terms hold")
    figures: dict[str, str] = Field(
        min_length=1,
        description="label → stage.key.path of a number in metrics/; the label's last word is its unit: %, MB or other")


class Page(Section):
    """The nightly report (section `report`)."""

    samples: Count = Field(description="cases shown per set, language and verdict (as wanted, or not)")
    characters: Annotated[int, Field(ge=40)] = Field(
        description="characters of a shown question, note or answer; longer ones are cut")
