"""How the labelling pages stand in the browser: hostile text stays text, wide and narrow, light and dark, Chinese."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.labelling_fixtures import HOSTILE, Annotator, a_correction, a_task, annotating, project, said, saved

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def person(label_studio):
    """One annotator for all pages."""
    with annotating(label_studio) as person:
        yield person


def switch(person: Annotator, theme: str) -> None:
    """The server's own switch, clicked until it says so."""
    for _ in range(3):
        for _ in range(30):  # a click takes a moment; and of its three themes one looks like another
            if person.page.evaluate("document.documentElement.dataset.colorScheme") == theme:
                return
            person.page.wait_for_timeout(100)
        person.page.click("button[class*=themeToggle]")
    raise AssertionError(f"the switch knows no {theme}")


@pytest.mark.parametrize("kind", ["compare", "rank", "correction"])
def test_hostile_text_is_text(person, label_studio, kind):
    """Of eleven attacks in question, notes, answers and correction none runs, asks, loads or breaks out; all are to be read."""
    first, second = "\n\n".join(HOSTILE[:6]), "\n\n".join(HOSTILE[6:])
    shown = {"compare": [first, second], "rank": [first, second, "third"], "correction": None}[kind]
    task = a_task(shown, HOSTILE[0], notes=HOSTILE[:8]) if shown else a_correction(first, second)
    number = project(label_studio, kind, [task])
    asked: set[str] = set()
    dialogs: list[str] = []
    person.page.context.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    person.page.once("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    person.open(number)
    for word in ("window.pwned = 2", "tracker.example/a.png", "javascript:window.pwned=3", "⟨U+202E⟩", "display:none"):
        person.sees(word)
    person.page.hover(".ns table >> nth=-1")
    assert person.page.evaluate("window.pwned === undefined && getComputedStyle(document.body).display !== 'none'")
    inside = ".ns-text :is(a, img, script, style, iframe, svg, object, input, form, [onerror], [onload], [onmouseover])"
    assert person.page.locator(inside).count() == 0
    assert (asked - {""}, dialogs) == ({urlsplit(label_studio.url).netloc}, [])  # "": data: and blob: of the server's own pages
    person.page.click(".ns-ask .ant-checkbox-wrapper >> nth=0")
    person.submit()
    [[annotation]] = saved(label_studio, number)
    assert {"compare": "verdict", "rank": "confirmed", "correction": "decision"}[kind] in said(annotation)


def test_side_by_side_where_there_is_room(person, label_studio):
    """At 1280 pixels B stands beside A, at 400 below it, and at both nothing sticks out, though code and a table are wide."""
    wide = "x = " + "a_long_name_" * 30
    tables = "| " + " | ".join(["column"] * 20) + " |\n" + "|---" * 20 + "|"
    number = project(label_studio, "compare", [a_task([f"```\n{wide}\n```\n\n{tables}", f"word{'z' * 300}"])])
    tops = {}
    for width in (1280, 400):
        person.page.set_viewport_size({"width": width, "height": 800})
        person.begin(number)
        a, b = (person.page.locator(".ns-card").nth(place).bounding_box() for place in (0, 1))
        tops[width] = b["y"] - a["y"], b["x"] - a["x"]
        for box in (a, b, person.page.locator(".ns-ask").bounding_box()):
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert person.page.evaluate("document.documentElement.scrollWidth") <= width
        buttons = person.page.locator(".lsf-bottombar button:visible").all()
        assert all(box["x"] + box["width"] <= width for box in (button.bounding_box() for button in buttons))
    assert (tops[1280][0], tops[400][1]) == (0, 0) and tops[1280][1] > 300 and tops[400][0] > 50


def test_four_long_answers_on_a_phone(person, label_studio):
    """Long answers to rank stay inside 400 pixels, each in a box of its own; what is asked can be reached."""
    number = project(label_studio, "rank", [a_task([f"{'Long answer. ' * 200}{n}\n\n    {'code ' * 60}" for n in range(4)])])
    person.page.set_viewport_size({"width": 400, "height": 800})
    person.begin(number)
    boxes = [one.bounding_box() for one in person.page.locator("[data-ranker-id]").all()]
    assert len(boxes) == 4 and all(box["x"] >= 0 and box["x"] + box["width"] <= 400 and box["height"] < 400 for box in boxes)
    person.page.click(".ns-confirmed .ant-checkbox-wrapper")
    person.submit()
    [[ranked]] = saved(label_studio, number)
    assert said(ranked)["rank"] == {"rank": ["A", "B", "C", "D"]}


@pytest.mark.parametrize("kind", ["compare", "rank", "correction"])
def test_light_and_dark_can_be_read(person, label_studio, kind):
    """In both themes the text of answers and choices differs from its ground by 7 : 1 (WCAG 2 AAA), in Chinese too."""
    answers = ["西湖店19:15关门。[1]", "资料没有说明。", "西湖店的店长是周远军。"]
    shown = answers[: 2 if kind == "compare" else 3]
    task = a_correction(*answers[:2]) if kind == "correction" else a_task(shown, "西湖店几点关门？", "zh")
    person.page.set_viewport_size({"width": 1280, "height": 900})
    person.open(project(label_studio, kind, [task]))
    person.sees("西湖店19:15关门。[1]")
    grounds = []
    for name in ("light", "dark"):
        switch(person, name)
        grounds.append(luminance(person.page.evaluate(COLOURS, ".ns-ask")[1]))
        for where in (".ns-answer .ns-text", ".ns-note .ns-text", ".ns-ask .ant-checkbox-wrapper", ".ns-question .ns-text"):
            ink, ground = map(luminance, person.page.evaluate(COLOURS, where))
            low, high = sorted((ink, ground))
            assert (high + 0.05) / (low + 0.05) >= 7, (name, where)
    assert grounds[0] > 0.8 and grounds[1] < 0.2


COLOURS = """(where) => {
  const clear = (one) => ['rgba(0, 0, 0, 0)', 'transparent'].includes(getComputedStyle(one).backgroundColor);
  const one = document.querySelector(where);
  let ground = one;
  while (ground.parentElement && clear(ground)) ground = ground.parentElement;
  return [getComputedStyle(one).color, getComputedStyle(ground).backgroundColor];
}"""


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2: 0.2126 R + 0.7152 G + 0.0722 B, each channel linear)."""
    channels = [int(float(part)) / 255 for part in colour.split("(")[1].rstrip(")").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
