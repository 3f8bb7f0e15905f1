"""The page in a real browser: an answer with its sources, Chinese, hostile text, a key, a narrow window."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tasks.serving import releases
from tests.browser import PROGRAMS, Browser, program
from tests.serving_fixtures import HOSTILE, Two, sections, serving, two_releases

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(program() is None, reason=f"tier service: no browser here ({', '.join(PROGRAMS)})"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Two:
    """A repository with two releases, the later one live."""
    return two_releases(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser():
    """One browser for all pages."""
    with Browser() as browser:
        yield browser


def answered(browser: Browser) -> None:
    """Wait until the page has an answer."""
    state = browser.until("document.body && document.body.dataset.state")
    assert state == "answered", browser.evaluate("document.body.innerText")


def texts(browser: Browser, selector: str) -> list[str]:
    """The text of each element."""
    found = f"JSON.stringify([...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent))"
    return json.loads(browser.evaluate(found))


def test_an_answer_with_its_sources(made, browser):
    """A question in the link is asked at once; the citation leads to the card of its passage; no error on the console."""
    with serving(made.root) as (client, _):
        browser.open(f"{client.base_url}/#q={quote('When does Oakleigh open?')}")
        answered(browser)
        assert texts(browser, "#name") == ["larkfield-assistant"] and texts(browser, "#release") == [f"release {made.two}"]
        [answer] = texts(browser, "#answer")
        assert answer.endswith("[1]") and len(answer) > 10
        assert browser.evaluate("document.querySelector('.cite').getAttribute('href')") == "#source-1"
        assert texts(browser, "#source-1 .source") == ["documents/two/oakleigh.md"]
        assert texts(browser, "#source-1 .passage") == ["The Oakleigh store opens at 21."]
        assert not browser.console


def test_chinese_in_a_narrow_window(made, browser):
    """390 pixels wide, nothing sticks out, and the answer is marked as Chinese."""
    with serving(made.root) as (client, _):
        browser.open(f"{client.base_url}/#q={quote('青山店几点开门？')}", 390, 844)
        answered(browser)
        assert texts(browser, "#source-1 .source") == ["documents/two/青山.md"]
        assert browser.evaluate("document.getElementById('answer').lang") == "zh-Hans"
        assert browser.evaluate("document.documentElement.scrollWidth") == 390


def test_hostile_text_is_shown_and_not_obeyed(made, browser):
    """Markup of a document is text on the page: no element of it, no script run, nothing fetched."""
    with serving(made.root) as (client, _):
        browser.open(f"{client.base_url}/#q=Zyzzyva")
        answered(browser)
        assert texts(browser, "#source-1 .passage") == [HOSTILE]
        assert browser.evaluate("typeof x") == "undefined"
        assert browser.evaluate("document.querySelectorAll('img, #result script').length") == 0
        loaded = browser.evaluate("JSON.stringify(performance.getEntriesByType('resource').map((e) => new URL(e.name).pathname))")
        assert set(json.loads(loaded)) <= {"/page.js", "/page.css", "/health", "/v1/chat/completions"}
        assert not browser.console


def test_a_key_is_asked_for_and_used(made, browser):
    """With keys the page has a field for one and asks nothing by itself; a wrong key is said to be so."""
    loaded = releases.load(made.root, sections())
    with serving(made.root, lambda *_: loaded, keys="right") as (client, _):
        browser.open(f"{client.base_url}/#q={quote('When does Oakleigh open?')}")
        browser.until("document.getElementById('key-row') && !document.getElementById('key-row').hidden")
        for key, state in (("wrong", "failed"), ("right", "answered")):
            browser.evaluate(f"document.getElementById('key').value = {json.dumps(key)}; document.getElementById('ask').click()")
            browser.until(f"document.body.dataset.state === '{state}'")
            if state == "failed":
                assert "a valid API key is needed" in texts(browser, "#status")[0]
