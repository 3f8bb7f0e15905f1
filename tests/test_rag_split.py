"""tasks/rag/split.py: where documents are cut, and what each chunk knows of its place."""

import pytest

from tasks.rag.blocks import blocks_of
from tasks.rag.chunks import chunk_id
from tasks.rag.loaders import Document, Page
from tasks.rag.split import sentences, split


def words(text: str) -> int:
    """A token count that can be checked by eye: words, and each Chinese character."""
    return len("".join(f" {c} " if c > "\u2e7f" else c for c in text).split())


def cut(text: str, budget: int = 100, overlap: int = 0, count=words):
    """The chunks of a one-page document."""
    return split(Document("documents/a.md", (Page(text),)), count, budget, overlap)


def texts_of(text: str) -> list[str]:
    """The sentences of a text."""
    return [text[start:end] for start, end in sentences(text, 0, len(text))]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It opens at 9. It closes at 8.", ["It opens at 9.", "It closes at 8."]),
        (
            "青山店9:00开门。店长是王明华；有120个车位！对吗？是。",
            ["青山店9:00开门。", "店长是王明华；", "有120个车位！", "对吗？", "是。"],
        ),
        ("Ask Mr. Hale or Dr. Webb. It is 3.5 m.", ["Ask Mr. Hale or Dr. Webb.", "It is 3.5 m."]),
        ("Use e.g. a drill. See J. Brook. Done", ["Use e.g. a drill.", "See J. Brook.", "Done"]),
        ('She said "Stop." Then she left!', ['She said "Stop."', "Then she left!"]),
        ("他说：“不行。”然后走了。", ["他说：“不行。”", "然后走了。"]),
        ("Version 1.2.3 is out... and it works.", ["Version 1.2.3 is out... and it works."]),
        ("no stop", ["no stop"]),
        ("  ", []),
    ],
)
def test_sentences(text, expected):
    """Chinese stops end a sentence anywhere, Latin ones before a space; titles and initials end nothing."""
    assert texts_of(text) == expected


def test_headings_make_paths_and_start_chunks():
    """A heading always starts a new chunk; a deeper one adds to the path, a higher one shortens it."""
    text = "Intro.\n\n# Stores\n\nAll.\n\n## Ashgate\n\nOpens.\n\n## Oakleigh #\nCloses.\n\n# Plans\n\nNone."
    assert [(c.heading, c.text) for c in cut(text)] == [
        ("", "Intro."),
        ("Stores", "All."),
        ("Stores > Ashgate", "Opens."),
        ("Stores > Oakleigh", "Closes."),
        ("Plans", "None."),
    ]


def test_the_title_stands_apart():
    """A first heading above all others is the document's title: in every chunk, and in no path of sections."""
    assert [(c.title, c.heading, c.path) for c in cut("# Larkfield\n\nA.\n\n## Stores\n\nB.\n\n### Ashgate\n\nC.")] == [
        ("Larkfield", "", "Larkfield"),
        ("Larkfield", "Stores", "Larkfield > Stores"),
        ("Larkfield", "Stores > Ashgate", "Larkfield > Stores > Ashgate"),
    ]
    assert [(c.title, c.heading) for c in cut("# A\n\nx\n\n# B\n\ny")] == [("", "A"), ("", "B")]
    assert [(c.title, c.heading) for c in cut("x")] == [("", "")]


def test_underlined_headings():
    """=== and --- under a line; a rule after an empty line is no heading."""
    assert [(c.path, c.text) for c in cut("Stores\n======\n\nOne.\n\nAshgate\n---\nTwo.\n\n---\n\nThree.")] == [
        ("Stores", "One."),
        ("Stores > Ashgate", "Two.\n\n---\n\nThree."),
    ]


def test_a_heading_with_nothing_below_it_is_not_lost():
    """A last heading may hold the fact; a heading above others is in their path anyway."""
    assert [(c.path, c.text) for c in cut("# A\n\n## B\n\nx\n\n## Open 9 to 5")] == [
        ("A > B", "x"),
        ("A > Open 9 to 5", "## Open 9 to 5"),
    ]


def test_text_is_the_slice_that_the_offsets_name():
    """`text == page[start:end]`, also after headings, lists and Chinese."""
    page = "# 门店\n\n青山店9:00开门。店长是王明华。\n\n- one two three\n- four five\n\nA B C. D E F. G H I."
    chunks = cut(page, budget=10, overlap=1)
    assert len(chunks) > 3
    assert all(page[c.start : c.end] == c.text for c in chunks)


def test_packing_is_greedy_and_counts_the_heading():
    """Budget 8 − 1 for the heading "H": sentences of 3 words go in twos."""
    text = "# H\n\nA b c. D e f. G h i. J k l. M n o."
    assert [c.text for c in cut(text, budget=8)] == ["A b c. D e f.", "G h i. J k l.", "M n o."]


def test_overlap_repeats_whole_sentences():
    """Budget 6: two sentences a chunk, of which the second opens the next one."""
    text = "A b c. D e f. G h i. J k l."
    assert [c.text for c in cut(text, budget=6, overlap=1)] == ["A b c. D e f.", "D e f. G h i.", "G h i. J k l."]


def test_overlap_is_left_out_where_it_has_no_room():
    """The repeated sentence and the next one must fit together, or nothing would move on."""
    assert [c.text for c in cut("A b c. D e f g h. I j k l m.", budget=8, overlap=1)] == [
        "A b c. D e f g h.",
        "I j k l m.",
    ]


