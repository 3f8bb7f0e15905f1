"""Tokenizers and chats: every stage sees the same tokens and the same chat template, and that is asserted.

A tokenizer that reloads as another class gives garbage after training that looked perfect.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}

TEMPLATE = "chat_template.jinja"
PROBE = [{"role": "user", "content": "What time is it?"}, {"role": "assistant", "content": "It is 11:00. [1]"}]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder, checked: chat template present, end token present, pad differs from end."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer_config.json").is_file():
        raise ModelError(str(folder), "holds no tokenizer", "run the stage that writes it: dvc repro base")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    check_tokenizer(tokenizer, str(folder))
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError unless chats can be rendered, ended and padded with this tokenizer."""
    if not tokenizer.chat_template:
        raise ModelError(name, "has no chat template", "let the base stage install one: base.chat_template: chatml")
    if tokenizer.eos_token_id is None:
        raise ModelError(name, "has no end token", "set eos_token in tokenizer_config.json")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        # With pad = end the loss masks the end token away, and the model never learns to stop.
        raise ModelError(name, "needs a pad token that is not the end token", "set pad_token in tokenizer_config.json")
    ids, mask = encode_response(tokenizer, PROBE)
    if not any(mask):
        raise ModelError(name, "its chat template marks no answer ({% generation %} … {% endgeneration %})",
                         "take base.chat_template: chatml or gemma")
    if ids[-1] != tokenizer.eos_token_id or not mask[-1]:
        raise ModelError(name, "its chat template does not end an answer with the end token",
                         "take base.chat_template: chatml or gemma")
    if ids[: len(ids) - sum(mask)] != encode_chat(tokenizer, PROBE[:1], add_generation_prompt=True):
        raise ModelError(name, "its chat template opens an answer differently in training and in generation",
                         "take base.chat_template: chatml or gemma")


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message],
                add_generation_prompt: bool = False) -> list[int]:
    """Token ids of a rendered conversation; with `add_generation_prompt` it stops where an answer begins."""
    text = render_chat(tokenizer, messages, add_generation_prompt)
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # the template writes the special tokens itself


def render_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message],
                add_generation_prompt: bool = False) -> str:
    """The text that `encode_chat` tokenizes."""
    return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)


def encode_response(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation and, for each, 1 where it belongs to an answer (its end token included), else 0."""
    both = tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=True,
                                         return_assistant_tokens_mask=True)
    return list(both["input_ids"]), list(both["assistant_masks"])


def check_same_tokens(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ModelError unless both give the same ids on several hundred strings and render chats to the same ids."""
    if first.chat_template != second.chat_template:
        raise ModelError(name, "the chat template changed on the way", "every stage must use the base's template")
    for field in ("eos_token_id", "pad_token_id", "bos_token_id"):
        if getattr(first, field) != getattr(second, field):
            raise ModelError(name, f"{field} changed from {getattr(first, field)} to {getattr(second, field)}",
                             "save the tokenizer with the class that loads back")
    for text in probe_texts():
        before, after = (t(text, add_special_tokens=False)["input_ids"] for t in (first, second))
        if before != after:
            raise ModelError(name, f"{text!r} gives {len(before)} tokens in memory and {len(after)} after reload",
                             "save the tokenizer with the class that loads back (PreTrainedTokenizerFast)")
        chat = [{"role": "user", "content": text}, PROBE[1]]
        if encode_chat(first, chat) != encode_chat(second, chat):
            raise ModelError(name, f"a chat with {text!r} renders differently after reload", "save it again")


def probe_texts() -> list[str]:
    """Some 330 strings on which tokenizers tend to differ: English, Chinese, numbers, times, code, odd spaces."""
    draw = random.Random(0)
    english = ["It opens at", "The Oakleigh store", "naïve café", "Don't", "e-mail", "  two  spaces", "\ttab", "[1]"]
    chinese = ["店铺几点开门？", "资料没有说明。", "价格：", "，保修", "橡树店", "人民币", "。\n", "（注）"]
    code = ["def f(x):\n    return x + 1", "{'a': [1, 2]}", "a_b.c->d", "#include <x>", "<|x|>", "\n\n", "x==1;"]
    texts = [*english, *chinese, *code, "", " ", "\n", "１２３", "🙂", "İ", "ﬁ"]
    texts += [str(n) for n in (0, 7, 10, 42, 99, 100, 365, 999, 1000, 2026, 12345, 1000000)]
    for _ in range(100):
        number, clock = str(draw.randrange(10 ** draw.randint(1, 6))), f"{draw.randrange(24)}:{draw.randrange(60):02}"
        texts.append(f"{draw.choice(english)} {number}")
        texts.append(f"{draw.choice(chinese)}{clock}{draw.choice(chinese)}")
        texts.append(f"{draw.choice(english)} {clock} {draw.choice(code)}{number}%")
    return texts
