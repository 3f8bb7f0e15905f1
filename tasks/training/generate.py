"""Answers from a model, greedy or sampled: batched, left-padded, and the same for the same seed.

The loop is our own rather than `model.generate`: it needs only the chosen tokens' log-probabilities (not a batch of
whole distributions), drops rows that have ended, and draws each answer from its own stream, so that an answer depends
on its prompt and the seed and not on what else is in the batch.

`generate` is all of it; its steps stand alone for batches that are answered elsewhere (tasks/spread): `read`, `cut`,
`answer` a batch, `in_order`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from tasks.errors import ModelError, ParamsError
from tasks.training.tokens import Message, encode_chat

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


Each = TypeVar("Each")


@dataclass(frozen=True)
class Generated:
    """One answer."""

    text: str  # without special tokens
    logprob: float  # nats; sum over the answer's tokens (its end token included) under the model itself
    tokens: int  # length, the end token included
    ended: bool  # whether the model ended it; else it was cut at max_new_tokens
    ids: tuple[int, ...] = ()  # its tokens as chosen, the end token included; the text may tokenize otherwise


@dataclass(frozen=True)
class Sampling:
    """How answers are chosen; temperature 0 is greedy, and then there is one. ParamsError for what does not go together."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    samples: int = 1

    def __post_init__(self):
        greedy = self.temperature == 0
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.samples < 1 or (self.samples > 1 and greedy):
            raise ParamsError("generate", f"temperature {self.temperature}, top_p {self.top_p}, samples {self.samples} do not go "
                              "together", "several samples need a temperature above 0; top_p lies in (0, 1]")


@dataclass
class _Row:
    prompt: int  # its place in the batch
    ids: list[int]
    logprob: float
    ended: bool
    draws: random.Random


def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *,
             max_new_tokens: int, batch_size: int, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0,
             samples: int = 1) -> list[list[Generated]]:
    """Answer each conversation `samples` times; the result is in the order of `conversations`.

    temperature 0 is greedy (and then samples must be 1). `batch_size` counts prompts. A prompt that leaves no room in the
    model's window is a ModelError.
    """
    how = Sampling(max_new_tokens, temperature, top_p, seed, samples)
    return answer_all(model, tokenizer, read(tokenizer, model.config, conversations, max_new_tokens), how, batch_size)


def answer_all(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[list[int]], how: Sampling,
               batch_size: int) -> list[list[Generated]]:
    """The answers to prompts as token ids, in their order."""
    batches = cut(prompts, batch_size)
    found = (answer(model, tokenizer, [prompts[i] for i in batch], how) for batch in batches)
    return in_order(batches, chain.from_iterable(found))


def read(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, conversations: Sequence[Sequence[Message]],
         max_new_tokens: int) -> list[list[int]]:
    """Each conversation's token ids up to where its answer begins; ModelError where that would not fit the model's window."""
    prompts = [encode_chat(tokenizer, messages, add_generation_prompt=True) for messages in conversations]
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    longest = max(map(len, prompts), default=0)
    if window and longest + max_new_tokens > window:
        raise ModelError("generate", f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the model's "
                         f"window of {window}", "shorten the passages or lower max_new_tokens")
    return prompts


