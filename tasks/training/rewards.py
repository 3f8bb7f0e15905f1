"""The reward model: the SFT model with a score instead of a next token.

The score is linear in what the model knows at the last token of prompt + answer (the end token, so the whole answer has
been seen) and in how likely it finds the answer itself: the mean and the least log-probability of the answer's tokens.
A wrong value is one unlikely token, which a language model sees at once and a fresh head on the last token would have to
learn from nothing. The head and the adapter are saved together; the body is the SFT model, merged in fp32, as it was
when they were trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ModelError
from tasks.files import read_json
from tasks.params import Compute
from tasks.training.models import load_policy, with_adapter
from tasks.training.rows import encode_answer
from tasks.training.scoring import pad_right
from tasks.training.tokens import Message, encode_chat

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def score_model(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A sequence classifier with one output on the policy's own body, which it takes: an adapter on it is on the policy too.

    Its head starts as the mean log-probability of an answer's token: what the policy would rather say scores higher.
    """
    import copy

    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    opening = _opening(tokenizer)

    config = copy.deepcopy(policy.config)
    config.num_labels, config.pad_token_id = 1, tokenizer.pad_token_id  # the last token that is not pad is scored
    with torch.device("meta"):  # a frame without weights: its body is the policy's, which would not fit twice
        model = AutoModelForSequenceClassification.from_config(config, dtype=policy.dtype,
                                                               attn_implementation=policy.config._attn_implementation)
    setattr(model, model.base_model_prefix, getattr(policy, policy.base_model_prefix))
    words = policy.get_output_embeddings().weight.detach().clone()  # (V, H), frozen
    model.score = torch.nn.Linear(words.shape[1] + 2, 1, bias=False)
    with torch.no_grad():
        model.score.weight.zero_()
        model.score.weight[0, -2] = 1.0

    def forward(input_ids, attention_mask=None, use_cache=False, **_):
        """(B, T) → logits (B, 1)."""
        body = getattr(model, model.base_model_prefix)
        hidden = body(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state  # (B, T, H)
        return SequenceClassifierOutputWithPast(logits=model.score(features(
            hidden, words, input_ids, attention_mask, _answer_mask(input_ids, attention_mask, opening))))

    model.forward = forward
    return model.to(policy.device)


def features(hidden: torch.Tensor, words: torch.Tensor, ids: torch.Tensor, attention: torch.Tensor,
             answers: torch.Tensor) -> torch.Tensor:
    """What the head reads, (B, H + 2): the last token's state, and mean and least log-probability of the answer's tokens.

    hidden: (B, T, H) of the body; words: (V, H), the policy's output embedding; answers: (B, T) 1 at their tokens. Rows
    stand flush left.
    """
    import torch

    last = attention.sum(1) - 1  # (B,) the end token
    wanted = answers[:, 1:].bool()  # (B, T − 1)
    # Only the answers' positions go through the vocabulary: (n, V) instead of (B, T, V).
    logits = hidden[:, :-1][wanted] @ words.to(hidden.device, hidden.dtype).T
    logps = logits.float().log_softmax(-1).gather(1, ids[:, 1:][wanted][:, None])[:, 0]  # (n,)
    grid = torch.zeros(wanted.shape, device=hidden.device).masked_scatter(wanted, logps)  # (B, T − 1), ≤ 0
    mean = grid.sum(1) / wanted.sum(1).clamp(min=1)
    end = hidden[torch.arange(len(hidden), device=hidden.device), last].float()
    return torch.cat([end / end.shape[1] ** 0.5, mean[:, None], grid.amin(1)[:, None]], 1)


def _opening(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens with which the template opens an answer, from its mark on: [<|im_start|>, assistant, newline]."""
    messages = [{"role": "user", "content": "?"}]
    with_, without = (encode_chat(tokenizer, messages, add_generation_prompt=flag) for flag in (True, False))
    added = with_[len(without):]
    return added[1:] if tokenizer.decode(added[:1]).isspace() else added


def _answer_mask(ids: torch.Tensor, attention: torch.Tensor, opening: list[int]) -> torch.Tensor:
    """(B, T) 1 at the tokens of the last answer, end token included: all after the last opening."""
    import torch

    width = len(opening)
    found = (ids.unfold(1, width, 1) == torch.tensor(opening, device=ids.device)).all(-1)  # (B, T − width + 1)
    steps = torch.arange(found.shape[1], device=ids.device)
    start = (found * (steps + 1)).amax(1) - 1 + width  # (B,) where the answer begins
    return attention * (torch.arange(ids.shape[1], device=ids.device) >= start[:, None])


def load_reward(base: Path, sft: Path, reward: Path, compute: Compute) -> tuple[Any, PreTrainedTokenizerBase]:
    """The trained reward model, merged, in evaluation mode, and the tokenizer."""
    policy, tokenizer = load_policy(base, [sft], compute)
    path = reward / "adapter_config.json"
    if path.is_file() and read_json(path)["task_type"] != "SEQ_CLS":
        raise ModelError(str(reward), "holds no score head", "run the stage that writes it: dvc repro reward")
    model = with_adapter(score_model(policy, tokenizer), reward)
    return model.merge_and_unload().eval(), tokenizer


def score(model: Any, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]],
          answers: Sequence[str], batch_size: int = 64) -> list[float]:
    """One reward for each (conversation that ends with the user, answer), in their order. Larger is better."""
    import torch

    rows = [encode_answer(tokenizer, f"answer {i}", messages, answer).ids
            for i, (messages, answer) in enumerate(zip(conversations, answers, strict=True))]
    rewards = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start:start + batch_size]
            ids, mask = (t.to(model.device) for t in pad_right([rows[i] for i in chosen], tokenizer.pad_token_id))
            scores = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, 0]  # (B, 1) → (B,)
            for i, value in zip(chosen, scores.float().tolist(), strict=True):
                rewards[i] = value
    return rewards
