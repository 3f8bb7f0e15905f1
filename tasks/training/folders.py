"""What the files of model folders say of chats: the template, the token that ends an answer, the token that fills up.

A tokenizer, a config and a generation config each name the end token, and different programs read different ones of them.
A folder in which they disagree, or a quantized model that ends its answers otherwise than the one it came from, answers
well in one program and for ever in another. Read from the files, for that is what others read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.errors import ModelError
from tasks.files import read_json

TEMPLATE = "chat_template.jinja"
TOKENS = {"eos_token": "eos_token_id", "pad_token": "pad_token_id"}  # in tokenizer_config.json → in both configs


def check_same_chat(first: Path, *others: Path) -> dict[str, int | list[int] | None]:
    """Raise ModelError, naming both places, unless all folders have the same template, and the same end and pad token in
    tokenizer, config and generation config. `first` is what the others are held to, and itself where nothing is said yet.
    Returns the ids that they agree on: eos_token_id, pad_token_id."""
    known: dict[str, tuple[str, Any]] = {}
    for folder in (first, *others):
        for what, place, value in facts(folder):
            there, expected = known.setdefault(what, (place, value))
            if value != expected:
                said = (f"is another template than {there}" if what == TEMPLATE else
                        f"has {what} {value}, and {there} has {expected}")
                raise ModelError(place, said,
                                 "run the stages that write them again: dvc repro base, and what follows")
    return {key: known[key][1] for key in TOKENS.values()}


def facts(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """(what, place, value): the template's bytes, and each id where it is stated; ModelError where a file is missing."""
    for name in (TEMPLATE, "tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"):
        if not (folder / name).is_file():
            raise ModelError(str(folder / name), "is missing", "run the stage that writes it again: dvc repro")
    yield TEMPLATE, str(folder / TEMPLATE), (folder / TEMPLATE).read_bytes()
    settings, vocabulary = read_json(folder / "tokenizer_config.json"), read_json(folder / "tokenizer.json")
    for token, key in TOKENS.items():
        yield key, str(folder / "tokenizer_config.json"), number(vocabulary, settings.get(token))
    for name in ("config.json", "generation_config.json"):
        stated = read_json(folder / name)
        for part in (stated, stated.get("text_config") or {}):
            yield from ((key, str(folder / name), part.get(key))
                       for key in TOKENS.values() if part is stated or key in part)


def number(vocabulary: dict[str, Any], token: Any) -> int | None:
    """The id of a token in a tokenizer.json; None where it has none."""
    text = token.get("content") if isinstance(token, dict) else token
    for added in vocabulary.get("added_tokens", []):
        if added["content"] == text:
            return added["id"]
    entries = vocabulary["model"]["vocab"]  # BPE: token → id; Unigram: [[token, score], …]
    if isinstance(entries, dict):
        return entries.get(text)
    return next((place for place, entry in enumerate(entries) if entry[0] == text), None)
