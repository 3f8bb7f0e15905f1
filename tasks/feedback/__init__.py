"""Feedback from use: what was asked and answered, and what users said of it.

    serving/recorder.py ─► log.py ─► harvest.py ─┬─ gather ──────► inbox ─► data/prompts: asked first
    (masked before written)                      └─ corrections ─► Label Studio: an instruction once a person approves

    entries.py   the lines of the log, and ids that cannot be guessed
    masking.py   personal data out of a text
    log.py       a file a day, shared by processes, gone when its time is over
    harvest.py   prompts and corrections out of it
    overview.py  what `nightshift feedback` says and removes
"""

from tasks.feedback.harvest import corrections, gather

__all__ = ["corrections", "gather"]
