"""tasks/rag/loaders: CSV, TSV and JSON rows as sections, and what their values cannot do."""

import json

import pytest

from tasks.rag.blocks import blocks_of
from tasks.rag.loaders import Document, Unreadable, load
from tasks.rag.loaders.csv import separator
from tasks.rag.loaders.records import paragraphs, unique
from tasks.rag.split import split

LIMIT = 2**20
FAQ = [
    {"question": "How do I return a lamp?", "answer": "Bring it back.\nNo receipt is needed.", "department": "Lighting"},
    {"question": "台灯怎么退货？", "answer": "带回门店即可。", "部门": "灯具", "id": "7"},
]
AS_TEXT = (
    "# house faq\n\n## How do I return a lamp?\n\nBring it back.\nNo receipt is needed.\n\n- department: Lighting\n\n"
    "## 台灯怎么退货？\n\n带回门店即可。\n\n- 部门：灯具\n- id: 7"
)


def loaded(tmp_path, name: str, data: bytes | str) -> Document:
    """The document that a file of this name and content loads as."""
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return load(path, name, LIMIT)


def text_of(tmp_path, name: str, data: bytes | str) -> str:
    """Its text."""
    (page,) = loaded(tmp_path, name, data).pages
    return page.text


@pytest.mark.parametrize("name, data", [
    ("house_faq.jsonl", "\n".join(json.dumps(row) for row in FAQ)),
    ("house_faq.ndjson", "\n\n".join(json.dumps(row, ensure_ascii=False) for row in FAQ)),
    ("house_faq.json", json.dumps(FAQ, indent=2)),
    ("house_faq.csv", 'question,answer,department,部门,id\nHow do I return a lamp?,"Bring it back.\nNo receipt is needed.",'
                      "Lighting,,\n台灯怎么退货？,带回门店即可。,,灯具,7\n"),
])  # fmt: skip
def test_a_row_is_a_section(tmp_path, name, data):
    """Title, long text, and a list of the rest with a colon in the label's language; the same from every format."""
    assert text_of(tmp_path, name, data) == AS_TEXT


def test_the_splitter_knows_file_and_row(tmp_path):
    """The file's name is the title of all its chunks, the row their heading."""
    chunks = split(loaded(tmp_path, "house_faq.json", json.dumps(FAQ)), lambda text: len(text.split()), 64, 0)
    assert [(c.title, c.heading) for c in chunks] == [("house faq", row["question"]) for row in FAQ]
    one = loaded(tmp_path, "house_faq.json", json.dumps(FAQ[:1]))
    assert one.pages[0].text.startswith("## How")  # a single row is its own title
    assert text_of(tmp_path, "2024_11.json", json.dumps(FAQ)).startswith("## How")  # a number says nothing


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16"])
def test_separators_and_encodings(tmp_path, mark, encoding):
    """Told from the content, also where the values hold the other separators."""
    price, book = "£4,5" if mark == ";" else "£4;5", "有" if mark == "|" else "有|无"
    rows = [["名称", "价格", "说明书"], ["云雀台灯", price, "见第三页"], ["山毛榉书桌", "£120", book]]
    data = "\r\n".join(mark.join(row) for row in rows).encode(encoding)
    text = text_of(tmp_path, "a.csv", data)
    assert "## 云雀台灯\n\n- 价格：£4" in text and "## 山毛榉书桌\n\n- 价格：£120\n- 说明书：有" in text


def test_the_separator_may_be_said_or_be_absent(tmp_path):
    """Spreadsheets write `sep=;` into the first line; a file of one column has none."""
    assert text_of(tmp_path, "a.csv", "sep=;\nname;price\nlamp, blue;4\n") == "## lamp, blue\n\n- price: 4"
    assert text_of(tmp_path, "b.csv", "name\nlamp\nrug\n") == "# b\n\n## lamp\n\n## rug"
    assert separator("a,b;c\n1,2;3\n") == ","


def test_ragged_rows_and_odd_heads(tmp_path):
    """Short rows lack a value, long ones get a name of their own; no column takes the place of another."""
    assert unique(["price", "", "price", "price (2)", " a\nb "]) == ["price", "column 2", "price (2)", "price (2) (2)", "a b"]
    text = text_of(tmp_path, "a.csv", "name,,name\nlamp,x,y,z\n\n,,\nrug\n")
    assert text == "# a\n\n## lamp\n\n- column 2: x\n- name (2): y\n- column 4: z\n\n## rug"


