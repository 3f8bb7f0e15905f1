"""tasks/rag/loaders: every format, every usual encoding, and every way in which a document can be unreadable."""

import zipfile

import pytest

from tasks.errors import DataError
from tasks.rag.loaders import Unreadable, load, load_folder
from tasks.rag.loaders.markdown import plain, unwrap
from tasks.rag.loaders.text import decode, headed
from tests import rag_fixtures as fixtures

LIMIT = 2**20


def text_of(tmp_path, name: str, data: bytes) -> str:
    """The text that a file of this name and content loads as, pages joined."""
    path = tmp_path / name
    path.write_bytes(data)
    return "\n=====\n".join(page.text for page in load(path, name, LIMIT).pages)


def test_html_is_its_visible_main_part(tmp_path):
    """No navigation, header, footer, script, comment or hidden text; a table of labels and values becomes a list."""
    assert text_of(tmp_path, "a.html", fixtures.HTML.encode()) == (
        "# Larkfield in Ashgate\n\n## Ashgate store\n\nThe Ashgate store opens at 8:00 and closes at 18:30.\n\n"
        "- manager: Kate Field\n- parking spaces: 112"
    )


def test_html_without_headings_takes_its_title_and_declared_encoding(tmp_path):
    """The title is the only name that such a page has; GB2312 pages declare themselves."""
    page = '<html><head><meta charset="gb2312"><title>青山店</title></head><body><p>9:00开门。</p></body></html>'
    assert text_of(tmp_path, "b.htm", page.encode("gb2312")) == "# 青山店\n\n9:00开门。"


def test_html_tables_with_heads_stay_tables(tmp_path):
    """Two columns under a head of two are a table and not labels."""
    page = "<table><tr><th>item</th><th>price</th></tr><tr><td>lamp</td><td>£4</td></tr></table>"
    assert text_of(tmp_path, "c.html", page.encode()) == "| item | price |\n| --- | --- |\n| lamp | £4 |"


def test_markdown_keeps_words_and_loses_marks(tmp_path):
    """Front matter, comments, emphasis and link targets go; headings and tables stay."""
    text = text_of(tmp_path, "a.md", fixtures.MARKDOWN.encode())
    assert "The Silver card allows returns within 30 days. Its delivery fee is £5. See the form." in text
    assert "title: plans" not in text and "customers" not in text
    assert "| contact | Nora Eaton |" in text and "## Silver card" in text


def test_markdown_code_is_left_alone():
    """Stars, underscores and comments in fenced code are code."""
    code = "```html\n<!-- kept --> **kept** a_b_c\n```"
    assert plain(f"a *b* c\n\n{code}\n\n`x` snake_case_name 2*3*4") == f"a b c\n\n{code}\n\n`x` snake_case_name 2*3*4"


def test_wrapped_paragraphs_become_one_line():
    """Chinese halves join without a space; headings, items, tables and code stay lines."""
    text = "# A\none\ntwo\n\n店长是\n王明华。\n- x\n  y\n| a |\n```\nc\nd\n```"
    assert unwrap(text) == "# A\none two\n\n店长是王明华。\n- x y\n| a |\n```\nc\nd\n```"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk"])
def test_chinese_text_in_usual_encodings(encoding):
    """Most Chinese memos are GB18030 and say so nowhere."""
    text = "青山店的开门时间是9:00。The store sells lamps for £4, tents and rugs.\n店长是王明华，停车位有120个。"
    text = text.replace("£", "$") if encoding == "gbk" else text  # GBK has no pound sign
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["cp1252", "big5"])
def test_other_encodings(encoding):
    """A western memo with a pound sign, and a traditional Chinese one."""
    text = {
        "cp1252": "The café opens at 9. A lamp costs £12 – not £15.",
        "big5": "青山店的開門時間是九點，歡迎光臨本店，謝謝您的惠顧。",
    }[encoding]
    assert decode(text.encode(encoding)) == text


def test_plain_text_headings():
    """A short line that stands alone is a heading, an underlined one too; a last line and a sentence are not."""
    text = "SPRING STOCK\n\nThe lamp is here.\n\nMore\n----\nIt costs £5.\n\nOpening hours\n\nFrom 9.\n\nRuth Hale"
    assert headed(text) == (
        "# SPRING STOCK\n\nThe lamp is here.\n\n## More\nIt costs £5.\n\n## Opening hours\n\nFrom 9.\n\nRuth Hale"
    )


def test_plain_text_of_short_lines_is_a_list():
    """When every line could be a heading, none is."""
    assert headed("apples\n\npears\n\nplums") == "apples\n\npears\n\nplums"


def test_pdf_pages_headings_and_wrapped_lines(tmp_path):
    """Pages keep their numbers, larger type becomes headings, a wrapped sentence becomes one line again."""
    data = fixtures.pdf(
        [
            [("Lighting", 16), ("The Karo lamp costs £40 and its warranty lasts for 24 months.", 10)],
            [("Rugs", 16), ("Aisle 12.", 10)],
        ]
    )
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    pages = load(path, "a.pdf", LIMIT).pages
    assert [(page.number, page.text) for page in pages] == [
        (1, "# Lighting\n\nThe Karo lamp costs £40 and its warranty lasts for 24 months."),
        (2, "# Rugs\n\nAisle 12."),
    ]


