"""The parts of the report: reading, picking samples, drawing, and numbers as text."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.rag.prompt import grounded
from tasks.reporting import figures, words
from tasks.reporting.reading import Figures, column
from tasks.reporting.samples import as_wanted, cut, order, pick, take_apart, verdict


def test_an_inner_key_is_named_by_its_whole_path(tmp_path):
    """Objects and lists of objects know where they are."""
    (tmp_path / "x.json").write_text(json.dumps({"a": {"b": [{"c": 1}]}}))
    read = Figures.read(tmp_path / "x.json")
    assert read["a"]["b"][0]["c"] == 1
    with pytest.raises(DataError, match=r"x\.json: has no 'a\.b\[0\]\.d'"):
        read["a"]["b"][0]["d"]
    assert "d" not in read["a"] and read["a"].get("d", 2) == 2
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match="holds no JSON object"):
        Figures.read(tmp_path / "x.json")


def test_a_curve_without_its_column_is_an_error():
    """Some points may lack a value, all may not."""
    rows = [{"step": 1, "loss": 2.0}, {"step": 2}, {"step": 3, "loss": None}]
    assert column(rows, "step", "loss", Path("curve.jsonl")) == [(1.0, 2.0)]
    with pytest.raises(DataError, match=r"curve\.jsonl: no line has both 'step' and 'margin'"):
        column(rows, "step", "margin", Path("curve.jsonl"))


def test_samples_are_picked_by_hash_and_wrong_ones_have_as_many_places():
    """The order does not depend on the rows' order; one class cannot crowd out the other."""
    rows = [{"id": f"case-{n}", "right": n % 5 != 0} for n in range(40)]
    assert order(rows) == order(rows[::-1])
    chosen = pick(rows, lambda row: row["right"], 3)
    assert [row["right"] for row in chosen] == [True] * 3 + [False] * 3
    assert [row["id"] for row in chosen[:3]] == [row["id"] for row in order(rows) if row["right"]][:3]
    assert len(pick(rows[1:3], lambda row: row["right"], 3)) == 2


@pytest.mark.parametrize("language, question", [("en", "What time does it open?"), ("zh", "几点开门？")])
def test_a_prompt_is_taken_apart_as_it_was_put_together(language, question):
    """Notes of several lines included; a bare question, and anything else, is a question without notes."""
    notes = ["Stores > Oakleigh\nIt opens at 9:00.\nIt closes at 17:00.", "一行", "[about] nothing"]
    assert take_apart(grounded(question, notes, language)) == (question, notes)
    assert take_apart(grounded(question, [], language)) == (question, [])
    assert take_apart("Summarise this:\n[1] x") == ("Summarise this:\n[1] x", [])


def test_verdicts_in_words():
    """The deciding word first; an unanswerable case is judged by abstaining."""
    case = {"right": True, "abstains": False, "cites": False, "concise": True}
    assert verdict(case) == "right, source missing or wrong" and as_wanted(case)
    assert verdict({"right": None, "abstains": False, "cites": None, "concise": False}) == "guesses, not concise"
    assert verdict({"right": False, "abstains": True}) == "wrong, abstains"
    assert as_wanted({"right": None, "abstains": True}) and not as_wanted({"right": False, "abstains": True})
    assert [cut("abcdef", 6), cut("abcdefg", 6)] == ["abcdef", "abcde…"]


def test_dots_stand_where_their_value_is():
    """Room 62 for names and 46 for values leaves 62 … 274: 0.5 is at 168, an interval of 0.25 … 1 from 115 to 274."""
    svg = figures.dots([figures.Group("", [figures.Dot("<b>", 0.5, 0.25, 1.0)])], 'a "name"')
    assert '<circle cx="168" cy="8.5" r="4"/>' in svg
    assert '<line class="interval" x1="115" y1="8.5" x2="274" y2="8.5"/>' in svg
    assert "&lt;b&gt;" in svg and 'aria-label="a &#34;name&#34;"' in svg
    signed = figures.dots([figures.Group("", [figures.Dot("x", 0.0, -0.1, 0.1)])], "", bounds=(-0.1, 0.1))
    assert '<circle cx="168"' in signed and ">+10<" in signed and ">−10<" in signed and 'class="zero"' in signed


