"""Documents into Markdown text, one module a format. Everything after this sees text, headings and pages only.

    markdown  .md .markdown     headings as they are; front matter, comments, emphasis marks and link targets go
    text      .txt .text        any usual encoding; short lines that stand alone become headings
    html      .html .htm        the main part: no navigation, header, footer, script, nor anything hidden
    pdf       .pdf              page by page; big type becomes headings; running heads and feet go
    docx      .docx             through HTML; heading styles become headings
    csv       .csv .tsv         a row is a section: its title, its long text, the other columns as a list (records.py)
    jsonl     .jsonl .ndjson    the same of objects, one a line; .json: an array of them

Documents are untrusted and often broken: one that cannot be read is a Problem with its name and reason, and the rest
goes on. Nothing in a document is followed: no link, no image, no external entity. A parser that hangs, crashes or takes
too much memory does so in a process of its own (reader.py).
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import DataError

FORMATS = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".html": "html",
    ".htm": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
NAMED_BY_FILE = ("csv", "jsonl")  # what these hold has no title of its own
KNOWN = ", ".join(FORMATS)
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "\u00a0": " ", "\u202f": " "})


class Unreadable(Exception):
    """A loader's way to say why a document cannot be used; becomes a Problem."""


@dataclass(frozen=True)
class Page:
    """Markdown text; `number` from 1 where the format has pages."""

    text: str
    number: int | None = None


@dataclass(frozen=True)
class Document:
    """A document as text. `notes` are things lost on the way, such as pages without text."""

    source: str
    pages: tuple[Page, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A document, or a part of it, that could not be used."""

    source: str
    reason: str
    dropped: bool  # whether nothing of the document is used


@dataclass(frozen=True)
class Library:
    """All documents of a folder, in the order of their paths."""

    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def load(path: Path, source: str, max_bytes: int) -> Document:
    """Load one document; Unreadable with a reason when there is no text to be had from it."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise Unreadable(f"no loader for {path.suffix or 'a file without suffix'} (known: {KNOWN})")
    size = path.stat().st_size
    if size == 0:
        raise Unreadable("is empty")
    if size > max_bytes:
        raise Unreadable(f"is larger than embed.max_megabytes ({size / 2**20:.0f} MB)")
    loader = importlib.import_module(f"tasks.rag.loaders.{kind}")
    pages, notes = loader.load(path.read_bytes(), *([path.stem] if kind in NAMED_BY_FILE else []))
    pages = [Page(tidy(page.text), page.number) for page in pages]
    if sum(len(page.text) for page in pages) > max_bytes:  # what unpacks to this is no letter
        raise Unreadable(f"holds more text than embed.max_megabytes ({max_bytes / 2**20:.0f} MB)")
    if not any(page.text.strip() for page in pages):
        raise Unreadable(
            "holds no text (scanned pages need OCR before they come here)" if kind == "pdf" else "holds no text"
        )
    return Document(source, tuple(pages), tuple(notes))


def load_folder(folder: Path, max_bytes: int, max_seconds: int) -> Library:
    """Load everything below `folder`; hidden files and the lock files of office programs are passed over.

    A source is named `<folder name>/<path below it>`. DataError when not one document can be used.
    """
    from tasks.rag.loaders.reader import Reader

    library = Library()
    with Reader(max_bytes, max_seconds) as reader:
        for path, source in files(folder):
            try:
                document = reader.load(path, source)
            except Unreadable as reason:
                library.problems.append(Problem(source, str(reason), dropped=True))
            else:
                library.documents.append(document)
                library.problems.extend(Problem(source, note, dropped=False) for note in document.notes)
    if not library.documents:
        first = f" ({library.problems[0].source}: {library.problems[0].reason})" if library.problems else ""
        raise DataError(str(folder), f"holds no document that can be read{first}", f"put files there: {KNOWN}")
    return library


def files(folder: Path) -> list[tuple[Path, str]]:
    """The documents below a folder with their names as sources, in the order of these."""
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "~$")) for part in relative.parts):
            name = f"{folder.name}/{relative.as_posix()}"
            found.append((path, name.encode(errors="replace").decode()))  # file names need not be UTF-8
    return sorted(found, key=lambda each: each[1])


def tidy(text: str) -> str:
    """Line ends as \\n; no control characters, ligatures, or spaces at line ends. Offsets count from here."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ").translate(_LIGATURES)
    return "\n".join(line.rstrip(" \u3000") for line in _CONTROL.sub("", text).split("\n"))


def first_line(error: Exception) -> str:
    """Kind and first line of a parser's error, without paths or addresses that would differ between runs."""
    lines = str(error).splitlines()
    text = re.sub(r"0x[0-9a-fA-F]{4,}|(?<!\w)/[\w./-]+", "…", lines[0] if lines else "")
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
