"""A night asks a person in Prefect's own UI, in a real browser: Resume, the question with its figures, a no, and a yes."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import minigraph
import pytest
import yaml
from test_flows_nightly import GIT
from test_labelling_wakes import healthy, program

from deploy.processes import free_ports
from tasks import records
from tests.browser import PROGRAMS
from tests.browser import program as installed
from tests.waiting import PATIENCE, until

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(installed() is None, reason=f"tier service: no browser here ({', '.join(PROGRAMS)})"),
]


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """The test graph with a report page, where promotion waits for a person; and a Prefect server that stays, with its UI."""
    port = free_ports(1)
    url, log = f"http://127.0.0.1:{port}/api", tmp_path / "prefect.log"
    settings = {"PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": url, "NO_PROXY": "127.0.0.1"}
    for name, value in {**GIT, **settings, "PYTHONPATH": str(minigraph.ROOT)}.items():
        monkeypatch.setenv(name, value)
    root = minigraph.make(tmp_path)
    graph = minigraph.graph()
    command = "mkdir -p reports/nightly && cp page.html reports/nightly/index.html"
    graph["stages"]["report"] = {"cmd": command, "deps": ["page.html"], "outs": ["reports/nightly"]}
    (root / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    (root / "page.html").write_text("<title>The night</title><h1>Better than yesterday</h1>")
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("approval: auto", "approval: manual"))
    start = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with program(log, *start, cwd=root):
        until(lambda: healthy(url), log)
        yield root


def answer(page, url: str, decision: str, comment: str) -> str:
    """Resume the run as a person does; what the question says."""
    page.goto(url)
    page.get_by_role("button", name="Resume", exact=True).click()
    form = page.locator(".p-modal, [role=dialog]").filter(has_text="Decision").first
    form.get_by_role("link", name="the night's report").wait_for()
    question = form.inner_text()
    with page.context.expect_page() as opened:
        form.get_by_role("link", name="the night's report").click(modifiers=["Control"])
    assert opened.value.locator("h1").inner_text() == "Better than yesterday"
    opened.value.close()
    form.locator(".p-select-button__control").first.press("ArrowDown")
    page.get_by_role("option", name=decision, exact=True).click()
    form.locator("textarea").nth(0).fill(comment)
    form.locator("textarea").nth(1).fill("Ada")
    form.get_by_role("button", name="Submit").click()
    form.wait_for(state="detached")
    return question


def test_a_person_says_no_and_then_yes(root, tmp_path):
    """The night ends and asks; a no is kept in git and nothing goes live; asked again, a yes makes the same candidate live."""
    from playwright.sync_api import sync_playwright

    log = tmp_path / "run.log"

    def asked() -> list[str]:
        return re.findall(r"press Resume on (\S+)", log.read_text())

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(1000 * PATIENCE)
        with program(log, sys.executable, "-m", "flows.nightly", "--no-push", cwd=root) as night:
            until(asked, log)
            name = records.candidate(root)[0][:8]
            question = answer(page, asked()[0], "reject", "<i>too curt</i>")
            until(lambda: night.poll() is not None, log)
        assert f"Make candidate {name} live? Nothing is live yet." in question and re.search(r"right %\s+50\.0", question)
        assert re.search(r"the gate lets it out\s+the milk", question)
        assert f"{name} was rejected by Ada (<i>too curt</i>); nothing is live yet" in log.read_text() and night.returncode == 0
        assert records.live(root) is None
        assert minigraph.run(root, "git", "log", "-1", "--format=%s|%b").strip() == (
            f"Rejected {name}|Rejected by Ada (<i>too curt</i>)"
        )
        with program(log, sys.executable, "-m", "flows.promote", "--again", "--no-push", cwd=root) as again:
            until(asked, log)
            answer(page, asked()[0], "approve", "well then")
            until(lambda: again.poll() is not None, log)
        browser.close()
    live = records.live(root)
    assert live.endswith(name) and f"{live} is live, approved by Ada (well then)" in log.read_text() and again.returncode == 0
