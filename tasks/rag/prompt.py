"""The grounded prompt and how an answer is read: the one place where both are written.

The starter data is generated with it, training and evaluation render with it and the answer stage asks with it, so
the model never meets a prompt at night that it did not see in training. Passages are untrusted text: `defang` keeps a
document from forging a note's number, a second question or a chat marker.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """The words around passages and question in one language. A release carries the ones it was trained with."""

    head: str  # what to do, on a line of its own
    known: str  # the line above the passages
    question: str  # what stands before the question
    abstention: str  # what is said where nothing was found


TEMPLATES = {
    "en": Template(
        head="Answer the question from the notes below and name the note; if they do not say, say so.",
        known="Known information:",
        question="Question: ",
        abstention="The notes do not say.",
    ),
    "zh": Template(
        head="请根据以下资料回答用户问题并注明出处；资料没有说明就直说。",
        known="已知信息：",
        question="用户问题：",
        abstention="资料没有说明。",
    ),
}

HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Chinese characters, for use inside a character class
_HAN = re.compile(f"[{HAN}]")
_WORD = re.compile(r"[A-Za-z]+")
# [1] [1, 2] [note 1] ［1］ 【资料1】: what models write when they cite
CITATION = re.compile(
    r"[\[［【]\s*(?:notes?|passages?|资料|来源)?\s*(\d{1,3}(?:\s*[,，、;；]\s*\d{1,3})*)\s*[\]］】]", re.IGNORECASE
)
_MARK = re.compile(r"[\[［【]\s*(\d{1,3})\s*[\]］】]")
_SPECIAL = re.compile(r"<\|([^<>|]{0,40})\|>|</?s>|\[/?INST\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]")
_LABEL = re.compile(
    r"^\s*(question\s*:|known information\s*:|(?:用户)?问题\s*[：:]|已知信息\s*[：:])", re.IGNORECASE | re.MULTILINE
)

_SAY = r"(?:say|state|mention|tell|specify|contain|include|cover|give|answer|provide|indicate|show|list|name)"
_SOURCE = r"(?:notes?|passages?|documents?|text|context|sources?|information)"
_ABSTAINS_EN = re.compile(
    r"\b(?:"
    rf"{_SOURCE}(?: \w+)? (?:do|does|did) ?(?:not|n't) {_SAY}"
    rf"|{_SOURCE}(?: \w+)? (?:don't|doesn't|didn't) {_SAY}"
    r"|(?:is|are|was) ?(?:not|n't) (?:mentioned|stated|said|specified|given|covered|provided|listed|known|in the notes)"
    r"|(?:isn't|aren't) (?:mentioned|stated|said|specified|given|covered|provided|listed|known|in the notes)"
    rf"|(?:no|not enough) {_SOURCE} (?:is|are|about|on|in|to|here|given|available|says?)"
    r"|not (?:say|mentioned|stated|specified) in the (?:notes?|passages?|text|documents?|context)"
    r"|(?:i|we) (?:do not|don't|did not|cannot|can not|can't|could not|couldn't|am unable to|are unable to)"
    r" (?:know|say|tell|find|answer|determine)"
    r"|nothing (?:in|about) (?:the notes|this|that|it)"
    r")",
    re.IGNORECASE,
)
_ABSTAINS_ZH = re.compile(
    r"(?:资料|文中|文档|材料|内容|信息|原文)[^。！？]{0,8}?(?:没有|未|并未|没|不曾|无)(?:有)?"
    r"(?:说明|提到|提及|说|写|给出|提供|包含|注明|指出|涉及)"
    r"|未提及|没有提到|没有提及|没有说明|未说明|没有相关|无相关|没有(?:这方面的)?信息"
    r"|不知道|不清楚|无法(?:确定|回答|得知|判断)|不能(?:确定|回答)|查不到|找不到"
)


def defang(passage: str) -> str:
    """A passage that cannot pass for anything but a passage.

    Control and direction characters go, blank lines close up, `[2]` becomes `(2)`, chat markers such as `<|im_end|>`
    lose their brackets, and a line that starts like the question is quoted.
    """
    text = passage.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    text = _CONTROL.sub("", text)
    # taking one marker out may join the halves of another: repeat until nothing changes (each round shortens the text)
    while (again := _SPECIAL.sub(lambda match: match.group(1) or "", text)) != text:
        text = again
    text = _MARK.sub(r"(\1)", text)
    text = _LABEL.sub(r"> \1", text)
    return "\n".join(line.strip() for line in text.split("\n") if line.strip())


def grounded(
    question: str, passages: Sequence[str], language: str, templates: Mapping[str, Template] = TEMPLATES
) -> str:
    """The user message: what to do, numbered notes from 1, question. Without passages it is the bare question."""
    if not passages:
        return question
    words = templates.get(language, templates["en"])
    notes = [f"[{number}] {defang(passage)}" for number, passage in enumerate(passages, start=1)]
    return "\n".join([words.head, words.known, *notes, f"{words.question}{question}"])


def abstains(text: str) -> bool:
    """Whether an answer says that it does not know, in the usual English and Chinese ways."""
    plain = strip_citations(text).replace("’", "'")
    return bool(_ABSTAINS_EN.search(plain) or _ABSTAINS_ZH.search(plain))


def citations(text: str) -> list[int]:
    """Numbers of the notes an answer cites, each once, in order of first mention."""
    numbers: list[int] = []
    for match in CITATION.finditer(text):
        for number in re.findall(r"\d+", match.group(1)):
            if int(number) not in numbers:
                numbers.append(int(number))
    return numbers


def strip_citations(text: str) -> str:
    """The answer without its citations and without the spaces they leave behind."""
    bare = CITATION.sub("", text)
    bare = re.sub(r"[ \t]{2,}", " ", bare)
    return re.sub(r"\s+([.,;:!?。，；：！？])", r"\1", bare).strip()


def language_of(text: str) -> str:
    """`zh` when Chinese characters are at least as many as Latin words, else `en`."""
    han = len(_HAN.findall(text))
    return "zh" if han and han >= len(_WORD.findall(text)) else "en"
