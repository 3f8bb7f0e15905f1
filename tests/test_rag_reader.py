"""tasks/rag/loaders/reader.py: documents made to hang a parser, to fill the memory or to be followed somewhere."""

import io
import os
import signal
import time
import zipfile
import zlib

import pytest

from tasks.rag.loaders import Unreadable, load_folder
from tasks.rag.loaders import reader as reader_module
from tasks.rag.loaders.reader import Reader
from tests import rag_fixtures as fixtures

LIMIT = 64 * 2**20
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
LAUGHS = '<!DOCTYPE d [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
) + "]>"  # fmt: skip


def docx(paragraphs: str, before: str = "") -> bytes:
    """A Word file of this XML."""
    xml = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{WORD}"><w:body>{paragraphs}</w:body></w:document>'
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", xml)
    return buffer.getvalue()


def pdf(*objects: bytes) -> bytes:
    """A PDF of these objects; the first is its root."""
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, table, len(objects) + 1, len(data))  # fmt: skip


def page_of(commands: bytes) -> bytes:
    """A PDF of one page with this content, compressed."""
    packed = zlib.compress(commands, 9)
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
               b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>",
               b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed))  # fmt: skip


ATTACKS = {
    "zip bomb of text": ("a.docx", lambda: docx(f"<w:p><w:r><w:t>{'a' * (300 * 2**20)}</w:t></w:r></w:p>")),
    "zip bomb of paragraphs": ("a.docx", lambda: docx("<w:p><w:r><w:t>a</w:t></w:r></w:p>" * 1_000_000)),
    "billion laughs": ("a.docx", lambda: docx("<w:p><w:r><w:t>&j;</w:t></w:r></w:p>", LAUGHS)),
    "nested paragraphs": ("a.docx", lambda: docx("<w:p>" * 50_000 + "</w:p>" * 50_000)),
    "nested divisions": ("a.html", lambda: b"<div>" * 100_000 + b"x"),
    "nested arrays": ("a.json", lambda: b"[" * 1_000_000),
    "open brackets": ("a.md", lambda: b"![" * 1_000_000),
    "page tree in a circle": ("a.pdf", lambda: pdf(b"<< /Type /Catalog /Pages 2 0 R >>",
                                                   b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>")),
    "a million pages": ("a.pdf", lambda: pdf(b"<< /Type /Catalog /Pages 2 0 R >>",
                                             b"<< /Type /Pages /Kids [" + b"3 0 R " * 10**6 + b"] /Count 1000000 >>",
                                             b"<< /Type /Page /Parent 2 0 R >>")),
    "a bomb in a stream": ("a.pdf", lambda: page_of(b"BT (x) Tj ET\n" * (10 * 2**20))),
    "a line of 65 MB": ("a.txt", lambda: b"a" * (65 * 2**20)),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_a_problem_and_the_next_document_is_read(tmp_path, name):
    """Two seconds of processor time, 3 GB: refused with a reason, and nothing is left behind."""
    file, make = ATTACKS[name]
    (tmp_path / file).write_bytes(make())
    (tmp_path / "good.md").write_text("Good.")
    began = time.monotonic()
    with Reader(LIMIT, max_seconds=2) as reader:
        with pytest.raises(Unreadable) as refused:
            reader.load(tmp_path / file, file)
        assert reader.load(tmp_path / "good.md", "good.md").pages[0].text == "Good."
    assert time.monotonic() - began < 60 and len(str(refused.value)) < 200


def test_entities_are_not_followed(tmp_path):
    """A file of this machine named by a document is not read."""
    (tmp_path / "secret.txt").write_text("the password")
    outside = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{(tmp_path / "secret.txt").as_uri()}">]>'
    (tmp_path / "a.docx").write_bytes(docx("<w:p><w:r><w:t>known &x; text</w:t></w:r></w:p>", outside))
    (tmp_path / "a.html").write_text(f"{outside}<html><body><p>known &x; text</p></body></html>")
    with Reader(LIMIT, max_seconds=60) as reader:
        for name in ("a.docx", "a.html"):
            text = reader.load(tmp_path / name, name).pages[0].text
            assert "known" in text and "password" not in text


def test_memory_has_an_end(tmp_path, monkeypatch):
    """60 MB of text in a process of 128: the allocation fails there, and the next document is read."""
    (tmp_path / "a.md").write_text("word " * (12 * 2**20))
    (tmp_path / "good.md").write_text("Good.")
    monkeypatch.setattr(reader_module, "MEMORY", 128 * 2**20)
    with Reader(LIMIT, max_seconds=60) as reader:
        with pytest.raises(Unreadable, match="takes more than 128 MB of memory"):
            reader.load(tmp_path / "a.md", "a.md")
        assert reader.load(tmp_path / "good.md", "good.md").pages[0].text == "Good."


def test_a_parser_that_waits_for_ever_is_ended_by_the_clock(tmp_path, monkeypatch):
    """A stopped process takes no processor time; the clock ends it."""
    (tmp_path / "a.md").write_text("Good.")
    monkeypatch.setattr(reader_module, "IDLE", 1)
    with Reader(LIMIT, max_seconds=60) as reader:
        reader.load(tmp_path / "a.md", "a.md")
        reader.max_seconds = 1
        os.kill(reader._process.pid, signal.SIGSTOP)
        with pytest.raises(Unreadable, match="takes more than 1 s to read"):
            reader.load(tmp_path / "a.md", "a.md")


def test_a_crashed_parser_costs_one_document(tmp_path):
    """Its process is killed under it: the next document has a new one."""
    (tmp_path / "a.md").write_text("Good.")
    with Reader(LIMIT, max_seconds=60) as reader:
        reader.load(tmp_path / "a.md", "a.md")
        os.kill(reader._process.pid, signal.SIGSEGV)
        reader._process.wait()
        with pytest.raises(Unreadable, match="its parser crashed: SIGSEGV"):
            reader.load(tmp_path / "a.md", "a.md")
        assert reader.load(tmp_path / "a.md", "a.md").pages[0].text == "Good."


def test_the_process_has_no_secrets_and_ends_with_its_reader(tmp_path, monkeypatch):
    """What the environment holds is not what a document may see."""
    monkeypatch.setenv("HELPDESK_URL", "a password")
    (tmp_path / "a.md").write_text("Good.")
    with Reader(LIMIT, max_seconds=60) as reader:
        reader.load(tmp_path / "a.md", "a.md")
        process = reader._process
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            assert b"HELPDESK" not in file.read()
    assert process.poll() is not None


def test_a_folder_with_hostile_files_is_read(tmp_path):
    """Each is a problem by name; a file name that is no UTF-8 is shown as it can be."""
    folder = fixtures.write_documents(tmp_path / "documents")
    (folder / "deep.html").write_bytes(b"<div>" * 100_000 + b"x")
    with open(os.fsencode(folder) + b"/caf\xe9.md", "wb") as file:
        file.write(b"Open at 9.")
    library = load_folder(folder, 2**20, 60)
    assert [(p.source, p.reason) for p in library.problems] == [("documents/deep.html", "is nested too deeply")]
    assert "documents/caf?.md" in [d.source for d in library.documents] and len(library.documents) == 6
