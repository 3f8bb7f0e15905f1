"""A page from its template: the nightly report, and the model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PARTS = Path(__file__).parent  # the template and the style sheet are code: they lie beside it


def render(**values: Any) -> str:
    """The page: title, eyebrow, mood ("good", "bad" or ""), heading, why (sentences; the first is the lead), headlines,
    sections. A name that the template misses is an error, not an empty place; every text is escaped."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PARTS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = Markup((PARTS / "page.css").read_text(encoding="utf-8").rstrip())
    return environment.get_template("page.html.jinja").render(style=style, **values)
