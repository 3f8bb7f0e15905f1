"""tasks/formats: every form, every tolerance, and errors that say where and what to do."""

from __future__ import annotations

import json

import pytest

from tasks.formats import read_evaluation, read_instructions, read_preferences, read_prompts
from tasks.formats.rows import BadRow, clean, fingerprint
from tests.data_fixtures import jsonl, ranking, write_data

USER, ANSWER = {"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}


def read_one(tmp_path, row):
    """The canonical row and the problems of a file with this one row."""
    jsonl(tmp_path / "instructions" / "x.jsonl", [row])
    read = read_instructions(tmp_path / "instructions")
    return (read.rows[0] if read.rows else None), [str(p) for p in read.problems]


@pytest.mark.parametrize(
    "row, form",
    [
        ({"instruction": "Q?", "output": "A."}, "alpaca"),
        ({"instruction": "Q?", "input": None, "output": " A. "}, "alpaca"),
        ({"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]}, "sharegpt"),
        ({"messages": [USER, ANSWER]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q?"}]}, ANSWER]}, "messages"),
        ({"prompt": "Q?", "completion": "A."}, "prompt_completion"),
        ({"prompt": [USER], "completion": [ANSWER]}, "prompt_completion"),
    ],
)
def test_every_form_gives_the_same_messages(tmp_path, row, form):
    """Four forms and their variants, one canonical conversation, recognised by its keys."""
    found, problems = read_one(tmp_path, row)
    assert not problems
    assert found.form == form
    assert found.messages == [USER, ANSWER]
    assert found.id == fingerprint([USER, ANSWER])
    assert found.source == "instructions/x.jsonl:1"


def test_alpaca_input_follows_after_a_blank_line(tmp_path):
    """Instruction, blank line, input, as the form has always been rendered."""
    found, _ = read_one(tmp_path, {"instruction": "Sum up.", "input": "A long text.", "output": "Short."})
    assert found.messages[0]["content"] == "Sum up.\n\nA long text."


def test_alpaca_passages_are_rendered_as_the_grounded_prompt(tmp_path):
    """The same prompt that evaluation and the answer stage use."""
    row = {"instruction": "几点开门？", "input": "", "output": "8:00开门。[1]", "passages": ["青山店8:00开门。"]}
    found, _ = read_one(tmp_path, row)
    assert (
        found.messages[0]["content"]
        == "请根据以下资料回答用户问题并注明出处；资料没有说明就直说。\n已知信息：\n[1] 青山店8:00开门。\n用户问题：几点开门？"
    )
    assert found.language == "zh"


@pytest.mark.parametrize(
    "row, what, remedy",
    [
        (
            {"foo": 1},
            "has keys 'foo'",
            "a row needs conversations or messages or instruction+output or completion+prompt",
        ),
        (
            {"instruction": "Q?", "output": 3},
            "'output' is a number, not a text",
            "write it as a string, or drop the row",
        ),
        ({"instruction": "Q?", "output": None}, "'output' is missing", "give it a text, or drop the row"),
        (
            {"instruction": "Q?", "input": "x", "passages": ["y"], "output": "A."},
            "has both 'input' and 'passages'",
            "move the",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[1] has role 'tool'",
            "use one of system, user, assistant",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "messages[1] holds more than text",
            "keep the text",
        ),
        ({"messages": "Q?"}, "'messages' is not a list of messages", "write it as"),
        (
            {"conversations": [{"from": "bot", "value": "x"}]},
            "conversations[1] is from 'bot'",
            "use one of system, human",
        ),
        ({"conversations": [{"from": "gpt"}]}, "conversations[1] has no text", "give it a 'value'"),
    ],
)
def test_bad_rows_say_where_what_and_what_to_do(tmp_path, row, what, remedy):
    """file:line: thing; remedy."""
    found, (problem,) = read_one(tmp_path, row)
    assert found is None
    assert problem.startswith(f"instructions/x.jsonl:1: {what}")
    assert f"; {remedy}" in problem


def test_files_may_have_a_mark_crlf_blank_lines_or_a_wrong_suffix(tmp_path):
    """BOM + CRLF JSON Lines in .json, an array in .jsonl, UTF-16: all read."""
    folder = tmp_path / "instructions"
    folder.mkdir()
    row = json.dumps({"prompt": "问？", "completion": "答。"}, ensure_ascii=False)
    (folder / "a.json").write_bytes(f"\ufeff{row}\r\n\r\n{row}\r\n".encode())
    (folder / "b.jsonl").write_text(f"[{row},\n {row}]")
    (folder / "c.jsonl").write_bytes(row.encode("utf-16"))
    (folder / ".hidden.jsonl").write_text("{")
    (folder / "notes.txt").write_text("not data")
    read = read_instructions(folder)
    assert not read.problems
    assert [r.source for r in read.rows] == [
        "instructions/a.json:1",
        "instructions/a.json:3",
        "instructions/b.jsonl:row 1",
        "instructions/b.jsonl:row 2",
        "instructions/c.jsonl:1",
    ]
    assert {r.messages[0]["content"] for r in read.rows} == {"问？"}


def test_a_broken_line_costs_a_line_and_a_broken_array_the_file(tmp_path):
    """Problems know whether only a row or the whole file is lost."""
    folder = tmp_path / "instructions"
    good = json.dumps({"prompt": "Q?", "completion": "A."})
    jsonl(folder / "ok.jsonl", [])
    (folder / "a.jsonl").write_text(f"{good}\n{{broken\n{good}\n[1]\n")
    (folder / "b.json").write_text(f"[{good},\n{good}")
    (folder / "c.jsonl").write_bytes(good.encode() + b"\n" + "问".encode("gb18030"))
    (folder / "d.json").write_text('{\n"rows": []\n}')
    read = read_instructions(folder)
    assert len(read.rows) == 2
    assert [(p.where, p.whole_file) for p in read.problems] == [
        ("instructions/a.jsonl:2", False),
        ("instructions/a.jsonl:4", False),
        ("instructions/b.json:2", True),
        ("instructions/c.jsonl:2", True),
        ("instructions/d.json:1", True),
    ]
    assert str(read.problems[3]).endswith("save the file as UTF-8")


def test_rankings_and_pairs_become_rankings(tmp_path):
    """A bare letter is a list of one; a pair is a ranking of two by its file's annotator unless it names one."""
    folder = tmp_path / "preferences"
    jsonl(folder / "r.jsonl", [ranking(1, order=["A", ["B", "C"]])])
    pair = {"prompt": "Q?", "chosen": "Yes.", "rejected": "No."}
    turns = {"prompt": [USER], "chosen": [USER, ANSWER], "rejected": [{"role": "assistant", "content": "B."}]}
    jsonl(folder / "p.jsonl", [pair, {**turns, "annotator": "annotator-09", "annotation": "x1"}])
    first, second, ranked = read_preferences(folder).rows
    assert (first.answers, first.ranking, first.annotator) == ({"A": "Yes.", "B": "No."}, [["A"], ["B"]], "file:p")
    assert (second.answers, second.annotator, second.annotation) == ({"A": "A.", "B": "B."}, "annotator-09", "x1")
    assert ranked.ranking == [["A"], ["B", "C"]]
    assert ranked.messages[0]["content"].endswith("Question: When does the Bradton store open?")


@pytest.mark.parametrize(
    "change, what",
    [
        ({"answers": ["x"]}, "'answers' is not an object of texts"),
        ({"ranking": []}, "'ranking' is not a list"),
        ({"ranking": [[]]}, "'ranking' holds something that is no answer's letter"),
        ({"annotation": True}, "'annotation' is neither a number nor a text"),
        ({"annotator": None}, "'annotator' is missing"),
        ({"passages": "one"}, "'passages' is not a list of texts"),
    ],
)
def test_bad_rankings_are_told(tmp_path, change, what):
    """Shapes that an export can get wrong."""
    jsonl(tmp_path / "preferences" / "r.jsonl", [{**ranking(1), **change}])
    (problem,) = read_preferences(tmp_path / "preferences").problems
    assert problem.where == "preferences/r.jsonl:1"
    assert problem.what == what


def test_prompts_and_evaluation_sets(tmp_path):
    """The rest of data/: prompts, and the six sets with their own fields."""
    data = write_data(tmp_path)
    assert [p.id for p in read_prompts(data / "prompts").rows][:2] == ["p0", "p1"]
    cases = {case.set: case for case in read_evaluation(data / "evaluation").rows}
    assert set(cases) == {"facts", "context", "unanswerable", "pairs_correctness", "pairs_style", "documents"}
    assert cases["unanswerable"].fields["answer"] is None
    assert cases["context"].fields["cite"] == [1]
    assert cases["documents"].fields["source"] == "documents/handbook.md"


def test_a_missing_folder_or_set_has_no_rows(tmp_path):
    """Whether that will do is for stage validate to say."""
    assert read_instructions(tmp_path / "instructions").rows == read_evaluation(tmp_path / "evaluation").rows == []
    data = write_data(tmp_path)
    (data / "evaluation" / "facts.jsonl").unlink()
    assert "facts" not in {case.set for case in read_evaluation(data / "evaluation").rows}


def test_clean_and_bad_row_messages():
    """Composed characters, line ends, outer space; an error reads as one line."""
    assert clean(" cafe\u0301\r\nx ") == "caf\u00e9\nx"
    assert str(BadRow("is empty", "drop it")) == "is empty; drop it"


def test_what_a_labelling_tool_knows_besides(tmp_path):
    """Messages instead of a question; skip, time, order shown, flags, reasons and the moment, all optional."""
    row = {"messages": [USER, ANSWER, USER], "answers": {"A": "x", "B": "y"}, "annotator": "ann-1", "annotation": 7}
    said = {**row, "ranking": [["B"], ["A"]], "seconds": 12, "order": [1, 0], "flags": ["unsafe"], "reasons": ["honest"],
            "updated": "2026-11-24T09:30:00+08:00", "lead": "unknown keys are passed over"}
    skip = {**row, "ranking": [], "skipped": True}
    bad = {**row, "ranking": [], "flags": ["all_bad"]}
    jsonl(tmp_path / "preferences" / "r.jsonl", [said, skip, bad])
    read = read_preferences(tmp_path / "preferences")
    assert not read.problems
    first, second, third = read.rows
    assert first.messages == [USER, ANSWER, USER] and first.language == "en"
    assert (first.seconds, first.letters_shown, first.flags, first.reasons) == (12.0, True, ("unsafe",), ("honest",))
    assert first.updated == "2026-11-24T01:30:00.000000+00:00"
    assert second.skipped and second.ranking == [] and not first.skipped
    assert (second.seconds, second.letters_shown, second.updated) == (None, False, "")
    assert third.ranking == [] and third.flags == ("all_bad",)


@pytest.mark.parametrize(
    "change, what",
    [
        ({"skipped": True}, "'skipped' is not true or false, or there is a ranking too"),
        ({"skipped": "yes", "ranking": []}, "'skipped' is not true or false"),
        ({"seconds": -1}, "'seconds' is not a number of seconds"),
        ({"seconds": "12"}, "'seconds' is not a number of seconds"),
        ({"order": [0, 1]}, "'order' is not a permutation of the answers"),
        ({"order": [0, True, 2]}, "'order' is not a permutation of the answers"),
        ({"updated": "yesterday"}, "'updated' is no moment"),
        ({"updated": "0001-01-01T00:00:00+23:00"}, "'updated' is no moment"),
        ({"flags": "unsafe"}, "'flags' is not a list of texts"),
        ({"messages": [USER, ANSWER]}, "'messages' does not end with the user's"),
    ],
)
def test_bad_fields_of_a_labelling_tool_are_told(tmp_path, change, what):
    """A wrong shape is a message, never a guess."""
    jsonl(tmp_path / "preferences" / "r.jsonl", [{**ranking(1), **change}])
    (problem,) = read_preferences(tmp_path / "preferences").problems
    assert problem.what.startswith(what)


def test_prompts_that_users_sent_back(tmp_path):
    """Origin and the answers that were not liked; as a question or as messages."""
    rows = [{"question": "Q?", "origin": "feedback", "answers": [" It was 5. "]}, {"messages": [USER]}]
    jsonl(tmp_path / "prompts" / "p.jsonl", rows)
    first, second = read_prompts(tmp_path / "prompts").rows
    assert (first.origin, first.answers, first.messages) == ("feedback", ("It was 5.",), [USER])
    assert (second.origin, second.answers, second.messages) == (None, (), [USER])
