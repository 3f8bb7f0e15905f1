"""tasks/validate: real Great Expectations on a small data folder, good and spoiled."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tasks import validate as stage
from tasks.errors import DataError
from tasks.files import canonical_json
from tests.data_fixtures import checks, instruction, jsonl, ranking, rows_of, write_data, write_own_data

KINDS = ["instructions", "preferences", "prompts", "evaluation", "documents"]
FEW = ("instructions", "preferences", "evaluation")
NONE = {"preferences": 0, "prompts": 0, "evaluation": 0}


@pytest.fixture
def data(tmp_path) -> Path:
    """A valid data folder."""
    return write_data(tmp_path / "data")


def run(data: Path, out: Path, **changes):
    """The stage with the parameters of params.yaml and changes."""
    out.mkdir()
    return stage.validate(checks(**{"min_rows": dict.fromkeys(FEW, 4), **changes}), data, out)


def refused(report) -> dict[str, list[str]]:
    """Place → reasons."""
    return {row.where: row.reasons for row in report.refused}


def spoil(path: Path, number: int, **changes: object) -> None:
    """Change fields of a row; None takes one out."""
    rows = rows_of(path)
    rows[number - 1] = {k: v for k, v in {**rows[number - 1], **changes}.items() if v is not None}
    jsonl(path, rows)


def test_good_data_passes_twice_with_the_same_bytes(data, tmp_path):
    """Report and Data Docs do not depend on the run."""
    first, second = run(data, tmp_path / "one"), run(data, tmp_path / "two")
    assert first.findings == []
    assert first.refused == []
    assert first.rows == {"instructions": 21, "preferences": 24, "prompts": 12, "evaluation": 21, "documents": 2}
    assert canonical_json(first.model_dump()) == canonical_json(second.model_dump())
    text = json.dumps(first.model_dump(mode="json"))
    assert str(tmp_path) not in text
    assert not re.search(r"20\d\d-\d\d", text)
    pages = {p.name: p.read_bytes() for p in (tmp_path / "one").iterdir()}
    assert pages == {p.name: p.read_bytes() for p in (tmp_path / "two").iterdir()}
    assert set(pages) == {"index.html", *(f"{kind}.html" for kind in KINDS)}


def test_the_pages_load_nothing_and_run_nothing(data, tmp_path):
    """No address, no script, no image, even when a row tries to bring one in."""
    spoil(
        data / "instructions" / "alpaca.jsonl", 2, language="<img src=http://evil.example/x><script>alert(1)</script>"
    )
    run(data, tmp_path / "docs", max_bad_rows=0.5)
    for page in (tmp_path / "docs").iterdir():
        text = page.read_text()
        assert not re.search(
            r"<(script|img|link|iframe|object|i)\b|https?:|//[a-z]+\.|\bon\w+=|url\(",
            text.split("</style>")[1].replace(
                "&lt;img src=http://evil.example/x&gt;&lt;script&gt;alert(1)&lt;/script&gt;", ""
            ),
        ), page.name
    text = (tmp_path / "docs" / "instructions.html").read_text()
    assert "the language is en or zh" in text
    assert "alpaca.jsonl:2" in text


SPOILED = [
    ("instructions/alpaca.jsonl", 3, {"output": ""}, "the answer has 1 to"),
    ("instructions/alpaca.jsonl", 4, {"output": "x" * 5000}, "the answer has 1 to"),
    ("instructions/alpaca.jsonl", 5, {"output": "bell \x07"}, "there are no control characters"),
    ("instructions/alpaca.jsonl", 6, {"output": "caf\ufffd"}, "there are no control characters"),
    ("instructions/alpaca.jsonl", 7, {"output": None}, "the row can be read"),
    (
        "instructions/messages.jsonl",
        1,
        {"messages": [{"role": "user", "content": "x"}]},
        "user and assistant take turns",
    ),
    ("instructions/completion.jsonl", 2, {"prompt": ""}, "no message is empty"),
    ("preferences/rankings.jsonl", 1, {"ranking": [["A"], ["C"]]}, "the ranking names each answer once"),
    ("preferences/rankings.jsonl", 2, {"ranking": [["A", "B"], ["C", "C"]]}, "the ranking names each answer once"),
    ("preferences/rankings.jsonl", 3, {"annotator": " "}, "the annotator is named"),
    ("preferences/rankings.jsonl", 4, {"answers": {"A": "x"}, "ranking": [["A"]]}, "there are at least two answers"),
    ("preferences/pairs.jsonl", 5, {"rejected": "No. "}, "all answers differ"),
    ("prompts/prompts.jsonl", 1, {"language": "fr"}, "the language is en or zh"),
]


def test_bad_rows_are_refused_by_name(data, tmp_path):
    """Within the bound the night goes on; the report names exactly these rows, each with its reason."""
    for file, number, changes, _ in SPOILED:
        spoil(data / file, number, **changes)
    report = run(data, tmp_path / "docs", max_bad_rows=0.3)
    told = refused(report)
    assert set(told) == {f"{file}:{number}" for file, number, _, _ in SPOILED}
    for file, number, _, reason in SPOILED:
        assert any(r.startswith(reason) for r in told[f"{file}:{number}"]), (file, number, told)
    assert all(f.passed for f in report.findings)


def test_too_many_bad_rows_stop_the_night_with_their_places(data, tmp_path):
    """2 of 21 rows are more than 5 %: the error has the check, the share and the rows."""
    spoil(data / "instructions" / "alpaca.jsonl", 3, output="")
    spoil(data / "instructions" / "alpaca.jsonl", 11, output="")
    with pytest.raises(DataError) as error:
        run(data, tmp_path / "docs", max_bad_rows=0.05)
    assert "the answer has 1 to 4000 characters: FAILED: 2 rows (9.52%; up to 5.00%)" in str(error.value)
    assert "instructions/alpaca.jsonl:3, instructions/alpaca.jsonl:11" in str(error.value)
    assert str(error.value).endswith("mend or remove the rows and run again")


WRONG = [
    ("context", 1, {"cite": [2]}, "the cited notes hold the answer"),
    ("context", 2, {"distractors": ["9:11"]}, "no distractor is the answer"),
    ("unanswerable", 1, {"answer": "9:10"}, "unanswerable cases have no answer"),
    ("pairs_style", 1, {"rejected": "It opens at 7:15. [1]"}, "the chosen answer is not the rejected one"),
    ("documents", 1, {"source": "documents/gone.md"}, "the document that answers is there"),
    ("facts", 3, {"kind": 3}, "the row can be read"),
]


def test_wrong_evaluation_rows_and_lost_files_stop_the_night(data, tmp_path):
    """What measures must be right, and a broken array is thousands of rows, whatever share of rows may be wrong."""
    for name, number, changes, _ in WRONG:
        spoil(data / "evaluation" / f"{name}.jsonl", number, **changes)
    spoil(data / "evaluation" / "facts.jsonl", 2, id="facts-0")
    (data / "instructions" / "chat.json").write_text("[{}, ")
    with pytest.raises(DataError) as error:
        run(data, tmp_path / "docs", max_bad_rows=0.9)
    told = str(error.value)
    for name, number, _, reason in WRONG:
        assert re.search(rf"{reason}.*FAILED: 1 rows .*evaluation/{name}\.jsonl:{number}", told), (reason, told)
    assert re.search(r"ids differ: FAILED: 2 rows .*facts\.jsonl:1, evaluation/facts\.jsonl:2", told)
    assert re.search(r"(?s)the file can be read: FAILED.*chat\.json:1: is not a JSON array", told)


def test_copies_overlap_and_broken_documents_are_bounded(data, tmp_path):
    """prepare takes copies and overlap out, so they are told and not refused; one unreadable file is left aside."""
    asked = rows_of(data / "evaluation" / "facts.jsonl")[0]["question"].upper()
    jsonl(data / "instructions" / "more.jsonl", [instruction(0), {"prompt": asked, "completion": "9:10"}])
    jsonl(data / "preferences" / "again.jsonl", [ranking(0), ranking(1)])
    (data / "documents" / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    report = run(data, tmp_path / "docs", max_overlap=0.05, max_duplicates=0.3, max_bad_documents=0.4)
    assert [(f.rows, f.where[0]) for f in report.findings] == [
        (1, "instructions/more.jsonl:2"),
        (1, "instructions/more.jsonl:1"),
        (4, "preferences/again.jsonl:1"),
        (4, "preferences/again.jsonl:1"),
        (1, "documents/broken.pdf"),
    ]
    assert refused(report) == {"documents/broken.pdf": ["the document can be read"]}
    with pytest.raises(DataError) as error:
        run(data, tmp_path / "again", max_overlap=0.0, max_duplicates=0.0, max_bad_documents=0.1)
    for part in (
        "asks nothing that an evaluation set asks",
        "the row is there once",
        "annotation ids differ",
        "an annotator ranks the same answers to a prompt once",
        "documents/broken.pdf: cannot be read",
    ):
        assert part in str(error.value)


def test_missing_documents_are_an_error(data, tmp_path):
    """A forgotten folder is told before anything runs."""
    for path in (data / "documents").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no documents"):
        run(data, tmp_path / "docs")


@pytest.mark.parametrize("kind", ["instructions", "preferences", "prompts", "evaluation"])
def test_a_missing_kind_stops_the_night_with_the_way_out(data, tmp_path, kind):
    """Folder, what is asked, and the parameter that lets the night do without; nothing lets it do without instructions."""
    shutil.rmtree(data / kind)
    with pytest.raises(DataError) as error:
        run(data, tmp_path / "docs")
    assert str(error.value).startswith(f"{data / kind}: ")
    if kind == "evaluation":
        assert "lacks facts.jsonl, context.jsonl" in str(error.value)
    else:
        assert f"holds no {kind}; validate.min_rows.{kind} asks for" in str(error.value)
    assert (f"or set validate.min_rows.{kind}: 0 to go without" in str(error.value)) == (kind != "instructions")


def test_instructions_and_documents_alone_are_enough_where_params_say_so(tmp_path, capsys):
    """No suite for what is not there: said in the log, in the report and on the index page, which links to no page."""
    report = run(write_own_data(tmp_path / "data"), tmp_path / "docs", min_rows=NONE)
    assert report.absent == ["preferences", "prompts", "evaluation"]
    assert report.rows == {"instructions": 20, "preferences": 0, "prompts": 0, "evaluation": 0, "documents": 1}
    assert [report.checks[kind] for kind in NONE] == [0, 0, 0] and report.checks["instructions"] > 0
    assert "preferences: absent: no preference training" in capsys.readouterr().err
    assert {p.name for p in (tmp_path / "docs").iterdir()} == {"index.html", "instructions.html", "documents.html"}
    index = (tmp_path / "docs" / "index.html").read_text()
    assert "<td>preferences</td>" in index and index.count("absent") == 3 and "preferences.html" not in index


def test_a_single_missing_set_is_told(data, tmp_path):
    """With min_rows.evaluation 0 the sets that are there are checked as ever, and the others named."""
    for name in ("facts", "documents"):
        (data / "evaluation" / f"{name}.jsonl").unlink()
    report = run(data, tmp_path / "docs", min_rows=NONE)
    assert report.absent == ["evaluation/facts", "evaluation/documents"] and report.rows["evaluation"] == 16
    with pytest.raises(DataError, match=r"lacks facts\.jsonl, documents\.jsonl; .*min_rows\.evaluation: 0"):
        run(data, tmp_path / "again")


def test_a_skipped_row_is_fine_and_counts_for_nothing(data, tmp_path):
    """It ranks no letters; the same person may judge the prompt with other answers on another night; skips are no rows."""
    skip = {**ranking(0), "ranking": [], "skipped": True, "annotation": 9001}
    other = {**ranking(0), "answers": {"A": "x", "B": "y"}, "ranking": [["A"], ["B"]], "annotation": 9002}
    both_bad = {**ranking(1), "answers": {"A": "x", "B": "y"}, "ranking": [], "flags": ["all_bad"], "annotation": 9003}
    jsonl(data / "preferences" / "again.jsonl", [skip, other, both_bad])
    report = run(data, tmp_path / "docs", max_duplicates=0.0)
    assert report.findings == [] and report.refused == []
    assert run(data, tmp_path / "enough", min_rows={"preferences": 26, **dict.fromkeys(("instructions", "evaluation"), 4)})
    with pytest.raises(DataError, match=r"there are 27 rows or more in which somebody says something: FAILED"):
        run(data, tmp_path / "again", min_rows={"preferences": 27, **dict.fromkeys(("instructions", "evaluation"), 4)})