def cut(prompts: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Which prompts are answered together, by number: in order of length, so that a batch holds little padding."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    return [order[start:start + batch_size] for start in range(0, len(order), batch_size)]


def in_order(batches: Sequence[Sequence[int]], answers: Iterable[Each]) -> list[Each]:
    """What came of the prompts of all batches, one after the other, in the order of the prompts."""
    found = dict(zip(chain.from_iterable(batches), answers, strict=True))
    return [found[number] for number in range(len(found))]


def _stream(seed: int, prompt: list[int], sample: int) -> random.Random:
    """A source of uniforms that depends on the seed, the prompt's tokens and the sample's number only."""
    name = f"{seed}/{sample}/{','.join(map(str, prompt))}"
    return random.Random(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def pad_left(sequences: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (B, T), each row flush right: the next token follows every prompt at the same column."""
    import torch

    width = max(map(len, sequences))
    ids = torch.tensor([[pad] * (width - len(s)) + list(s) for s in sequences])
    mask = torch.tensor([[0] * (width - len(s)) + [1] * len(s) for s in sequences])
    if not bool(mask[:, -1].all()):
        raise ModelError("generate", "a batch is not padded on the left", "no prompt may be empty")
    return ids, mask


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]],
           how: Sampling) -> list[list[Generated]]:
    """The answers to one batch of prompts, `how.samples` to each."""
    rows = _batch(model, tokenizer, prompts, how)
    answers: list[list[Generated]] = [[] for _ in prompts]
    for row in rows:
        text = tokenizer.decode(row.ids, skip_special_tokens=True).strip()
        answers[row.prompt].append(Generated(text, row.logprob, len(row.ids), row.ended, tuple(row.ids)))
    return answers


def _batch(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], how: Sampling) -> list[_Row]:
    """Answers to a batch of prompts, `how.samples` rows each, in order."""
    import torch
    from transformers import DynamicCache

    ids, mask = (t.to(model.device) for t in pad_left(prompts, tokenizer.pad_token_id))
    positions = (mask.cumsum(1) - 1).clamp(min=0)  # (B, T): padding must not shift a prompt's positions
    cache = DynamicCache(config=model.config)
    rows = [_Row(i, [], 0.0, False, _stream(how.seed, prompt, sample))
            for i, prompt in enumerate(prompts) for sample in range(how.samples)]
    alive = list(rows)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                       use_cache=True, logits_to_keep=1).logits[:, -1].float()  # (B, V)
        if how.samples > 1:  # the prompts are read once, whatever the number of samples
            cache.batch_repeat_interleave(how.samples)
            logits, mask = logits.repeat_interleave(how.samples, 0), mask.repeat_interleave(how.samples, 0)
        position = mask.sum(1)  # (B·samples,) of the token that is chosen next
        for step in range(how.max_new_tokens):
            logps = logits.log_softmax(-1)
            tokens = _choose(logps, alive, how.temperature, how.top_p)  # (B,)
            kept = []
            for k, (row, token, logp) in enumerate(zip(alive, tokens.tolist(),
                                                       logps.gather(1, tokens[:, None])[:, 0].tolist(), strict=True)):
                row.ids.append(token)
                row.logprob += logp
                row.ended = token == tokenizer.eos_token_id
                if not row.ended:
                    kept.append(k)
            if not kept or step == how.max_new_tokens - 1:
                break
            if len(kept) < len(alive):
                keep = torch.tensor(kept, device=tokens.device)
                cache.batch_select_indices(keep)
                alive, tokens, mask, position = [alive[k] for k in kept], tokens[keep], mask[keep], position[keep]
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            logits = model(input_ids=tokens[:, None], attention_mask=mask, position_ids=position[:, None],
                           past_key_values=cache, use_cache=True).logits[:, -1].float()
            position = position + 1
    return rows


def _choose(logps: torch.Tensor, rows: list[_Row], temperature: float, top_p: float) -> torch.Tensor:
    """One token a row, (B, V) → (B,): the likeliest, or drawn by inverting the distribution function of its nucleus
    (Holtzman et al. 2020: the smallest set of likeliest tokens whose probability reaches top_p)."""
    import torch

    if temperature == 0:
        return logps.argmax(-1)
    probabilities, ids = (logps / temperature).softmax(-1), None
    if top_p < 1:
        probabilities, ids = probabilities.sort(dim=-1, descending=True, stable=True)
        total = probabilities.cumsum(-1)
        probabilities = probabilities.masked_fill(total - probabilities >= top_p, 0.0)
    total = probabilities.cumsum(-1)
    uniform = torch.tensor([row.draws.random() for row in rows], device=logps.device, dtype=total.dtype)
    index = torch.searchsorted(total, (uniform * total[:, -1])[:, None], right=True)
    places = torch.arange(probabilities.shape[1], device=logps.device)
    last = torch.where(probabilities > 0, places, -1).amax(-1, keepdim=True)  # a uniform of almost 1 may round past it
    index = index.minimum(last)
    return (index if ids is None else ids.gather(1, index))[:, 0]