def test_overlap_never_crosses_a_heading():
    """What is said of one thing must not be repeated under the name of another."""
    assert [c.text for c in cut("# A\n\nOne two. Three four.\n\n# B\n\nFive six.", overlap=2)] == [
        "One two. Three four.",
        "Five six.",
    ]


def test_a_long_sentence_is_cut_at_clauses_and_nowhere_else_if_that_does():
    """Budget 5: halves at the comma; without any mark at a space; a run of letters anywhere."""
    assert [c.text for c in cut("a b c d, e f g h", budget=5)] == ["a b c d,", "e f g h"]
    assert [c.text for c in cut("a b c d e f g h", budget=5)] == ["a b c", "d e f g h"]
    assert [c.text for c in cut("一二三四五六七八", budget=5)] == ["一二三四", "五六七八"]
    assert [c.text for c in cut("一二三，四五六七八", budget=5)] == ["一二三，", "四五六七八"]


def test_tables_and_code_stay_whole_where_they_fit():
    """They move to the next chunk rather than be cut, and a heading sign in code is no heading."""
    table = "| a | b |\n| - | - |\n| 1 | 2 |"
    code = "```\n# no heading\nx = 1\n```"
    assert [c.text for c in cut(f"One two three four.\n\n{table}", budget=16)] == ["One two three four.", table]
    assert [c.text for c in cut(f"# H\n\n{code}")] == [code]


def test_a_table_that_is_too_long_repeats_its_head():
    """Head 10 words, rows 5: with a budget of 21 the head and two rows, then the head again and two rows."""
    head = "| a | b |\n| - | - |"
    rows = [f"| {n} | x |" for n in range(5)]
    chunks = cut(head + "\n" + "\n".join(rows), budget=21)
    assert [c.text for c in chunks] == [
        "\n".join([head, *rows[:2]]),
        "\n".join([head, *rows[2:4]]),
        "\n".join([head, rows[4]]),
    ]
    page = head + "\n" + "\n".join(rows)
    assert page[chunks[1].start : chunks[1].end] == "\n".join(rows[2:4])


def test_list_items_are_blocks_of_their_own():
    """An item ends the one before it, in both languages."""
    kinds = [
        (b.kind, "- a\n- b\n1. c\n2、丁\n（三） 戊"[b.start : b.end])
        for b in blocks_of("- a\n- b\n1. c\n2、丁\n（三） 戊")
    ]
    assert kinds == [("prose", "- a"), ("prose", "- b"), ("prose", "1. c"), ("prose", "2、丁"), ("prose", "（三） 戊")]


def test_paragraph_by_paragraph():
    """A paragraph, a list and a table are chunks of their own; a list keeps the line that announces it."""
    text = "# H\n\nOne. Two.\n\nThree.\n\nA list:\n- a\n\n- b\n\n| x | y |"
    document = Document("documents/a.md", (Page(text),))
    assert [c.text for c in split(document, words, 100, 1, paragraphs=True)] == [
        "One. Two.",
        "Three.",
        "A list:\n- a\n\n- b",
        "| x | y |",
    ]
    assert [c.text for c in split(document, words, 100, 1)] == [text.removeprefix("# H\n\n")]


def test_pages_are_kept_and_the_path_goes_on():
    """A page break does not end a section; offsets count from each page's start."""
    document = Document("documents/a.pdf", (Page("# Lamps\n\nOne.", 1), Page("Two.", 2), Page("## Karo\n\nThree.", 3)))
    chunks = split(document, words, 100, 1)
    assert [(c.page, c.path, c.start, c.text) for c in chunks] == [
        (1, "Lamps", 9, "One."),
        (2, "Lamps", 0, "Two."),
        (3, "Lamps > Karo", 9, "Three."),
    ]


def test_ids_and_languages():
    """The id is made of source, place in the document and text: copies differ, and a later edit leaves it as it is."""
    one, two = cut("# A\n\nSame.\n\n# B\n\nSame.")
    assert one.id == chunk_id("documents/a.md", 0, "Same.") != two.id
    assert [c.language for c in cut("# A\n\nSome words.\n\n# 门店\n\n青山店9:00开门。")] == ["en", "zh"]
    assert cut("# A\n\nSame.\n\n# B\n\nOther.")[0].id == one.id


def test_a_very_long_heading_leaves_half_the_budget():
    """Chunks must not shrink to nothing below a path that is longer than the budget."""
    chunks = cut("# " + "long " * 30 + "\n\nA b c. D e f.", budget=12)
    assert [c.text for c in chunks] == ["A b c. D e f."]


def test_no_chunk_exceeds_the_budget():
    """Heading path, line break and text together, for a document of everything."""
    page = "# Title\n\n" + "\n\n".join(
        ["word " * n + "end." for n in range(1, 40, 7)]
        + ["一二三四五六七，" * 9 + "完。", "| a | b |\n" * 20, "- item\n" * 30]
    )
    chunks = cut(page, budget=24, overlap=1)
    assert max(words(c.passage) for c in chunks) <= 24
    covered = sorted({n for c in chunks for n in range(c.start, c.end)})
    assert all(page[n].isspace() for n in range(len("# Title"), len(page)) if n not in set(covered))
