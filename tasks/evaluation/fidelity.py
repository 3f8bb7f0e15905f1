"""How faithful a compressed model is to the one it came from, on held-out chats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from tasks.evaluation.divergence import Divergence, Spoken, compare, perplexity
from tasks.reports import Report, Share
from tasks.stats import DIGITS, Mean, ratio, share
from tasks.training.generate import Generated, generate
from tasks.training.rows import encode_answer
from tasks.training.tokens import encode_chat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Fidelity(Report):
    """One compressed model against the unquantized one, along the latter's own greedy answers."""

    kl: Mean = Field(description="nats an answer token, KL(unquantized ‖ this model), interval over chats")
    agreement: Mean = Field(description="share of answer tokens at which both find the same token likeliest, 0 … 1")
    perplexity: float = Field(description="per token, of the reference answers of instructions/eval.jsonl")
    identical: Share | None = Field(description="share of chats answered greedily with the same text; null: not asked")


def along(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[list[dict]], *,
          max_new_tokens: int, batch_size: int) -> tuple[list[Spoken], list[Generated]]:
    """The model's own greedy answers, with their prompts as token ids and as they are."""
    answers = [found[0] for found in generate(model, tokenizer, conversations, max_new_tokens=max_new_tokens,
                                              batch_size=batch_size)]
    spoken = [Spoken(encode_chat(tokenizer, messages, add_generation_prompt=True), answer.ids)
              for messages, answer in zip(conversations, answers, strict=True)]
    return spoken, answers


def references(tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict], most: int, max_length: int) -> list[Spoken]:
    """The reference answers of held-out instruction rows that fit into `max_length` tokens, at most `most` of them."""
    spoken = []
    for row in rows:
        whole = encode_answer(tokenizer, row["id"], row["messages"][:-1], row["messages"][-1]["content"])
        if len(whole.ids) <= max_length:
            start = len(whole.ids) - sum(whole.mask)
            spoken.append(Spoken(whole.ids[:start], whole.ids[start:]))
    return spoken[:most]


def measure(model: PreTrainedModel, others: dict[str, PreTrainedModel], spoken: Sequence[Spoken],
            held_out: Sequence[Spoken], *, pad: int, batch_size: int, seed: int) -> tuple[dict[str, Fidelity], float]:
    """Name of a compressed model → its figures (identical left null), and the unquantized model's own perplexity."""
    models = list(others.values())
    near = compare(model, models, spoken, pad=pad, batch_size=batch_size)
    far = compare(model, models, held_out, pad=pad, batch_size=batch_size)
    figures = {name: Fidelity(kl=kl_per_token(own, seed), agreement=agreement(own, seed), identical=None,
                              perplexity=round(perplexity(known, "q"), DIGITS))
               for name, own, known in zip(others, near, far, strict=True)}
    return figures, round(perplexity(far[0], "p"), DIGITS)


def kl_per_token(found: Sequence[Divergence], seed: int) -> Mean:
    """Σ KL / Σ tokens, nats, with an interval over answers."""
    return ratio([d.kl for d in found], [d.tokens for d in found], seed)


def agreement(found: Sequence[Divergence], seed: int) -> Mean:
    """Share of positions with the same likeliest token, with an interval over answers."""
    return ratio([d.agree for d in found], [d.tokens for d in found], seed)


def identical(ours: Sequence[Generated], theirs: Sequence[Generated]) -> Share:
    """Share of answers that are the same text."""
    return share([a.text == b.text for a, b in zip(ours, theirs, strict=True)])
