"""Personal data out of a text: what is recognised, what is left alone, and that no text makes it slow."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tasks.feedback.masking import mask
from tasks.feedback.numbers import is_card, is_resident_id

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("text, masked", [
    ("write to bob.smith+x@example.co.uk.", "write to [email]."),
    ("<jürgen@müller.example>, 'a@b.example'", "<[email]>, '[email]'"),
    ("请发到zhang@example.com谢谢", "请发到[email]谢谢"),
    ("ＢＯＢ＠example.com", "[email]"),
    ("+44 20 7946 0958", "[phone]"),
    ("+1 (555) 010-0199 or 0044 20 7946 0958", "[phone] or [phone]"),
    ("+49-30-901820.", "[phone]."),
    ("13800138000", "[phone]"),
    ("打１３８００１３８０００或+86 138-0013-8000", "打[phone]或[phone]"),
    ("电话：0571-87654321，(010) 12345678", "电话：[phone]，[phone]"),
    ("07700 900123, 06 12 34 56 78, (555) 010-0123, 1-800-555-0199", "[phone], [phone], [phone], [phone]"),
    ("020 7946 0958 556", "[phone] 556"),  # an extension behind it is no secret
    ("4111 1111 1111 1111", "[card]"),
    ("12 4111-1111-1111-1111, 123", "12 [card], 123"),
    ("4111 1111 1111 1111 123 items", "[card] 123 items"),
    ("378282246310005 / 3782 822463 10005 / 6212345678900000003", "[card] / [card] / [card]"),
    ("GB29 NWBK 6016 1331 9268 19 is mine", "[iban] is mine"),
    ("de89370400440532013000", "[iban]"),
    ("身份证11010519491231002X。", "身份证[id number]。"),
    ("110105 19491231 002x", "[id number]"),
    ("at 192.168.1.7. Also 2001:db8::7, ::1", "at [ip]. Also [ip], [ip]"),
    ("https://u:p@h.example/x, ok", "[url], ok"),
    ("postgresql://bob:s3cret@db/x", "[url]"),
    ("https://example.com/a?x=1&token=abc.", "[url]."),
    ("https://example.com/?to=bob@example.com", "https://example.com/?to=[email]"),
])
def test_what_has_a_form_is_masked(text, masked):
    """Each kind in the ways that people write it, in both languages; a second time changes nothing."""
    assert mask(text) == masked
    assert mask(masked) == masked


@pytest.mark.parametrize("text", [
    "£232, 19:15, W-445, D-895, extension 556, 140 Bridge Road, 金港路54号",
    "1,240 spaces; 12 345 678; 55 months; aisle 28; 8:30-17:00; 10:30:45; 价格232元",
    "09-11-2026, 2026-11-24 03:00:00, 24.11.2026, 05-12-2026 10:30, 20261124030000",
    "4111 1111 1111 1112",  # Luhn: 1 too many
    "4006381333931",  # a bar code
    "GB29 NWBK 6016 1331 9268 18",  # mod 97 is 0, not 1
    "110105194912310021", "110105194913310020",  # the check digit; a month 13
    "version 1.2.3, section 2.10.4.1.7, 256.1.1.1, C++ a::b, std::vector::size",
    "https://example.com/docs?page=2#top", "me@home", "@team", "a+b=c", "[1] [2, 3]", "100 200 300 400 500", "+12.5 %", "",
])
def test_ordinary_numbers_are_left_alone(text):
    """Prices, times, dates, codes, house numbers, bar codes, versions, and what only looks like the real thing."""
    assert mask(text) == text


def test_nothing_of_the_starters_data_is_touched():
    """Thousands of rows and documents of the world that the starter knows, unchanged."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted((ROOT / "examples").rglob("*"))
             if path.suffix in (".jsonl", ".json", ".md", ".html", ".txt", ".csv", ".tsv")]
    lines = [line for text in texts for line in text.splitlines()]
    assert len(lines) > 5000
    assert [line for line in lines if mask(line) != line] == []


def test_what_the_passages_say_stays_in_the_answer():
    """The passage is kept as it is, so the answer may say the same; what it adds is masked."""
    known = ["Write to returns@larkfield.example or +44 20 7946 0958."]
    assert mask("returns@larkfield.example, not bob@x.example", known) == "returns@larkfield.example, not [email]"
    assert mask("ring +44 20 7946 0958", known) == "ring +44 20 7946 0958"
    assert mask("ring +44 20 7946 0959", known) == "ring [phone]"


def test_checksums_by_hand():
    """Luhn: 4111111111111111 has doubled 4 and seven 1s, 8 + 14 + 8 = 30. ID: Σ digit · weight ≡ 0 mod 11 gives 1."""
    assert is_card("4111111111111111") and not is_card("4111111111111112")
    assert not is_card("1111111111111117")  # 8 · 2 + 7 + 7 = 30, but nobody issues it
    body, weights = "11010519491231002", [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    assert sum(int(a) * b for a, b in zip(body, weights, strict=True)) % 11 == 2  # 2 ↔ X
    assert is_resident_id(body + "X") and not is_resident_id(body + "1")


@pytest.mark.parametrize("unit", ["a", "1", "1 ", "a@", "@", "0 ", "01 ", "1-", "::", "1.", "http://", "(", "+1 ", "GB29 ",
                                  "4111 ", "a.", "'", "é", "１", "%", "f:", "a@b.", "+", "86 1", "4111-1111-1111-1111-", "x://a?key="])
def test_time_is_in_proportion_to_the_text(unit):
    """A body's worth of the worst each rule can meet: four times as much takes about four times as long, and never long."""
    def seconds(characters: int) -> float:
        text = unit * (characters // len(unit))
        took = []
        for _ in range(3):
            began = time.process_time()
            mask(text)
            took.append(time.process_time() - began)
        return min(took)

    small, large = seconds(16_000), seconds(64_000)
    assert large < 2 and large < 10 * small + 0.1  # a quadratic rule takes 16 times as long
