"""How likely a model finds given answers: exact, one forward pass, no trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks.training.rows import Encoded

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Scores = list[tuple[float, int]]


def pad_right(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (B, T), each row flush left: under a causal mask padding on the right is never read."""
    import torch

    width = max(map(len, sequences))
    ids = torch.tensor([list(s) + [pad] * (width - len(s)) for s in sequences])
    mask = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in sequences])
    return ids, mask


def answer_logprobs(model: PreTrainedModel, rows: Sequence[Encoded], pad: int, batch_size: int) -> Scores:
    """For each row (sum of log p over its answer's tokens in nats, number of those tokens), in the rows' order."""
    import torch

    scores: dict[int, tuple[float, int]] = {}
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids), i))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start:start + batch_size]
            ids, mask = (t.to(model.device) for t in pad_right([rows[i].ids for i in chosen], pad))
            wanted = pad_right([rows[i].mask for i in chosen], 0)[0][:, 1:].to(model.device).bool()  # (B, T−1)
            # Only the columns from the first answer on get logits, and only answers go through the softmax: a large
            # vocabulary over whole prompts would be most of the work.
            first = int(wanted.any(0).nonzero()[0])
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False,
                           logits_to_keep=ids.shape[1] - first).logits[:, :-1]  # (B, T − 1 − first, V)
            wanted, ids = wanted[:, first:], ids[:, first:]
            logps = logits[wanted].float().log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None])[:, 0]
            for i, part in zip(chosen, logps.split(wanted.sum(1).tolist()), strict=True):
                scores[i] = (float(part.sum()), len(part))
    return [scores[i] for i in range(len(rows))]


def per_token(scores: Scores) -> float:
    """Mean log p a token over all answers, in nats: its negative is the evaluation loss."""
    return sum(total for total, _ in scores) / sum(count for _, count in scores)
