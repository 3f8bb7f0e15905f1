"""Tokens of a text that a server embeds: by a tokenizer that is here, or estimated."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import ModelError
from tasks.rag.embedders.folders import TOKENIZER_FILES, locate

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORD = re.compile(r"[A-Za-z]+|[^\sA-Za-z]")


def estimate(text: str) -> int:
    """Tokens of a text when the server's tokenizer is not here, rather too many than too few.

    One for every three letters of an English word, begun ones whole; one for every digit and sign; half a token for
    every UTF-8 byte of anything else: 1.5 for a Chinese character.
    """
    words = WORD.findall(text)
    ascii_ = sum(math.ceil(len(word) / 3) for word in words if word.isascii())
    return ascii_ + math.ceil(sum(len(word.encode(errors="replace")) for word in words if not word.isascii()) / 2)


def load_tokenizer(name: str, revision: str | None, starter: Path) -> Tokenizer:
    """tokenizer.json of a folder or a pinned hub id; it is data, and no code comes with it."""
    from tokenizers import Tokenizer

    path = locate(name, revision, starter, "embed.tokenizer", TOKENIZER_FILES) / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exceptions
        raise ModelError(
            name, f"holds no tokenizer.json that can be read ({error})", "correct embed.tokenizer, or take null"
        ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
