"""tasks/progress: what a stage says goes to stderr, at once and not too often."""

from __future__ import annotations

import time

from tasks.progress import bar, log


def test_log_is_one_line_on_stderr(capsys):
    """stdout stays free for results."""
    log("instructions: 3 rows")
    assert capsys.readouterr() == ("", "instructions: 3 rows\n")


def test_bar_passes_items_on_and_tells_now_and_then(capsys):
    """Without a terminal: a line each `every` seconds, none for a quick loop."""
    assert list(bar([1, 2, 3], "quick")) == [1, 2, 3]
    assert capsys.readouterr().err == ""
    for _ in bar(iter(range(3)), "slow", total=3, unit="file", every=0.0):
        time.sleep(0.001)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert said[0].startswith("slow: 0/3 files, ")
