"""How far one model is from another: KL, agreement and likelihood along given answers, from whole distributions.

The KL at each position is the exact sum over the vocabulary, not the log-ratio of the one token that was drawn: the
same expectation with far less variance, and never negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.training.generate import pad_left

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Spoken:
    """A prompt and an answer to it, as token ids; the answer's end token is included where it has one."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True)
class Divergence:
    """Model q seen from model p along one answer."""

    kl: float  # nats, Σ over the answer's positions of KL(p ‖ q)
    agree: int  # positions at which both find the same token likeliest
    logprob_p: float  # nats, log-likelihood of the answer under p
    logprob_q: float  # and under q
    tokens: int  # positions


def compare(p: PreTrainedModel, others: Sequence[PreTrainedModel], spoken: Sequence[Spoken], *, pad: int,
            batch_size: int) -> list[list[Divergence]]:
    """Teacher-force every answer through p and through each other model q; the result is [q][answer].

    Answers must not be empty. Work goes in order of length, so that a batch holds little padding.
    """
    order = sorted(range(len(spoken)), key=lambda i: (len(spoken[i].prompt) + len(spoken[i].answer), i))
    found: list[dict[int, Divergence]] = [{} for _ in others]
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        rows = [spoken[i] for i in batch]
        logps_p = answer_logps(p, rows, pad)
        for q, results in zip(others, found, strict=True):
            for i, row, a, b in zip(batch, rows, logps_p, answer_logps(q, rows, pad), strict=True):
                results[i] = _divergence(a, b, row.answer)
    return [[results[i] for i in range(len(spoken))] for results in found]


def answer_logps(model: PreTrainedModel, rows: Sequence[Spoken], pad: int) -> list[torch.Tensor]:
    """Log-probabilities over the vocabulary at each answer position, a (T, V) fp32 tensor a row, T its answer's length.

    Rows are padded on the left, so that all answers end at the last column and only the last columns' logits are made.
    """
    import torch

    ids, mask = (t.to(model.device) for t in pad_left([[*row.prompt, *row.answer] for row in rows], pad))
    positions = (mask.cumsum(1) - 1).clamp(min=0)  # (B, T)
    keep = max(len(row.answer) for row in rows) + 1
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep,
                       use_cache=False).logits[:, :-1].float()  # (B, keep − 1, V): column t predicts token t + 1
        return [row_logits[len(row_logits) - len(row.answer):].log_softmax(-1)
                for row, row_logits in zip(rows, logits, strict=True)]


def perplexity(divergences: Sequence[Divergence], under: str) -> float:
    """exp(−mean log-likelihood a token) under "p" or "q"."""
    import math

    total = math.fsum(d.logprob_p if under == "p" else d.logprob_q for d in divergences)
    return math.exp(-total / sum(d.tokens for d in divergences))


def _divergence(p: torch.Tensor, q: torch.Tensor, answer: Sequence[int]) -> Divergence:
    """Both (T, V) log-probabilities at the T positions of `answer`."""
    import torch

    chosen = torch.tensor(answer, device=p.device)[:, None]
    kl = (p.exp() * (p - q.to(p.device))).sum(-1).double().sum()
    return Divergence(
        kl=max(0.0, float(kl)),
        agree=int((p.argmax(-1) == q.to(p.device).argmax(-1)).sum()),
        logprob_p=float(p.gather(1, chosen).double().sum()),
        logprob_q=float(q.to(p.device).gather(1, chosen).double().sum()),
        tokens=len(answer),
    )
