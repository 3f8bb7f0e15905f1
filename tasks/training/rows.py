"""Rows into tokens, and the order in which they are shown.

The trainers of TRL drop what is too long without a word and answer wrong columns with a bare KeyError, so rows are
checked, encoded and ordered here. The order is a plain list made from a seed: batches of similar length (little
padding), and a pair of weight 0.5 is shown in half of the passes, which needs no weighted loss inside the trainer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import DataError
from tasks.files import read_jsonl
from tasks.training.tokens import Message, encode_chat, encode_response

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 32  # batches that are sorted by length together


@dataclass(frozen=True)
class Encoded:
    """One conversation as the model reads it."""

    id: str
    ids: list[int]
    mask: list[int]  # 1 where the loss is: the answers, each with its end token


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, each as a whole conversation."""

    id: str
    messages: list[Message]
    answers: tuple[str, str]  # chosen, rejected
    chosen: Encoded
    rejected: Encoded
    weight: float  # of how many passes it is shown in; from the agreement of the people who ranked


def read_rows(path: Path, columns: Sequence[str], *, empty: bool = False) -> list[dict]:
    """Rows of a JSON-lines file that all have `columns`; DataError on a missing column, or no rows unless `empty`."""
    rows = read_jsonl(path)
    for number, row in enumerate(rows, 1):
        missing = [column for column in columns if column not in row]
        if missing:
            raise DataError(f"{path}:{number}", f"lacks {', '.join(missing)} (has {', '.join(sorted(row))})",
                            "run stage prepare, which writes these columns")
    if not rows and not empty:
        raise DataError(str(path), "has no rows",
                        "add rows to data/, or see in dropped.jsonl of stage prepare why none is left")
    return rows


def encode_instructions(tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict], max_length: int,
                        name: str) -> tuple[list[Encoded], list[str]]:
    """Rows that fit, encoded, and the ids of those that are longer than `max_length` tokens.

    DataError if none fits or if a row does not end with an answer.
    """
    encoded, too_long = [], []
    for row in rows:
        messages = row["messages"]
        if not messages or messages[-1]["role"] != "assistant":
            raise DataError(f"{name}: {row['id']}", "does not end with an assistant message", "mend or drop the row")
        ids, mask = encode_response(tokenizer, messages)
        if len(ids) > max_length:
            too_long.append(row["id"])
        else:
            encoded.append(Encoded(row["id"], ids, mask))
    _some_left(encoded, rows, max_length, name)
    return encoded, too_long


def encode_pairs(tokenizer: PreTrainedTokenizerBase, rows: Sequence[dict], max_length: int,
                 name: str) -> tuple[list[Pair], list[str]]:
    """Pairs of which both sides fit, and the ids of the others. DataError if none fits or if the sides are equal."""
    pairs, too_long = [], []
    for row in rows:
        if row["chosen"] == row["rejected"]:
            raise DataError(f"{name}: {row['id']}", "'chosen' equals 'rejected'", "drop the row or label it again")
        sides = [encode_answer(tokenizer, row["id"], row["messages"], row[side]) for side in ("chosen", "rejected")]
        if max(len(side.ids) for side in sides) > max_length:
            too_long.append(row["id"])
        else:
            pairs.append(Pair(row["id"], row["messages"], (row["chosen"], row["rejected"]), *sides,
                              float(row.get("weight", 1.0))))
    _some_left(pairs, rows, max_length, name)
    return pairs, too_long


def one_a_prompt(pairs: Sequence[Pair]) -> list[Pair]:
    """The first pair of each question, in their order."""
    first: dict[str, Pair] = {}
    for pair in pairs:
        first.setdefault(pair.messages[-1]["content"], pair)
    return list(first.values())


def encode_answer(tokenizer: PreTrainedTokenizerBase, name: str, messages: Sequence[Message], answer: str) -> Encoded:
    """A prompt and one answer; the mask covers this answer only, not the earlier ones of a long conversation."""
    prompt = encode_chat(tokenizer, messages, add_generation_prompt=True)
    ids = encode_chat(tokenizer, [*messages, {"role": "assistant", "content": answer}])
    if ids[: len(prompt)] != prompt:
        raise DataError(name, "prompt and answer share a token at their border", "strip the answer's leading space")
    return Encoded(name, ids, [0] * len(prompt) + [1] * (len(ids) - len(prompt)))


def _some_left(left: Sequence, rows: Sequence, max_length: int, name: str) -> None:
    if not left and rows:
        raise DataError(name, f"all {len(rows)} rows are longer than max_length ({max_length} tokens)",
                        "raise max_length or shorten the passages")


def schedule(lengths: Sequence[int], weights: Sequence[float], epochs: int, batch: int, seed: int) -> list[int]:
    """Row numbers in the order of training, `epochs` passes.

    A row of weight w is shown w·epochs times, spread evenly over the passes; a remainder is drawn by the row's own
    stream. Within WINDOW batches of one pass rows are sorted by length, cut into batches, and the batches shuffled, so
    that a batch holds little padding while long and short batches still alternate. Rows that do not fill a batch open
    the next pass.
    """
    draw = random.Random(seed)
    shows = [_rounded(weight * epochs, f"{seed}/{i}") for i, weight in enumerate(weights)]
    order: list[int] = []
    left: list[int] = []
    for epoch in range(epochs):
        # The e-th pass gets ⌊n(e+1)/E⌋ − ⌊ne/E⌋ of a row's n showings.
        passed = [i for i, n in enumerate(shows) for _ in range(n * (epoch + 1) // epochs - n * epoch // epochs)]
        draw.shuffle(passed)
        passed = left + passed
        full = len(passed) - len(passed) % batch
        left = passed[full:]
        for start in range(0, full, batch * WINDOW):
            window = sorted(passed[start:min(start + batch * WINDOW, full)], key=lambda i: (lengths[i], i))
            cut = [window[k:k + batch] for k in range(0, len(window), batch)]
            draw.shuffle(cut)
            order += [i for rows in cut for i in rows]
    return order + left


def _rounded(value: float, name: str) -> int:
    """`value` rounded up with the probability of its fraction, drawn from a stream of its own."""
    uniform = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return int(value) + (uniform < value - int(value))
