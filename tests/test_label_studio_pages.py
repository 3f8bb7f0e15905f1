"""People judge in a real browser on the real server: by keyboard, by mouse; tie, skip, edit. The API says what was saved."""

from __future__ import annotations

import pytest

from tests.labelling_fixtures import QUESTION, Annotator, a_correction, a_task, annotating, project, said, saved

pytestmark = pytest.mark.service
PAIR = ["The manager is Neil Bell. [2]", "The notes do not say."]
FOUR = ["It is Neil Bell. [2]", "Neil Bell manages it.", "The notes do not say.", "It is Ann Lowe. [1]"]


@pytest.fixture(scope="module")
def person(label_studio):
    """One annotator for all pages, logged in by the form."""
    with annotating(label_studio) as person:
        yield person


def order(person: Annotator) -> list[str]:
    """Letters of the answers as they stand."""
    return person.page.eval_on_selector_all("[data-ranker-id]", "all => all.map(one => one.dataset.rankerId)")


def test_two_answers_by_keyboard_alone(person, label_studio):
    """1 and h, 3 for a tie, 2 with two flags, skip: five keys and Ctrl+Enter, and each is saved as what it was."""
    number = project(label_studio, "compare", [a_task(PAIR, question=f"{QUESTION} ({n})") for n in range(4)])
    person.begin(number)
    for place, keys in enumerate(("1h", "3", "2bu")):
        person.sees(f"({place})")
        for key in keys:
            person.page.keyboard.press(key)
        person.submit()
    person.sees("(3)")
    person.skip()
    first, tie, flagged, skipped = (one for [one] in saved(label_studio, number))
    assert said(first) == {"verdict": ["A"], "reasons": ["helpful"]}
    assert said(tie) == {"verdict": ["tie"]}
    assert said(flagged) == {"verdict": ["B"], "flags": ["all_bad", "unsafe"]}
    assert (skipped["was_cancelled"], skipped["result"]) == (True, [])
    assert not first["was_cancelled"] and first["lead_time"] > 0


def test_no_verdict_no_annotation(person, label_studio):
    """Without a verdict the page says what is missing, and nothing is saved."""
    number = project(label_studio, "compare", [a_task(PAIR)])
    person.begin(number)
    person.page.keyboard.press("h")
    person.page.keyboard.press("Control+Enter")
    person.page.wait_for_selector("text=Which answer is better? >> nth=1")
    assert saved(label_studio, number) == [[]]


def test_an_annotation_is_changed(person, label_studio):
    """A verdict that was given can be given anew: the same annotation says the new one."""
    number = project(label_studio, "compare", [a_task(PAIR)])
    person.open(number)
    person.page.keyboard.press("1")
    person.submit()
    [[before]] = saved(label_studio, number)
    person.open(number, judged=True)
    person.page.keyboard.press("2")
    person.submit()
    [[after]] = saved(label_studio, number)
    assert (said(before), said(after)) == ({"verdict": ["A"]}, {"verdict": ["B"]})
    assert after["id"] == before["id"] and after["updated_at"] > before["updated_at"]


def test_four_answers_by_mouse(person, label_studio):
    """The last is dragged to the top; the order has to be confirmed before it is taken; the saved order is the one seen."""
    number = project(label_studio, "rank", [a_task(FOUR)])
    person.begin(number)
    assert order(person) == ["A", "B", "C", "D"]
    last, top = person.page.locator("[data-ranker-id=D] h5"), person.page.locator("[data-ranker-id=A]").bounding_box()
    box = last.bounding_box()
    mouse = person.page.mouse
    mouse.move(box["x"] + 5, box["y"] + 5)
    mouse.down()
    mouse.move(box["x"] + 5, box["y"] - 20, steps=5)
    mouse.move(top["x"] + 60, top["y"] + 2, steps=15)
    mouse.up()
    person.page.wait_for_selector("[data-ranker-id=D]:first-child")
    person.page.keyboard.press("Control+Enter")
    person.page.wait_for_selector("text=Is the order as you want it? >> nth=1")
    assert saved(label_studio, number) == [[]]
    person.page.keyboard.press("Escape")
    person.page.wait_for_timeout(500)
    person.page.keyboard.press("y")
    person.page.keyboard.press("o")
    person.submit()
    [[ranked]] = saved(label_studio, number)
    assert said(ranked) == {"rank": {"rank": ["D", "A", "B", "C"]}, "confirmed": ["yes"], "reasons": ["honest"]}


def test_four_answers_by_keyboard(person, label_studio):
    """Space takes the focused answer, arrows move it, Space lets it go."""
    number = project(label_studio, "rank", [a_task(FOUR[:3])])
    person.begin(number)
    person.page.focus("[data-ranker-id=B]")
    for key in ("Space", "ArrowUp", "Space"):
        person.page.keyboard.press(key)
        person.page.wait_for_timeout(500)  # it glides
    assert order(person) == ["B", "A", "C"]
    person.page.keyboard.press("y")
    person.submit()
    [[ranked]] = saved(label_studio, number)
    assert said(ranked) == {"rank": {"rank": ["B", "A", "C"]}, "confirmed": ["yes"]}


def test_a_correction_is_mended_and_approved(person, label_studio):
    """The user's text stands in the field; what the annotator made of it is saved, once, and once more when he returns."""
    number = project(label_studio, "correction", [a_correction("It is Ann Lowe. [1]", "it is\nNeil Bell")])
    person.open(number)
    assert person.page.input_value(".ns-edit textarea") == "it is\nNeil Bell"
    person.page.fill(".ns-edit textarea", "It is Neil Bell. [2]")
    person.page.click(".ns-decision >> text=yes, it is right")
    person.submit()
    [[approved]] = saved(label_studio, number)
    assert said(approved) == {"text": ["It is Neil Bell. [2]"], "decision": ["approve"]}
    person.open(number, judged=True)
    person.page.wait_for_selector(".ns-edit >> text=It is Neil Bell. [2]")
    person.page.click(".ns-decision >> text=不可以")
    person.submit()
    [[rejected]] = saved(label_studio, number)
    assert said(rejected) == {"text": ["It is Neil Bell. [2]"], "decision": ["reject"]}
