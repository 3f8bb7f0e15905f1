"""One greedy answer, given away token by token: the same tokens as `generate` chooses for that conversation alone.

A consumer may stop between any two tokens, by closing the iterator or by raising from `check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from tasks.errors import ModelError
from tasks.training.generate import Generated
from tasks.training.tokens import Message, encode_chat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HALF = "\ufffd"  # what a tokenizer decodes a part of a character to


class Detokenizer:
    """Token ids to text, as they come. A character whose bytes are not all there yet is held back.

    All ids are decoded each time: what a token looks like depends on those before it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer, self._ids, self._given = tokenizer, [], 0

    def feed(self, token: int) -> str:
        """What can be said after one more token."""
        self._ids.append(token)
        return self._rest(self._text().rstrip(HALF))

    def finish(self) -> str:
        """The rest: what never became a whole character stays the sign for that."""
        return self._rest(self._text())

    def _text(self) -> str:
        return self._tokenizer.decode(self._ids, skip_special_tokens=True).lstrip()

    def _rest(self, text: str) -> str:
        piece, self._given = text[self._given :], max(self._given, len(text))
        return piece


def stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    max_new_tokens: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[str | Generated]:
    """Pieces of the answer and, at last, the whole of it. `check` is called before each token and may raise.

    Joined and stripped, the pieces are the whole. Inference mode is entered anew for each token: a generator that waits
    must not leave it switched on in the thread that consumes it.
    """
    import torch
    from transformers import DynamicCache

    prompt = encode_chat(tokenizer, messages, add_generation_prompt=True)
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if window and len(prompt) + max_new_tokens > window:
        raise ModelError(
            "stream",
            f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones exceed the model's window of {window}",
            "shorten the passages or lower max_new_tokens",
        )
    cache, detokenizer = DynamicCache(config=model.config), Detokenizer(tokenizer)
    chosen: list[int] = []
    logprob, ended, given = 0.0, False, prompt
    for _ in range(max_new_tokens):
        check()
        with torch.inference_mode():
            read = len(prompt) + len(chosen)
            logits = model(
                input_ids=torch.tensor([given], device=model.device),
                attention_mask=torch.ones(1, read, dtype=torch.long, device=model.device),
                position_ids=torch.arange(read - len(given), read, device=model.device)[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1].float()  # (1, V)
            best = logits.log_softmax(-1).max(-1)
            token = int(best.indices)
            logprob += float(best.values)
        chosen.append(token)
        ended, given = token == tokenizer.eos_token_id, [token]
        if piece := detokenizer.feed(token):
            yield piece
        if ended:
            break
    if piece := detokenizer.finish():
        yield piece
    text = tokenizer.decode(chosen, skip_special_tokens=True).strip()
    yield Generated(text, logprob, len(chosen), ended, tuple(chosen))
