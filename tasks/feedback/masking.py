"""Personal data out of a text before it is written anywhere: what has a form or a checksum becomes [email], [phone], ….

By rules, without a model: they are the same every time, say what they do, and take time in proportion to the text,
whoever wrote it. What has no form (names, addresses, what somebody tells of themselves) is not recognised; see
docs/decisions/0015. Numbers of everyday use are left alone: where a number alone could be either, a checksum decides.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from tasks.feedback.numbers import iban_end, is_card, is_resident_id

_GONE = "\0"  # stands in the place of what is found, so that no later rule looks at it
_LATIN = "A-Za-z0-9\u00c0-\u024f"
_DASHES = {ord(c): "-" for c in "\u2010\u2011\u2012\u2013\u2014\u2212"}
_SPACES = {ord(c): " " for c in "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000"}
_WIDE = {0xFF01 + n: chr(0x21 + n) for n in range(94)}  # full-width forms
_AS_TYPED = {**_DASHES, **_SPACES, **_WIDE}

# Time in proportion to the text: a rule begins once in a run of its characters, and is possessive or bounded.
_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z0-9+.-]++://([^\s<>\"\0]++)")
_SECRET = re.compile(
    r"[?&#;](?:api[_-]?key|key|access[_-]?token|auth|token|password|passwd|pwd|secret|sig|signature|session(?:id)?)=[^&#]",
    re.IGNORECASE,
)
_EMAIL = re.compile(rf"(?<![{_LATIN}._%+'-])[{_LATIN}._%+'-]++@[{_LATIN}-]{{1,63}}(?:\.[{_LATIN}-]{{1,63}}){{1,8}}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}[ -]?(?=[A-Za-z0-9])")
_RESIDENT = re.compile(r"(?<![A-Za-z0-9])[1-9]\d{5}[ -]?\d{8}[ -]?\d{3}[0-9Xx](?![A-Za-z0-9])")
_CARDS = tuple(
    re.compile(rf"(?<![\d.]){form}(?!\d)")
    for form in (
        r"\d{14,19}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}",
        r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}",
        r"\d{4}([ -])\d{6}\1\d{4,5}",
        r"\d{6}[ -]\d{13}",
    )
)
_PHONES = (
    re.compile(r"(?<![A-Za-z0-9+])(?:\+|(?<!\d[.,])00)[1-9](?:[ ()./-]{0,3}\d){6,14}(?!\d)"),  # with a country's code
    re.compile(r"(?<![\d.])(?:86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"),  # Chinese mobile
    # with the 0 that is dialled within a country: 020 7946 0958, (0571) 87654321, 06 12 34 56 78; not 09-11-2026
    re.compile(
        r"(?<![A-Za-z0-9+/.-])(?<!\d:)(?!\d{1,2}([ ./-])\d{1,2}\1\d{4}(?!\d))"
        r"\(?0\d(?:[ ()./-]{0,2}\d){8,10}(?<=\d\d)(?!\d)"
    ),
    re.compile(r"(?<![A-Za-z0-9+/.-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}([.-]))\d{3}(?(1)\1|-)\d{4}(?![\d-])"),  # (555) 123-4567
)
_IPV4 = re.compile(r"(?<![A-Za-z0-9.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)")
_IPV6 = re.compile(r"(?<![A-Za-z0-9:.])[0-9A-Fa-f:.]++(?:%[A-Za-z0-9]{1,16})?(?![A-Za-z0-9:])")

Span = tuple[int, int]


def mask(text: str, known: Iterable[str] = ()) -> str:
    """The text with typed placeholders for what is recognised. What stands in a text of `known` (the passages shown,
    which are kept beside it as they are) stays, so that an answer can still be learned from."""
    seen = _as_typed(text)
    beside = [_as_typed(other) for other in known]
    found: list[tuple[int, int, str]] = []
    for name, rule in RULES:
        spans = [span for span in rule(seen) if not any(seen[slice(*span)] in other for other in beside)]
        found += [(start, end, name) for start, end in spans]
        seen = _without(seen, spans)
    pieces, at = [], 0
    for start, end, name in sorted(found):
        pieces += [text[at:start], f"[{name}]"]
        at = end
    return "".join([*pieces, text[at:]])


def _as_typed(text: str) -> str:
    """The text, character by character, as an English keyboard has it: full-width forms, dashes, spaces, digits."""
    return "".join(
        c if c < "\x80" else str(unicodedata.decimal(c)) if c.isdecimal() else _AS_TYPED.get(ord(c), c) for c in text
    )


def _without(text: str, spans: Iterable[Span]) -> str:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [text[at:start], _GONE * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])


def _urls(text: str) -> Iterator[Span]:
    """Addresses that carry a user, a password or a token."""
    for match in _URL.finditer(text):
        place = re.split(r"[/?#]", match[1], maxsplit=1)[0]
        if "@" in place or _SECRET.search(match[1]):
            yield match.start(), match.start() + len(match[0].rstrip(".,;:!?)]}'，。；：！？）】"))


def _emails(text: str) -> Iterator[Span]:
    for match in _EMAIL.finditer(text):
        leading = len(match[0]) - len(match[0].lstrip(".%+'-"))
        yield match.start() + leading, match.start() + len(match[0].rstrip("-"))


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        if end := iban_end(text, match.start()):
            yield match.start(), end


def _where(pattern: re.Pattern[str], really: Callable[[str], bool] = lambda found: True) -> Callable[[str], Iterator[Span]]:
    """A rule that looks again from the next character where the look of it was not all."""

    def rule(text: str) -> Iterator[Span]:
        at = 0
        while match := pattern.search(text, at):
            good = really(match[0])
            at = match.end() if good else match.start() + 1
            if good:
                yield match.span()

    return rule


def _ipv6(text: str) -> Iterator[Span]:
    for match in _IPV6.finditer(text):
        address = match[0].rstrip(".")
        # a digit, for a::b may be two words of a program
        if 3 <= len(address) <= 62 and address.count(":") > 1 and re.search(r"\d", address) and _is_address(address):
            yield match.start(), match.start() + len(address)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


RULES: tuple[tuple[str, Callable[[str], Iterator[Span]]], ...] = (
    ("url", _urls),
    ("email", _emails),
    ("iban", _ibans),
    ("id number", _where(_RESIDENT, is_resident_id)),
    *(("card", _where(pattern, is_card)) for pattern in _CARDS),
    *(("phone", _where(pattern)) for pattern in _PHONES),
    ("ip", _where(_IPV4, _is_address)),
    ("ip", _ipv6),
)
