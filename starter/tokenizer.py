"""A byte-level BPE tokenizer in which numbers, clock times, names and Chinese characters are single tokens.

Copying is far easier to learn when the thing to copy is one token, so 0-999, quarter hours and every Chinese character
of the world stay whole. No chat template is saved here: that is a file of the product.

The trap that this module guards against: AutoTokenizer may pick the tokenizer class of the *model* type and drop the
saved pre-tokenizer, which changes the ids without a word. So `check_reload` loads what was written beside a model's
config.json and compares ids and text.

    python -m starter.tokenizer --out DIR
"""

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from starter import documents, words, world

SPECIAL = ["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
ENTRIES = 4096
SPLIT = r"\d{1,2}:\d{2}|\d{1,3}|\p{Han}|\n| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s"
CHAT_WORDS = [  # strings of the product's prompts and answers: they should be cheap although pre-training lacks them
    "Answer from the notes below and name the note; if they do not say, say so.",
    "请根据以下资料回答并注明出处；资料没有说明就直说。",
    "The notes do not say.",
    "资料没有说明。",
    "You are the assistant of Larkfield home stores.",
    "你是云雀家居连锁店的助手。",
    "system\nuser\nassistant\n",
    "Notes:\nquestion answer note handbook Larkfield",
    "资料：\n问题：回答：助手系统用户手册",
]
PUNCTUATION = "？，：；。（）、！“”"


def han(text: str) -> set[str]:
    """The Chinese characters of a text."""
    return {c for c in text if "\u4e00" <= c <= "\u9fff"}


def chinese_characters() -> list[str]:
    """Every Chinese character that the world, its documents or the chat strings use, and full-width punctuation."""
    here = Path(__file__).parent
    sources = [(here / n).read_text(encoding="utf-8") for n in ("larkfield.toml", "words.py", "world.py")]
    sources += [(here / n).read_text(encoding="utf-8") for n in ("documents.py", "attributes.py")]
    return sorted(han("".join(sources + CHAT_WORDS)) | set(PUNCTUATION))


def single_words() -> list[str]:
    """English words that should be one token each after a space."""
    towns = [head + tail for head in words.TOWN_HEAD for tail in words.TOWN_TAIL]
    lists = [words.FIRST, words.LAST, words.LINE, words.THING, words.PLAN_HEAD, words.PLAN_TAIL, words.COLOUR]
    lists += [words.TEAM, words.DAY, words.STREET, words.STREET_TAIL, words.MAKER_TAIL, towns]
    return sorted({w for each in lists for w in each})


def corpus(count: int) -> Iterator[str]:
    """`count` training documents, and what must become whole often enough to win its merges."""
    r = random.Random(7)
    chinese, whole = "".join(chinese_characters()), single_words()
    for _ in range(60):
        yield " ".join(str(n) for n in range(1000))
        yield " ".join(f"{h}:{m:02d}" for h in range(24) for m in (0, 15, 30, 45))
        yield "".join(c + "\n" for c in chinese)
        yield " " + " ".join(whole)
        yield from CHAT_WORDS
    for _ in range(count):
        yield world.text_of(documents.make_document(r, 0.7))


def train(count: int = 12000) -> PreTrainedTokenizerFast:
    """Train on `count` documents of the world; the same code gives the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ENTRIES,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=5,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(count), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|pad|>",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the tokenizer's files, under the class name that old and new versions of transformers both know."""
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(out)
    config = out / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings.pop("backend", None)
    settings.pop("is_local", None)
    config.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_reload(path: Path, tokenizer: PreTrainedTokenizerFast, count: int = 500) -> str:
    """Load `path` by AutoTokenizer beside a Llama config.json and compare ids and text; returns the class it gives."""
    with tempfile.TemporaryDirectory() as folder:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (Path(folder) / file).write_bytes((path / file).read_bytes())
        LlamaConfig(vocab_size=ENTRIES).save_pretrained(folder)  # the trap only shows beside a config.json
        again = AutoTokenizer.from_pretrained(folder)
    r = random.Random(11)
    texts = [world.text_of(documents.make_document(r, 0.7)) for _ in range(count)] + CHAT_WORDS
    for text in texts:
        expected = tokenizer.backend_tokenizer.encode(text).ids
        assert again(text)["input_ids"] == expected, f"{type(again).__name__} gives other ids for {text!r}"
        assert again.decode(expected) == text, f"{type(again).__name__} decodes {text!r} differently"
    return type(again).__name__


def main() -> None:
    """Train, save, check the reload, and print how whole the words are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the tokenizer's files")
    args = parser.parse_args()
    tokenizer = train()
    save(tokenizer, args.out)
    size = lambda text: len(tokenizer.backend_tokenizer.encode(text).ids)  # noqa: E731
    whole = [" " + w for w in single_words()]
    print("entries", len(tokenizer), "reloads as", check_reload(args.out, tokenizer))
    print("words of one token", sum(size(w) == 1 for w in whole) / len(whole), [w for w in whole if size(w) > 1][:20])
    print("numbers of one token", sum(size(str(n)) == 1 for n in range(1000)) / 1000)
    print("Chinese of one token", sum(size(c) == 1 for c in chinese_characters()), "of", len(chinese_characters()))
    for text in CHAT_WORDS:
        print(size(text), tokenizer.backend_tokenizer.encode(text).tokens if text.isascii() else text)


if __name__ == "__main__":
    main()
