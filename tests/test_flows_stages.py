"""Why a stage failed, in one place: its own error, DVC's, or what it said last."""

from __future__ import annotations

import pytest

from flows import stages

RAN = "Running stage 'sft':"
ENDED = "ERROR: failed to reproduce 'sft': failed to run: python -m tasks sft, exited with 1"
LAST = [f"line {number}" for number in range(40)]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([RAN, "sft: step 3 of 40", "sft: data/a.txt: is sour; take fresh milk", ENDED], "data/a.txt: is sour; take fresh milk"),
        ([RAN, "sft: step 3 of 40", "ERROR: failed to reproduce 'sft': [Errno 28] No space left"], "[Errno 28] No space left"),
        ([RAN, "sft: step 3 of 40", "sft: params.yaml: 2 problems", "  sft.r: no", "  x: no", ENDED],
         "params.yaml: 2 problems\n  sft.r: no\n  x: no"),
        ([RAN, "sft: step 3 of 40", "Killed", ENDED], "failed with\n    sft: step 3 of 40\n    Killed"),
        ([RAN, *LAST, ENDED], "\n".join(["failed with", *(f"    {line}" for line in LAST[-stages.TAIL :])])),
        ([RAN], f"failed with\n    {RAN}"),
        ([], "failed with\n"),
    ],
)
def test_why_a_stage_failed(lines, why):
    """What it printed long before its end is not the reason."""
    assert stages._why("sft", lines) == why