def test_pdf_in_chinese_joins_without_spaces(tmp_path):
    """CID fonts, no embedded font file; lines are wrapped anywhere."""
    sentence = "青山店的开门时间是上午九点，店长是王明华，停车位共有一百二十个，地址在松树路十二号。"
    data = fixtures.pdf([[("门店", 16), (sentence, 10)]], chinese=True)
    assert text_of(tmp_path, "a.pdf", data) == f"# 门店\n\n{sentence}"


def test_pdf_running_feet_go(tmp_path):
    """A foot with a page number on every page would be found by every search."""
    pages = [[(word, 10)] for word in ("First text here.", "Second text here.", "Third text here.")]
    text = text_of(tmp_path, "a.pdf", fixtures.pdf(pages, foot="Confidential, page {}"))
    assert text == "First text here.\n=====\nSecond text here.\n=====\nThird text here."


def test_pdf_with_some_scanned_pages_is_used_and_reported(tmp_path):
    """The page with text is read; the note names the others."""
    path = tmp_path / "a.pdf"
    path.write_bytes(fixtures.scanned_pdf(3, text_on=2))
    document = load(path, "a.pdf", LIMIT)
    assert [(page.number, page.text) for page in document.pages] == [(2, "The one page with text.")]
    assert document.notes == ("no text on page 1, 3 (scanned?)",)


def test_docx_headings_and_tables(tmp_path):
    """Heading styles are headings; a table of labels and values is a list."""
    blocks = [
        ("Title", "Directory"),
        ("Heading 1", "Staff"),
        ("Normal", "Ruth has locker B-123."),
        ("List Bullet", "team: Paint"),
        [["team", "Lighting"], ["分机号", "436"]],
    ]
    assert text_of(tmp_path, "a.docx", fixtures.docx(blocks)) == (
        "# Directory\n\n# Staff\n\nRuth has locker B-123.\n\n- team: Paint\n\n- team: Lighting\n- 分机号：436"
    )


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("a.txt", b"", "is empty"),
        ("a.md", b" \n\n ", "holds no text"),
        ("a.html", b"<html><body><nav>Home</nav></body></html>", "holds no text"),
        ("a.xlsx", b"x", "no loader for .xlsx"),
        ("a", b"x", "no loader for a file without suffix"),
        ("a.txt", b"\x00\x01\x02\x89PNG" * 30, "is no text"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"x" * 99, "is encrypted, or an old .doc"),
        ("a.docx", b"PK no zip", "is broken (not a zip file"),
        ("a.md", b"x" * (LIMIT + 1), "is larger than embed.max_megabytes"),
        ("a.pdf", fixtures.scanned_pdf(), "scanned pages need OCR"),
        ("a.pdf", fixtures.pdf([[("Secret", 10)]], password="pass"), "is encrypted"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, data, reason):
    """A reason that its owner can act on."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(Unreadable) as error:
        load(path, name, LIMIT)
    assert reason in str(error.value)


def test_a_zip_that_is_no_word_file_or_unpacks_to_too_much(tmp_path, monkeypatch):
    """Neither is handed to the parser."""
    from tasks.rag.loaders import docx

    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.xml", "x")
    with pytest.raises(Unreadable, match="no Word document"):
        load(path, "a.docx", LIMIT)
    path.write_bytes(fixtures.docx([("Normal", "x")]))
    monkeypatch.setattr(docx, "MAX_UNPACKED", 100)
    with pytest.raises(Unreadable, match="unpacks to"):
        load(path, "a.docx", LIMIT)


def test_a_folder_goes_on_past_bad_files(tmp_path):
    """Good documents in the order of their paths, bad ones as problems, hidden and lock files unmentioned."""
    folder = fixtures.write_documents(tmp_path / "documents")
    (folder / "cut.pdf").write_bytes(fixtures.pdf([[("x", 10)]])[:200])
    (folder / "scan.pdf").write_bytes(fixtures.scanned_pdf(2, text_on=1))
    (folder / "old.doc").write_bytes(b"x")
    (folder / ".hidden").write_bytes(b"x")
    (folder / "~$staff.docx").write_bytes(b"x")
    library = load_folder(folder, LIMIT, 60)
    assert [d.source for d in library.documents] == [
        "documents/memos/冬季.txt",
        "documents/plans.md",
        "documents/products.pdf",
        "documents/scan.pdf",
        "documents/staff.docx",
        "documents/stores/ashgate.html",
    ]
    assert [(p.source, p.dropped) for p in library.problems] == [
        ("documents/cut.pdf", True),
        ("documents/old.doc", True),
        ("documents/scan.pdf", False),
    ]
    assert library.problems[0].reason.startswith("is broken (Pdf")
    assert str(tmp_path) not in library.problems[0].reason


def test_a_folder_without_documents_is_an_error(tmp_path):
    """Nothing to index is a mistake; the first problem says which."""
    (tmp_path / "a.doc").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no document that can be read .*a\.doc: no loader for \.doc"):
        load_folder(tmp_path, LIMIT, 60)
