"""Great Expectations' Data Docs as pages that stand alone: the same bytes every night, and no network.

GX's templates take styles, scripts, fonts and a logo from seven public servers and put times and random ids into the
page. What they say about the data is kept; all that is taken out here, and one small style sheet of our own makes the
rest readable. Links work from a file, a web server or a DVC checkout.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.files import write_atomic

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

STYLE = """
body { font: 15px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; color: #1c2430; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h5 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
h6 { font-size: .95rem; margin: 1rem 0 .3rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { border-bottom: 1px solid #dde2ea; padding: .35rem .6rem; }
th, td { text-align: left; vertical-align: top; overflow-wrap: break-word; }
th { color: #5a6675; font-weight: 600; white-space: nowrap; }
td table { background: #f7f8fa; font-size: .9rem; }
a { color: #1b5fa8; } .ok { color: #1d7a3e; } .bad { color: #b3261e; } .warn { color: #9a6a00; }
.mark { font-weight: 700; white-space: nowrap; }
""".strip()
NOISE = ("script", "style", "link", "nav", "footer", "img", "meta", "input", "button", "label")
MARKS = {
    "fa-check-circle": ("ok", "✓ ok"),
    "fa-times": ("bad", "✗ failed"),
    "fa-exclamation-triangle": ("warn", "! warning"),
}


def write(out: Path, results: Mapping[str, ExpectationSuiteValidationResult], summary: Sequence[Sequence[str]]) -> None:
    """index.html and a page for each kind that has a result. `summary`: rows of (kind, rows, checks, verdict, findings)
    for the index."""
    for kind, result in results.items():
        write_atomic(out / f"{kind}.html", page(f"Checks of {kind}", _rendered(result)))
    write_atomic(out / "index.html", page("Checks of the raw data", _index(summary, set(results))))


def page(title: str, body: str) -> str:
    """A complete HTML page."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _index(summary: Sequence[Sequence[str]], pages: Set[str]) -> str:
    rows = []
    for kind, count, checks, verdict, note in summary:
        css = {"passed": "ok", "failed": "bad"}.get(verdict, "warn")
        found = "<br>".join(html.escape(line) for line in note.split("\n"))
        cells = [
            f'<a href="{kind}.html">{kind}</a>' if kind in pages else kind,
            count,
            checks,
            f'<span class="mark {css}">{verdict}</span>',
            found,
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("data", "rows", "checks", "verdict", "findings"))
    return f"<table>\n<tr>{head}</tr>\n" + "\n".join(rows) + "\n</table>\n<p>Data Docs by Great Expectations.</p>"


def _rendered(result: ExpectationSuiteValidationResult) -> str:
    """The Data Docs body of one result: GX's own rendering without what changes, loads or only works with scripts."""
    from bs4 import BeautifulSoup
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    view = DefaultJinjaPageView()
    soup = BeautifulSoup(view.render(ValidationResultsPageRenderer().render(result)), "html.parser")
    body = soup.select_one("div.col-md-10") or soup.body
    for collapse in body.select('a[data-toggle="collapse"]'):  # run times, load times, a query for a notebook
        target = collapse["href"].removeprefix("#")
        for block in body.find_all(id=target):
            block.decompose()
        (collapse.find_parent("p") or collapse).decompose()
    for tag in body.find_all(NOISE):
        tag.decompose()
    for icon in body.find_all("i"):
        css, text = next((m for name, m in MARKS.items() if name in icon.get("class", [])), ("", ""))
        mark = soup.new_tag("span", attrs={"class": f"mark {css}"})
        mark.string = text
        icon.replace_with(mark)
    for link in body.find_all("a"):  # to pages of GX's own site layout
        link.unwrap()
    for tag in body.find_all(True):
        tag.attrs = {
            k: v for k, v in tag.attrs.items() if k in ("colspan", "rowspan") or (k == "class" and "mark" in v)
        }
    for text in body.find_all(string=lambda t: t.strip().startswith(("Data asset:", "{'"))):
        place = re.search(r"'where': '(.*?)'", text)
        text.replace_with(place.group(1) if place else "")
    lines = (line.strip() for line in body.decode_contents().split("\n"))
    return '<p><a href="index.html">all data</a></p>\n' + "\n".join(line for line in lines if line)
