"""DOCX through HTML (mammoth): heading styles become headings, tables stay tables, pictures go."""

from __future__ import annotations

import io
import zipfile

from tasks.rag.loaders import Page, Unreadable
from tasks.rag.loaders.html import to_markdown

MAX_UNPACKED = 512 * 2**20  # bytes; a small file that unpacks to more is no letter
_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
p[style-name='标题'] => h1:fresh
p[style-name='标题 1'] => h1:fresh
p[style-name='标题 2'] => h2:fresh
p[style-name='标题 3'] => h3:fresh
"""


def load(data: bytes) -> tuple[list[Page], list[str]]:
    """One page: DOCX stores no page breaks that all programs agree on."""
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("is encrypted, or an old .doc; save it as .docx without a password")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            if "word/document.xml" not in archive.namelist():
                raise Unreadable("is a zip file but no Word document")
    except zipfile.BadZipFile:
        raise Unreadable("is broken (not a zip file, as every .docx is)") from None
    if unpacked > MAX_UNPACKED:
        raise Unreadable(f"unpacks to {unpacked // 2**20} MB")

    import mammoth
    from bs4 import BeautifulSoup

    result = mammoth.convert_to_html(io.BytesIO(data), style_map=_STYLES, convert_image=lambda image: [])
    return [Page(to_markdown(BeautifulSoup(result.value, "lxml")))], []
