"""A labelling project on the real server, and an annotator before it in Debian's Chromium."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deploy import label_studio
from tasks.errors import ServiceError
from tasks.labelling import config, html
from tasks.labelling.task import Kind, Task, ask
from tasks.rag.prompt import grounded
from tests.browser import PROGRAMS, program

QUESTION = "Who manages the Goldmouth store?"
NOTES = ["The Goldmouth store opens at 9:00.", "| Goldmouth | |\n| manager | Neil Bell |"]

HOSTILE = [
    "<script>window.pwned = 1; alert(1)</script>",
    "<img src=x onerror='window.pwned = 2'>",
    "![seen](https://tracker.example/a.png) and <https://evil.example>",
    "[click](javascript:window.pwned=3) [data](data:text/html,<script>window.pwned=4</script>) [out](https://evil.example/x)",
    "</div></div></p></td></tr></table></body><style>body{display:none}</style>",
    "<style>@import url(https://tracker.example/a.css);</style><div style='background:url(https://tracker.example/b)'>",
    "<iframe srcdoc='<script>parent.pwned=5</script>'></iframe><svg onload='window.pwned=6'>",
    "a\u202egpj.exe\u202c b\u0000c\u200bd &#x202e; &lt;script&gt;window.pwned=7&lt;/script&gt;",
    "$prompt_html {{ task }} ${window.pwned=8} ]]> <![CDATA[",
    '```"><img src=x onerror=window.pwned=9>\n</code></pre><script>window.pwned=10</script>\n```',
    "| <img src=https://tracker.example/c.png> | [x](vbscript:y) |\n|---|---|\n"
    '| " onmouseover="window.pwned=11 | ![](//tracker.example/d) |',
]


@contextmanager
def serving(tmp: Any) -> Iterator[label_studio.Server]:
    """A server of the run's own; skipped where its packages are out of reach, and only there."""
    try:
        label_studio.SERVER.install()
    except ServiceError as error:
        if re.search("connect|resolve|fetch|sending request|timed out", str(error), re.IGNORECASE):
            pytest.skip(f"tier service: Label Studio cannot be installed here: {str(error)[:200]}")
        raise
    with label_studio.Server(tmp / "label-studio", uuid4().hex + "01234567", uuid4().hex) as server:
        yield server


def client(server: label_studio.Server) -> httpx.Client:
    """Its API, by token."""
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Token {server.token}"}, timeout=60)


def a_task(answers: Sequence[str], question: str = QUESTION, language: str = "en", notes: Sequence[str] = NOTES) -> Task:
    """A task about the first store, or any other question."""
    messages = [{"role": "user", "content": grounded(question, notes, language)}]
    return ask("prompt-1", messages, answers, language=language, model="sft-0123456789ab", release=None, why="random")


def a_correction(answered: str, corrected: str) -> Task:
    """What a user would have said instead."""
    shown = a_task([answered, corrected]).model_dump() | {"answers": {"A": answered, "B": corrected}, "order": [0, 1]}
    return Task(**shown | {"kind": "correction", "prompt_id": "answer-1", "release": "2026-11-24-1", "why": "feedback"})


def project(server: label_studio.Server, kind: Kind, tasks: Sequence[Task]) -> int:
    """A project of its own with these tasks; its id."""
    wanted = config.projects(f"Test {uuid4().hex[:8]}", 0.0)[kind]
    with client(server) as api:
        made = api.post("/api/projects", json=dataclasses.asdict(wanted)).raise_for_status().json()
        rows = [{"data": {**task.data(), **html.shown(task)}} for task in tasks]
        api.post(f"/api/projects/{made['id']}/import", json=rows).raise_for_status()
    return made["id"]


def saved(server: label_studio.Server, number: int) -> list[list[dict[str, Any]]]:
    """The annotations of each task of a project, in the tasks' order."""
    with client(server) as api:
        found = api.get("/api/tasks", params={"project": number, "fields": "all", "page_size": 100}).raise_for_status().json()
    return [task["annotations"] for task in sorted(found["tasks"], key=lambda task: task["id"])]


def said(annotation: dict[str, Any]) -> dict[str, Any]:
    """What an annotation says: control → value."""
    return {result["from_name"]: result["value"][result["type"]] if result["type"] != "textarea" else result["value"]["text"]
            for result in annotation["result"]}  # fmt: skip


def _saves(answer: Any) -> bool:
    return "/annotations" in answer.url and answer.request.method in ("POST", "PATCH")


class Annotator:
    """A person with a browser: logs in by the form, judges what comes."""

    def __init__(self, page: Any, server: label_studio.Server):
        """`page` is Playwright's."""
        self.page, self.server = page, server
        page.set_default_timeout(30_000)

    def log_in(self) -> None:
        """As anybody would."""
        self.page.goto(f"{self.server.url}/user/login/")
        self.page.fill("#email", label_studio.USER)
        self.page.fill("#password", self.server.password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(f"{self.server.url}/")

    def begin(self, number: int) -> None:
        """Label all tasks of a project, instructions read."""
        self.page.goto(f"{self.server.url}/projects/{number}/data?labeling=1")
        self.page.wait_for_selector(".ns")
        self.page.wait_for_selector(".lsf-modal-ls_visible")
        self.page.keyboard.press("Escape")
        self.page.wait_for_selector(".lsf-modal-ls_visible", state="detached")

    def open(self, number: int, place: int = 0, *, judged: bool = False) -> None:
        """One task of a project, from its list. The page first shows an empty one, and then the judgement that is there."""
        with client(self.server) as api:
            found = api.get("/api/tasks", params={"project": number, "page_size": 100}).json()["tasks"]
        task = sorted(row["id"] for row in found)[place]
        self.page.goto(f"{self.server.url}/projects/{number}/data?task={task}")
        self.page.wait_for_selector(f".lsf-bottombar >> text={'Update' if judged else 'Submit'}")
        self.page.wait_for_load_state("networkidle")  # it is drawn twice, and what was typed before is lost

    def submit(self) -> None:
        """Ctrl+Enter, and wait until the server has it."""
        with self.page.expect_response(_saves):
            self.page.keyboard.press("Control+Enter")

    def skip(self) -> None:
        """Ctrl+Space, and wait until the server has it."""
        with self.page.expect_response(_saves):
            self.page.keyboard.press("Control+Space")

    def sees(self, text: str) -> None:
        """Wait until the page shows this text."""
        self.page.wait_for_selector(f".ns:has-text({text!r})")


@contextmanager
def annotating(server: label_studio.Server, **settings: Any) -> Iterator[Annotator]:
    """A new browser profile in which somebody has logged in."""
    from playwright.sync_api import sync_playwright

    if program() is None:
        pytest.skip(f"tier service: no browser here ({', '.join(PROGRAMS)})")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=["--no-sandbox"])
        try:
            person = Annotator(browser.new_context(viewport={"width": 1280, "height": 900}, **settings).new_page(), server)
            person.log_in()
            yield person
        finally:
            browser.close()
