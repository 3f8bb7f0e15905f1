"""New embeddings for tokens that pre-training never showed.

A token that never occurs is only ever pushed down, by the softmax, and every such token by the same amount: all their
rows end up as one long vector. With tied embeddings a model can then neither read such tokens apart nor write one of
them, and an adapter on the linear layers cannot mend it. Chat marks are the usual case, for raw text has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ALIKE = 0.9  # cosine to the pad token's row from which a row counts as never trained


def unseen(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> torch.Tensor:
    """(V,) which rows were never trained: those that point where the pad token's row points, which no text contains."""
    import torch

    rows = model.get_input_embeddings().weight.detach().float()  # (V, H)
    return torch.nn.functional.cosine_similarity(rows, rows[tokenizer.pad_token_id][None], dim=1) > ALIKE


def refresh(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, marks: tuple[str, ...]) -> int:
    """Where a mark of the chat template was never trained, redraw all rows that were not; returns their number.

    A redrawn row comes from the normal distribution of the trained rows, dimension by dimension, from a seed of its own
    number, plus a step of that length to where all such rows pointed, which keeps the token unlikely until it is taught.
    The mark that ends an answer starts as the newline, which ends a line of text; the mark that opens a turn starts as
    the end of text, after which something new begins.
    """
    import torch

    dead = unseen(model, tokenizer)
    ids = [tokenizer.convert_tokens_to_ids(mark) for mark in marks]
    if not any(bool(dead[i]) for i in ids):
        return 0
    embedding = model.get_input_embeddings().weight
    trained = embedding.detach().float()[~dead]
    mean, spread = trained.mean(0), trained.std(0)
    away = embedding.detach().float()[dead].mean(0)
    away *= spread.norm() / away.norm()
    heads = {id(w): w for w in (embedding, model.get_output_embeddings().weight)}.values()  # one where they are tied
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    starts = {ids[-1]: newline[-1] if newline else None, ids[0]: tokenizer.bos_token_id}
    with torch.no_grad():
        for token in dead.nonzero().flatten().tolist():
            like = starts.get(token)
            noise = torch.randn(len(mean), generator=torch.Generator().manual_seed(token))
            row = mean + spread * noise + away
            if like is not None and not bool(dead[like]):
                row = embedding[like].float() + 0.1 * spread * noise  # near it, but another token
            for weight in heads:
                weight[token] = row.to(weight.dtype)
    return int(dead.sum())
