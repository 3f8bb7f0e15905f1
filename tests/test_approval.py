"""What waits for a person, and what a yes and a no leave behind."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks import approval, listing, lock, promote, records
from tasks.errors import GateError
from tasks.files import read_json, write_json
from tests.test_promote import night, snapshot

NIGHT, LATER = datetime(2026, 11, 24, 3, tzinfo=UTC), datetime(2026, 11, 26, 9, tzinfo=UTC)


def judged_anew(root: Path) -> None:
    """The same parts with another verdict: another manifest."""
    path = root / "artifacts/release/manifest.json"
    write_json(path, {**read_json(path), "figures": {"right %": 0.75}})


def test_what_waits(tmp_path):
    """What is whole, new and let out; not what the gate holds, what is live, what lacks a byte, what was rolled back."""
    root = night(tmp_path, "1")
    request = approval.waiting(root)
    assert request == approval.Request("release", *records.candidate(root), None)
    assert request.name == records.candidate(root)[0][:8]
    promote.promote(root, NIGHT)
    assert approval.waiting(root) is None
    assert approval.waiting(night(root, "2", good=False)) is None
    night(root, "2")
    (root / "artifacts/int4/model.safetensors").write_text("3")
    assert approval.waiting(root) is None
    promote.promote(night(root, "2"), NIGHT)
    promote.rollback(root, NIGHT)
    assert approval.waiting(root) is None
    assert approval.waiting(root, again=True).manifest == records.candidate(root)[1]


def test_a_no_is_kept_and_nobody_is_asked_again(tmp_path):
    """Also not about the same parts judged anew; the first no stays; `again` asks; by hand it can still go live."""
    root = night(tmp_path, "1")
    request = approval.waiting(root)
    approval.reject(root, request, NIGHT, "Ada", "too\x1b[31m curt\n")
    kept = read_json(root / f"releases/rejected/{request.name}.json")
    assert (kept["rejected"], kept["by"], kept["comment"], kept["live"]) == ("2026-11-24T03:00:00Z", "Ada", "too[31m curt", None)
    before = snapshot(root)
    approval.reject(root, request, LATER, "Bob", "no")
    assert snapshot(root) == before and records.live(root) is None and records.records(root) == []
    judged_anew(root)
    assert approval.waiting(root) is None
    line = "rejected on 2026-11-24 by Ada: too[31m curt"
    assert approval.rejection(root, records.candidate(root)[1]) == line
    assert f"candidate: {line} (nightshift promote makes it live all the same)" in listing.status(root)
    again = approval.waiting(root, again=True)
    assert approval.overtaken(root, again) is None
    assert approval.waiting(night(root, "2")).kind == "release"
    night(root, "1")
    assert promote.promote(root, LATER).flipped


def test_a_yes_promotes_once_and_only_what_was_shown(tmp_path):
    """Live already; a newer candidate; a candidate that is gone; another live release: each is said and nothing moves."""
    root = night(tmp_path, "1")
    first = approval.waiting(root)
    done = approval.approve(root, first, NIGHT)
    assert done.release == records.live(root) == f"2026-11-24-{first.name}"
    before = snapshot(root)
    assert approval.approve(root, first, LATER) == f"{done.release} is live already"
    second = approval.waiting(night(root, "2"))
    assert approval.overtaken(root, second) is None
    night(root, "3")
    newer = records.candidate(root)[0][:8]
    assert approval.approve(root, second, LATER) == f"a newer candidate ({newer}) has taken its place"
    (root / "artifacts/release/manifest.json").unlink()
    assert approval.overtaken(root, second) is None  # a night is at work: it may come back
    assert approval.approve(root, second, LATER) == "the candidate is not there any more"
    assert snapshot(root) == before
    third = approval.waiting(night(root, "3"))
    (root / "artifacts/int4/model.safetensors").write_text("x")
    with pytest.raises(GateError, match="has other bytes"):
        approval.approve(root, third, LATER)
    assert snapshot(root) == before
    other = promote.promote(night(root, "4"), LATER).release
    assert approval.overtaken(night(root, "3"), third) == f"{other} is live by now, and it was compared with {done.release}"


def test_the_question_shows_figures_reasons_and_links(tmp_path):
    """Candidate beside live with the difference: 75.0 − 50.0 = +25.0; whatever a label or a reason holds stays text."""
    root = night(tmp_path, "1")
    promote.promote(root, NIGHT)
    night(root, "<img src=x> [a](javascript:b) | c")
    judged_anew(root)
    request = approval.waiting(root)
    lines = approval.question(root, request, {"report": "http://127.0.0.1:1/x/index.html"}).splitlines()
    assert lines[0] == f"**Make candidate {request.name} live?** {records.live(root)} is live now."
    assert "[report](http://127.0.0.1:1/x/index.html)" in lines
    assert r"| right \% | 75.0 | 50.0 | +25.0 |" in lines
    assert lines[-1] == r"| correct\: \<img src\=x\> \[a\]\(javascript\:b\) \| c |"


def test_words_of_people_are_one_bounded_line():
    """Neither a terminal nor Markdown nor the reading direction can be steered by them."""
    assert approval.one_line("a\r\n\tb\x1b[2J\u202ec\x00\u200b 好", 99) == "a b[2Jc 好"
    assert approval.one_line("x" * 501, 500) == "x" * 499 + "…"
    assert approval.markdown("<b> *a* `c` _d_ 好!") == r"\<b\> \*a\* \`c\` \_d\_ 好\!"


def test_status_says_when_somebody_is_being_asked(tmp_path):
    """The process that waits holds a lock; when it is gone, however it ended, it waits no more."""
    root = night(tmp_path, "1")
    assert not lock.is_held(root / approval.ASKING)
    with lock.held(root / approval.ASKING, "promote", "a request"):
        said = "candidate: passed the gate and waits for approval in Prefect's UI; by hand: nightshift promote"
        assert listing.status(root)[-1] == said
        assert lock.is_held(root / approval.ASKING)
    assert listing.status(root)[-1] == "candidate: passed the gate; make it live: nightshift promote"
