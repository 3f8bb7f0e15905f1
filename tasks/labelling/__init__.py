"""Preferences from people.

    stage select ─► send ─► Label Studio ─► collect ─► inbox ─► data/preferences, data/instructions ─► the next night
    the service  ─► feedback ─► inbox ─► data/prompts ─┘ (thumbs down: asked first; corrections: instructions once approved)

    task.py           what a person is asked, as Label Studio keeps it
    config.py         the labelling pages (XML)                html.py        prompts and answers as safe HTML
    label_studio.py   the only speaker to the server           send.py        tasks that are not there yet
    annotations.py    what people said, into rows              collect.py     since the last time, or from an export file
    inbox.py          from outside data/ into it, under one lock
    people.py         pseudonyms                               withdraw.py    a person's judgements out of the next dataset
    agreement.py      do people agree, and what do they prefer that they should not
    speed.py          judgements made too fast
"""