def test_curves_fill_their_frame():
    """x from 40 to 312, y from 0 at the bottom (8 + 17 + 170 = 195) to 1 at the top (25)."""
    svg = figures.curves([figures.Line("loss", [(0, 1.0), (100, 0.0)])], "", bounds=(0, 1))
    assert '<polyline class="curve one" points="40,25 312,195"/>' in svg
    assert "<circle" in figures.curves([figures.Line("loss", [(20, 1.0)])], "")  # one point is a point
    assert "nothing recorded" in figures.curves([figures.Line("loss", [])], "")


def test_bars_share_a_scale():
    """The longest bar is 320 wide, the others in proportion; pieces follow each other."""
    svg = figures.bars([figures.Bar("a", [(8, "")], "8"), figures.Bar("b", [(1, ""), (3, "rest")], "4")], "")
    assert 'x="0" y="17" width="320"' in svg
    assert 'x="0" y="52" width="40"' in svg and 'class="bar rest" x="40" y="52" width="120"' in svg
    assert figures.bars([figures.Bar("a", [(0, "")], "0")], "")  # nothing to divide by


@pytest.mark.parametrize("low, high, expected", [
    (0, 1, [0, 0.25, 0.5, 0.75, 1]), (0.28, 0.71, [0.2, 0.4, 0.6, 0.8]), (-6, -4.4, [-6, -5.5, -5, -4.5, -4]),
    (0, 720, [0, 200, 400, 600, 800]), (3, 3, [2.6, 2.8, 3, 3.2, 3.4])])
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    """Steps of 1, 2, 2.5 or 5 times a power of ten; no width gets some."""
    found = figures.ticks(low, high)
    assert found == pytest.approx(expected) and found[0] <= low and found[-1] >= high
    assert all(math.isfinite(float(figures.number(tick, found).replace("−", "-").replace(",", ""))) for tick in found)


def test_names_are_cut_to_their_room():
    """7.4 units a common letter, 4.2 a narrow one, 12 a Chinese character, 10 for the … itself."""
    assert figures.fit("aligned", 46) == "aligned"  # 5 · 7.4 + 2 · 4.2 = 45.4
    assert figures.fit("a" * 20, 70) == "a" * 8 + "…"  # 8 · 7.4 + 10 = 69.2
    assert figures.fit("资料没有说明", 50) == "资料没…"  # 3 · 12 + 10 = 46


def test_numbers_in_words():
    """Signs, tiny values, sizes and plurals."""
    assert [words.signed(1.25, 2), words.signed(-2.0), words.signed(-0.04)] == ["+1.25", "−2.0", "0.0"]
    assert [words.tiny(0.00147), words.tiny(7.2e-7), words.tiny(0)] == ["0.00147", "7.20 · 10⁻⁷", "0"]
    assert [words.megabytes(4_420_000), words.megabytes(2_500_000_000)] == ["4.42", "2,500"]
    assert [words.plural(1, "row"), words.plural(2000, "row"), words.plural(0, "row is", "rows are")] == [
        "1 row", "2,000 rows", "0 rows are"]
    assert words.per_cent(0.8194) == "81.9\u00a0%"


def test_shades_are_stronger_by_equal_ratios():
    """1e-4, 1e-3, 1e-2: the weakest colour 0.12, half-way 0.56, the strongest 1; no value is outlined, 0 has no colour."""
    cells = [figures.Cell("q", str(n), value, f"layer <{n}>") for n, value in enumerate((1e-4, 1e-3, 1e-2, None, 0.0))]
    drawn = str(figures.shades(cells, "losses"))
    assert [part.split('"')[0] for part in drawn.split('fill-opacity="')[1:]] == ["0.12", "0.56", "1.00", "0.00", "0.00"]
    assert drawn.count('class="cell none"') == 1 and drawn.count("<title>layer &lt;") == 5
    assert 'aria-label="losses"' in drawn and drawn.count('class="tick"') == 5


def test_shades_of_one_loss_and_of_none():
    """Nothing to compare with is drawn in full colour, and a model without layers as an empty grid."""
    one = str(figures.shades([figures.Cell("q", "0", 0.5, "")], "one"))
    assert 'fill-opacity="1.00"' in one
    assert "<rect" not in str(figures.shades([], "none"))