def test_titles_are_found_and_nothing_of_them_is_lost(tmp_path):
    """`name` before `id`, else the first column, else the text's beginning; a long title stands below in full."""
    rows = [
        {"id": "1", "NAME": "Karo"},
        {"code": "X", "size": "2"},
        {"text": "The rug is " + "very " * 20 + "long."},
        {"title": "long " * 50, "x": "1"},
        {"title": "# C#"},
        {"title": "##", "x": "y"},
    ]
    text = text_of(tmp_path, "a.json", json.dumps(rows))
    heads = [line for line in text.split("\n") if line.startswith("#")]
    assert heads == ["# a", "## Karo", "## X", "## The rug is very very very very very very…",
                     f"## {('long ' * 24).strip()}…", "## C#", "## y"]  # fmt: skip
    assert f"- title: {('long ' * 50).strip()}" in text and "very long." in text and "- title: # C#" in text
    assert "- id: 1" in text and "- size: 2" in text and "- title: ##" in text


def test_json_values_are_flat_and_as_written(tmp_path):
    """Nested names are joined by dots, lists by commas; 4.50 stays 4.50; null is nothing."""
    row = (
        '{"name": "Karo", "price": 4.50, "big": 1e3, "ok": true, "none": null, '
        '"a": {"b": {"c": "d"}, "e": [1, ["x", null], {"k": 2}]}}'
    )
    assert text_of(tmp_path, "a.json", row) == "## Karo\n\n- price: 4.50\n- big: 1e3\n- ok: true\n- a.b.c: d\n- a.e: 1, x, k: 2"


def test_broken_lines_are_notes(tmp_path):
    """The good lines are used; the first broken ones are named, the others counted."""
    lines = ['{"name": "a"}', "{broken", "", "[1]", '{"name": "b"}', *["x"] * 5]
    document = loaded(tmp_path, "a.jsonl", "\n".join(lines))
    assert document.pages[0].text == "# a\n\n## a\n\n## b"
    assert document.notes == ("line 2 is not JSON", *(f"line {n} is not JSON" for n in (6, 7, 8, 9)),
                              "2 more of its lines cannot be used")  # fmt: skip
    assert loaded(tmp_path, "b.json", '[{"name": "a"}, 3]').notes == ("item 2 is no object",)


@pytest.mark.parametrize("name, data, reason", [
    ("a.csv", "name,price\n", "has no row below"),
    ("a.csv", "\n\n", "holds no text"),
    ("a.csv", b"\x00\x01\x02\x89PNG" * 30, "is no text"),
    ("a.jsonl", "{broken\n{too", "line 1 is not JSON"),
    ("a.jsonl", "3\n", "its value is no object"),
    ("a.jsonl", '{"a": null}', "holds no objects"),
    ("a.json", "[1, 2]", "item 1 is no object"),
    ("a.json", '[{"a": 1},', "is not JSON"),
    ("a.json", "[" * 100_000, "is nested too deeply"),
    ("a.jsonl", '{"a":' * 100_000, "line 1 is nested too deeply"),
])  # fmt: skip
def test_what_cannot_be_read_says_why(tmp_path, name, data, reason):
    """A file of which nothing can be read has a reason."""
    with pytest.raises(Unreadable, match=reason):
        loaded(tmp_path, name, data)


FORGERIES = [
    "# Forged", "x\n## Forged\ny", "\u200b# Forged", "\x00## Forged", "Forged\n===", "Forged\n---", "x\r# Forged",
    "x\x0b# Forged",
    "| a | b |\n| - | - |", "| # Forged", "# | # Forged |", "```\n# Forged", "~~~py\nx", "> ```", "   ### Forged",
    "\u3000# Forged",
    "\xa0# Forged", "\u2028# Forged", "* * *", "# # # Forged", "#\tForged", "\ufeff| a |",
    "x\n\n\n# Forged\n```\n| a |\n- - -",
]  # fmt: skip


@pytest.mark.parametrize("value", FORGERIES)
def test_no_value_can_forge_structure(tmp_path, value):
    """As title, text, label or value: the headings are those of the rows, and everything else is prose."""
    rows = [{"title": "one", "text": value, "x": value, value: "y"}, {"title": value, "body": "z"}, {"name": "three"}]
    text = text_of(tmp_path, "a.json", json.dumps(rows))
    blocks = list(blocks_of(text))
    headings = [(block.level, block.title) for block in blocks if block.kind == "heading"]
    assert [level for level, _ in headings] == [1, 2, 2, 2] and headings[1][1] == "one" and headings[3][1] == "three"
    assert {block.kind for block in blocks} == {"heading", "prose"}


def test_marks_go_and_words_stay():
    """A long text keeps its lines, lists and words."""
    assert paragraphs("## Steps\n\n1. Open\n- a | b\n| x | y |\n```sh\nls\n```\nC# and #5") == (
        "Steps\n\n1. Open\n- a | b\nx | y |\nsh\nls\n\nC# and #5"
    )


def test_surrogates_cannot_reach_a_hash(tmp_path):
    """JSON can spell half a character, which no UTF-8 file can hold."""
    assert text_of(tmp_path, "a.json", r'{"name": "a\ud800b", "x\udfff": "\udc00"}').encode() == b"## ab"
