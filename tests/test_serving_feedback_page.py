"""Feedback on the page in a real browser: thumbs by mouse and keyboard, words, what is said beforehand, and off."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tasks.feedback.log import Log
from tasks.serving import releases
from tests.browser import PROGRAMS, Browser, program
from tests.serving_fixtures import Two, sections, serving, two_releases
from tests.test_serving_feedback import recorder
from tests.test_serving_page import answered, texts

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(program() is None, reason=f"tier service: no browser here ({', '.join(PROGRAMS)})"),
]
ASKED = f"#q={quote('When does Oakleigh open?')}"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Two:
    """A repository with two releases, the later one live."""
    return two_releases(tmp_path_factory.mktemp("feedback-page"))


@pytest.fixture(scope="module")
def loaded(made) -> releases.LoadedRelease:
    """The live release."""
    return releases.load(made.root, sections())


@pytest.fixture(scope="module")
def browser():
    """One browser for all pages."""
    with Browser() as browser:
        yield browser


def shown(browser: Browser, name: str) -> bool:
    """Whether an element can be seen."""
    return browser.evaluate(f"document.getElementById({json.dumps(name)}).checkVisibility()")


def press(browser: Browser, key: str, text: str = "") -> None:
    """A key, as a person presses it."""
    codes = {"Tab": 9, "Enter": 13, " ": 32}
    more = {"key": key, "windowsVirtualKeyCode": codes[key], **({"text": text} if text else {})}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **more)
    browser.call("Input.dispatchKeyEvent", type="keyUp", **more)


def click(browser: Browser, name: str) -> None:
    """A click with the mouse where the element is."""
    box = f"document.getElementById({json.dumps(name)})"
    browser.evaluate(f"{box}.scrollIntoView({{block: 'center'}})")
    middle = "(({left, top, width, height}) => [left + width / 2, top + height / 2])"
    where = browser.evaluate(f"{middle}({box}.getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        browser.call("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], button="left", clickCount=1)


def one(root: Path):
    """The only answer that is kept."""
    [entry] = Log(root, 30).entries()
    return entry


def test_a_thumb_down_with_words(made, loaded, browser, tmp_path):
    """It counts at once; the form has the answer to correct; what is sent replaces the bare thumb; nothing leaks out."""
    with serving(made.root, lambda *_: loaded, recorder=recorder(tmp_path)) as (client, _):
        browser.open(f"{client.base_url}/{ASKED}")
        answered(browser)
        assert shown(browser, "feedback") and not shown(browser, "better")
        click(browser, "down")
        browser.until("document.activeElement.id === 'reason'")
        assert one(tmp_path).said.rating == "down" and one(tmp_path).said.reason is None
        assert browser.evaluate("document.getElementById('correction').value") == one(tmp_path).answered.answer
        assert browser.evaluate("document.getElementById('reason').maxLength") == 40
        browser.call("Input.insertText", text="wrong <b>hour</b>")
        browser.evaluate("document.getElementById('correction').select()")
        browser.call("Input.insertText", text="At 21. [1]")
        click(browser, "send")
        browser.until("document.getElementById('thanks').textContent.startsWith('Thank you')")
        said = one(tmp_path).said
        assert (said.rating, said.reason, said.correction) == ("down", "wrong <b>hour</b>", "At 21. [1]")
        assert not shown(browser, "better")
        click(browser, "down")  # again: the words come back, and nothing is sent that would replace them
        assert shown(browser, "better") and one(tmp_path).said == said
        assert not browser.console


def test_a_thumb_up_by_keyboard(made, loaded, browser, tmp_path):
    """The buttons have names, stand in the order of the page and tell which is pressed."""
    with serving(made.root, lambda *_: loaded, recorder=recorder(tmp_path)) as (client, _):
        browser.open(f"{client.base_url}/{ASKED}")
        answered(browser)
        browser.evaluate("document.getElementById('ask').focus()")
        names = []
        for _ in range(4):
            press(browser, "Tab")
            names.append(browser.evaluate("document.activeElement.ariaLabel ?? document.activeElement.className"))
            if names[-1] == "Good answer":
                break
        assert names == ["cite", "Good answer"]
        press(browser, " ", " ")
        browser.until("document.getElementById('up').ariaPressed === 'true'")
        assert browser.evaluate("document.getElementById('down').ariaPressed") == "false"
        assert one(tmp_path).said.rating == "up" and not shown(browser, "better")
        browser.evaluate("document.getElementById('question').value = 'When does Marsh open?'")
        click(browser, "ask")
        browser.until("document.getElementById('up').ariaPressed === 'false'")  # the next answer has no thumb yet


def test_an_answer_that_has_gone_is_said_so(made, loaded, browser, tmp_path):
    """The service's words beside the buttons; no thumb is shown as pressed."""
    recording = recorder(tmp_path)
    with serving(made.root, lambda *_: loaded, recorder=recording) as (client, _):
        browser.open(f"{client.base_url}/{ASKED}", 390, 844)
        answered(browser)
        recording._settle()
        one(tmp_path)
        Log(tmp_path, 30).purge()
        click(browser, "up")
        browser.until("document.getElementById('thanks').className === 'error'")
        assert "no answer that is kept" in texts(browser, "#thanks")[0]
        assert browser.evaluate("document.getElementById('up').ariaPressed") == "false"
        assert browser.evaluate("document.documentElement.scrollWidth") == 390


def test_who_asks_is_told_beforehand(made, loaded, browser, tmp_path):
    """How long questions are kept, in both languages, before anything is asked. With the log off: no word, no button."""
    with serving(made.root, lambda *_: loaded, recorder=recorder(tmp_path)) as (client, _):
        browser.open(f"{client.base_url}/")
        browser.until("document.getElementById('kept') && !document.getElementById('kept').hidden")
        assert "30 days" in texts(browser, "#kept")[0] and "30天" in texts(browser, "#kept-zh")[0]
        assert not shown(browser, "feedback")
    with serving(made.root, lambda *_: loaded) as (client, _):
        browser.open(f"{client.base_url}/{ASKED}")
        answered(browser)
        assert not any(shown(browser, name) for name in ("kept", "kept-zh", "feedback", "up", "down"))
