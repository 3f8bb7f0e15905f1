"""Handbook documents as files: Markdown, HTML, plain text, PDF and DOCX, the same bytes every time."""

import html
import io
import zipfile
from datetime import UTC, datetime

from starter.examples.handbook import Block, Document, Section

STAMP = (1980, 1, 1, 0, 0, 0)  # the time in every zip entry
CREATED = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def colon(lang: str) -> str:
    """Between a label and its value."""
    return "：" if lang == "zh" else ": "


def markdown(doc: Document) -> bytes:
    """ATX headings, dashes, pipe tables."""
    parts = []
    for s in doc.sections:
        parts.append("#" * s.level + " " + s.heading)
        for b in s.blocks:
            if b.form == "text":
                parts.append(b.text)
            elif b.form == "list":
                parts.append("\n".join(f"- {k}{colon(doc.language)}{v}" for k, v in b.rows))
            else:
                head = "| 项目 | 内容 |" if doc.language == "zh" else "| item | value |"
                parts.append("\n".join([head, "| --- | --- |", *(f"| {k} | {v} |" for k, v in b.rows)]))
    return ("\n\n".join(parts) + "\n").encode(doc.encoding)


def text(doc: Document) -> bytes:
    """A memo: heading, then a paragraph each; facts stand in sentences that name their entity."""
    parts = [doc.sections[0].heading.upper()]
    parts += [b.text for s in doc.sections for b in s.blocks]
    return ("\n\n".join(parts) + "\n").encode(doc.encoding)


def html_block(b: Block, lang: str) -> str:
    """One paragraph, list or table."""
    if b.form == "text":
        return f"<p>{html.escape(b.text)}</p>"
    if b.form == "list":
        items = "".join(f"\n  <li>{html.escape(k)}{colon(lang)}{html.escape(v)}</li>" for k, v in b.rows)
        return f"<ul>{items}\n</ul>"
    rows = "".join(f"\n  <tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in b.rows)
    return f"<table>{rows}\n</table>"


def page(doc: Document) -> bytes:
    """HTML with the navigation and footer that every page of an intranet has and no index should hold."""
    zh = doc.language == "zh"
    body = []
    for s in doc.sections:
        body.append(f"<h{s.level}>{html.escape(s.heading)}</h{s.level}>")
        body += [html_block(b, doc.language) for b in s.blocks]
    links = ["门店", "商品", "员工", "方案"] if zh else ["Stores", "Products", "Staff", "Plans"]
    navigation = " ".join(f'<a href="/{n}">{link}</a>' for n, link in enumerate(links))
    name, footer = ("云雀家居", "仅供内部使用") if zh else ("Larkfield", "For colleagues only")
    lines = [
        "<!DOCTYPE html>",
        f'<html lang="{doc.language}">',
        f'<head><meta charset="{doc.encoding}"><title>{html.escape(doc.sections[0].heading)}</title>',
        "<style>body { font-family: sans-serif; max-width: 40em; margin: auto; }</style></head>",
        "<body>",
        f"<nav>{navigation}</nav>",
        f"<header>{name}</header>",
        "<main>",
        *body,
        "</main>",
        f"<footer>{footer}</footer>",
        "</body>",
        "</html>",
    ]
    return ("\n".join(lines) + "\n").encode(doc.encoding)


def pdf(doc: Document) -> bytes:
    """A cover page, then a page for each section. Chinese by a CID font: no font file is embedded."""
    from reportlab.lib.enums import TA_LEFT
    from reportlab.lib.pagesizes import A5
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate, Spacer

    zh = doc.language == "zh"
    plain = bold = "STSong-Light"
    if zh:
        pdfmetrics.registerFont(UnicodeCIDFont(plain))
    else:
        plain, bold = "Helvetica", "Helvetica-Bold"
    body = ParagraphStyle(
        "body", fontName=plain, fontSize=11, leading=16, alignment=TA_LEFT, spaceAfter=6, wordWrap="CJK" if zh else None
    )
    head = {
        level: ParagraphStyle(f"h{level}", parent=body, fontName=bold, fontSize=20 - 4 * level, leading=24 - 3 * level)
        for level in (1, 2, 3)
    }

    def flow(s: Section) -> list:
        out = [Paragraph(html.escape(s.heading), head[s.level])]
        for b in s.blocks:
            if b.form == "text":
                out.append(Paragraph(html.escape(b.text), body))
            else:  # cells of a PDF table come out one a line: facts are whole lines here
                out += [Paragraph(html.escape(f"- {k}{colon(doc.language)}{v}"), body) for k, v in b.rows]
        return [*out, Spacer(1, 8)]

    story = flow(doc.sections[0])
    for s in doc.sections[1:]:
        story += [PageBreak(), *flow(s)]
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer, pagesize=A5, title=doc.sections[0].heading, author="Larkfield", invariant=1).build(story)
    return buffer.getvalue()


def docx(doc: Document) -> bytes:
    """Word, by python-docx; properties and zip times are fixed, entries sorted."""
    from docx import Document as Word

    word = Word()
    for s in doc.sections:
        word.add_heading(s.heading, s.level)
        for b in s.blocks:
            if b.form == "text":
                word.add_paragraph(b.text)
            elif b.form == "list":
                for k, v in b.rows:
                    word.add_paragraph(f"{k}{colon(doc.language)}{v}", style="List Bullet")
            else:
                table = word.add_table(rows=0, cols=2, style="Table Grid")
                for row in b.rows:
                    for cell, value in zip(table.add_row().cells, row, strict=True):
                        cell.text = value
    properties = word.core_properties
    properties.title, properties.author, properties.last_modified_by = doc.sections[0].heading, "Larkfield", "Larkfield"
    properties.created = properties.modified = CREATED
    properties.comments, properties.revision = "", 1
    buffer = io.BytesIO()
    word.save(buffer)
    return fixed_zip(buffer.getvalue())


def fixed_zip(data: bytes) -> bytes:
    """The same zip with fixed times, order, system and attributes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in sorted(old.namelist(), key=lambda n: (n != "[Content_Types].xml", n)):
            entry = zipfile.ZipInfo(name, STAMP)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            new.writestr(entry, old.read(name))
    return out.getvalue()


WRITERS = {".md": markdown, ".html": page, ".txt": text, ".pdf": pdf, ".docx": docx}


def render(doc: Document) -> bytes:
    """The file's bytes, by its suffix."""
    return WRITERS["." + doc.path.rpartition(".")[2]](doc)
