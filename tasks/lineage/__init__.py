"""Where a release comes from, and where a judgement went: `nightshift trace`.

    judged.py    releases/: whose judgements shaped which release
    night.py     dvc.lock of the night that made a release: stages with commands, parameters, inputs and outputs
    history.py   data.dvc in git: which version of the data came when, and what was in it
    cache.py     DVC's cache, by hash
    back.py      a release → parts → stages → data → annotations
    forward.py   an annotation, or an annotator → releases
    command.py   which of the two is asked for; words.py says it in a terminal
    page.py      the first, as a page; tasks/reporting/graph.py draws its stages

Nothing is written down for this alone: all of it is read from what a night and a promotion leave in git and in releases/,
so it can neither go stale nor be forgotten, and each claim is checked by the hash that names it.
"""
