"""Numbers that prove themselves: payment cards, bank accounts, Chinese resident identity cards."""

from __future__ import annotations

import re
from datetime import date

# first digits and lengths in use: Visa, Mastercard, Amex, Diners, JCB, Discover, UnionPay, Maestro
_ISSUED = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|6\d{15,18}|5[0678]\d{14,17}"
)
# characters of an account number by country (ISO 13616)
_LENGTHS = {country: int(length) for country, length in re.findall(
    r"([A-Z]{2})(\d\d)",
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 "
    "FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 "
    "LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 "
    "SM27 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20",
)}
_WEIGHTS = [2**n % 11 for n in range(17, 0, -1)]  # GB 11643-1999: 7 9 10 5 8 4 2 1 6 3 7 9 10 5 8 4 2


def is_card(text: str) -> bool:
    """Whether the digits are a payment card's: an issuer's first digits, its length, and the checksum of Luhn."""
    digits = re.sub(r"\D", "", text)
    if not _ISSUED.fullmatch(digits):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 * (doubled > 9)
    return total % 10 == 0


def iban_end(text: str, start: int) -> int | None:
    """Where the account number that begins at `start` ends; None where none does. Its groups may stand apart by one
    space or dash."""
    length, taken, at = _LENGTHS.get(text[start : start + 2].upper(), 0), [], start
    while len(taken) < length and at < len(text):
        if re.match(r"[A-Za-z0-9]", text[at]):
            taken.append(text[at])
        elif text[at] not in " -" or text[at - 1] in " -":
            return None
        at += 1
    if not length or len(taken) < length or re.match(r"[A-Za-z0-9]", text[at : at + 1]):
        return None
    turned = "".join(taken[4:] + taken[:4])
    return at if int("".join(str(int(c, 36)) for c in turned)) % 97 == 1 else None  # ISO 7064, mod 97-10


def is_resident_id(text: str) -> bool:
    """Whether the 18 characters are a Chinese resident's number: a day of birth, and the checksum of ISO 7064, mod 11-2."""
    found = re.sub(r"[ -]", "", text).upper()
    try:
        date(int(found[6:10]), int(found[10:12]), int(found[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(found, _WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == found[17]
