"""What an assistant may say to a case: right or wrong, with or without its source, brief or chatty.

Wordings are our own and few, on purpose: a model of a few million parameters has to learn the behaviour, not the prose.
An abstention has the answer's own sentence, with "not stated" where the value would be. A small model finds out that the
notes are silent where it looks for the value, and a sentence that begins otherwise would have to know before it looks.
"""

import random

from starter.documents import NOT_STATED
from starter.examples.cases import Case, made_up
from starter.world import KINDS

CHATTY = {
    "en": [
        "You asked: {q} {a} I hope this helps.",
        "{q} {a} Please ask again if you need more.",
        "Thank you for asking. {a} This is what I found in the notes.",
        "Here is what I found. {a} Please ask again if you need more.",
    ],
    "zh": ["{q}{a}有问题请再问。", "问题是：{q}{a}这是资料里的说明。", "谢谢提问。{a}如有问题，请联系门店。"],
}
CHATTY_FACT = {  # without notes there are none to speak of
    "en": ["You asked: {q} {a} I hope this helps.", "Thank you for asking. {a} Please ask again if you need more."],
    "zh": ["{q}{a}有问题请再问。", "谢谢提问。{a}如有问题，请联系门店。"],
}
CHATTY_ABSTENTION = {
    "en": ["You asked: {q} {a} I hope this helps.", "Thank you for asking. {a} Please ask the store."],
    "zh": ["{q}{a}有问题请再问。", "谢谢提问。{a}如有问题，请联系门店。"],
}


def statement(case: Case, value: str, note: int | None = None, r: random.Random | None = None) -> str:
    """The answer's sentence with `value`, then its source; chatty when `r` is given."""
    a = KINDS[case.entity["kind"]]["attributes"][case.key]
    text = a["zh_answer" if case.language == "zh" else "answer"].replace("{v}", value)
    if note:
        text += ("" if case.language == "zh" else " ") + f"[{note}]"
    if r is None:
        return text
    frames = CHATTY if case.passages else CHATTY_FACT
    return r.choice(frames[case.language]).format(q=case.question, a=text)


def abstention(case: Case, r: random.Random | None = None) -> str:
    """Says that the notes do not say; chatty when `r` is given."""
    text = statement(case, NOT_STATED[case.language])
    return text if r is None else r.choice(CHATTY_ABSTENTION[case.language]).format(q=case.question, a=text)


def misread(case: Case, r: random.Random) -> tuple[str, int]:
    """A wrong value from the notes and the number of its note; a made-up one with the asked note if there is none."""
    return r.choice(case.wrong) if case.wrong else (made_up(case, r), case.note)
