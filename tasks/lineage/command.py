"""`nightshift trace`: which walk is asked for, and in which form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.errors import ParamsError
from tasks.files import canonical_json, write_atomic
from tasks.lineage import back, forward, words


def trace(
    root: Path,
    release: str | None,
    annotation: str | None,
    annotator: str | None,
    stage: str | None,
    html: Path | None,
    as_json: bool,
) -> Iterator[str]:
    """Lines for a terminal. ParamsError where the options ask for two things at once."""
    ahead = annotation is not None or annotator is not None
    if ahead and (stage or html):
        raise ParamsError("trace", "--stage and --html are about a release, not about a judgement", "ask for one of the two")
    if annotator is not None and annotation is None and release:
        raise ParamsError("trace", "a person's judgements go to all releases", f"leave out {release}, or add --annotation ID")
    if annotation is not None:
        found = forward.of_annotation(root, annotation, annotator, release)
        yield from [_json(found.told())] if as_json else words.forward(found)
    elif annotator is not None:
        yield from _people(root, annotator, as_json)
    else:
        yield from _back(back.trace(root, release), stage, html, as_json)


def _back(found: back.Trace, stage: str | None, html: Path | None, as_json: bool) -> Iterator[str]:
    if html:
        from tasks.lineage import page

        write_atomic(html, page.page(found))
        yield f"{found.release}: {html}"
    if as_json:
        yield _json(back.told_of_stage(found, stage) if stage else found.told())
    elif stage:
        yield from words.one_stage(found, stage)
    elif not html:
        yield from words.back(found)


def _people(root: Path, annotator: str, as_json: bool) -> Iterator[str]:
    """By the name in the data; else by Label Studio user id or e-mail address, as `nightshift withdraw` takes them."""
    who = [annotator]
    releases, untold = forward.of_people(root, who)
    if not releases:
        from tasks.labelling.withdraw import resolve
        from tasks.params import load

        who = resolve(root, load(root / "params.yaml"), annotator)
        releases, untold = forward.of_people(root, who)
    if as_json:
        yield _json({"annotators": who, "releases": [vars(of) for of in releases], "untold": untold})
    else:
        yield from words.people(who, releases, untold)


def _json(told: object) -> str:
    return canonical_json(told).rstrip()
