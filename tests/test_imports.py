"""`nightshift import`: own files into data/, by real DVC, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import minigraph
import pytest

from tasks import cli, withdrawn
from tasks.bootstrap import dvc_hash, tracked_hash
from tests.data_fixtures import jsonl, write_data, write_own_data

ROOT = Path(__file__).parent.parent
ROW = {"instruction": "Say a town.", "input": "", "output": "Ashford."}


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A repository with DVC and some data; own/ holds what a newcomer brings."""
    root = minigraph.make(tmp_path)
    shutil.copy(ROOT / "params.yaml", root)
    write_data(root / "more")
    shutil.copytree(root / "more", root / "data", dirs_exist_ok=True)
    shutil.rmtree(root / "more")
    minigraph.dvc(root, "add", "--quiet", "data")
    write_own_data(root / "own")
    monkeypatch.chdir(root)
    for name, value in minigraph.environment().items():
        monkeypatch.setenv(name, value)
    return root


def run(capsys, *words: str) -> tuple[int, str]:
    """Exit code and what was printed."""
    code = cli.main(["import", *words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_own_files_take_the_place_of_everything(root, capsys):
    """What was read is said; the old data lies whole beside; DVC tracks the new bytes; twice keeps both."""
    before = dvc_hash(root / "data")
    shutil.copy(root / "own/instructions/alpaca.jsonl", root / "mine.jsonl")
    jsonl(root / "second.jsonl", [{"prompt": "你们几点开门？", "completion": "八点开门。"}])
    (root / "own/documents/.hidden.md").write_text("x")
    code, said = run(capsys, "--instructions", "mine.jsonl", "second.jsonl", "--documents", "own/documents")
    assert code == 0, said
    assert "instructions: 21 rows (alpaca 20, prompt_completion 1; en 20, zh 1)" in said
    assert "documents: 1 file (.md 1)" in said and "absent: preferences, prompts, evaluation;" in said
    files = {p.relative_to(root / "data").as_posix() for p in (root / "data").rglob("*") if p.is_file()}
    assert files == {"instructions/mine.jsonl", "instructions/second.jsonl", "documents/handbook.md"}
    assert dvc_hash(root / "data") == tracked_hash(root / "data.dvc") != before
    assert dvc_hash(root / ".nightshift/data-before-1") == before
    assert run(capsys, "--instructions", "mine.jsonl", "--keep-others")[0] == 0
    assert {p.name for p in (root / ".nightshift").glob("data-before-*")} == {"data-before-1", "data-before-2"}
    assert (root / "data/documents/handbook.md").is_file()
    assert not list(root.glob(".data.part-*"))


def test_other_kinds_stay_when_asked(root, capsys):
    """--keep-others replaces instructions (and documents) alone."""
    code, said = run(capsys, "--instructions", "own/instructions/alpaca.jsonl", "--keep-others")
    assert code == 0 and "absent" not in said
    assert [p.name for p in (root / "data/instructions").iterdir()] == ["alpaca.jsonl"]
    assert (root / "data/preferences/rankings.jsonl").is_file() and (root / "data/evaluation/facts.jsonl").is_file()


def test_who_has_withdrawn_stays_withdrawn(root, capsys):
    """Whatever data comes: it may hold their rows again."""
    jsonl(root / "data/withdrawn.jsonl", [{"annotator": "annotator-08", "when": "2026-11-24T00:00:00Z"}])
    assert run(capsys, "--instructions", "own/instructions/alpaca.jsonl", "--documents", "own/documents")[0] == 0
    assert withdrawn.names(root / "data") == {"annotator-08"}


BROKEN = [
    (json.dumps(ROW) + "\n{broken\n", "bad.jsonl:2: is not JSON"),
    ('[{"instruction": "x"},\n{"instruction" "y"}]', "bad.jsonl:2: is not a JSON array"),
    (json.dumps(ROW) + "\n" + json.dumps({"frage": "x"}) + "\n", "bad.jsonl:2: has keys 'frage'"),
    ("", "no rows"),
]


def test_what_cannot_be_read_is_named_and_changes_nothing(root, capsys):
    """File and line as the person knows them; data/ and data.dvc are as they were."""
    before, tracked = dvc_hash(root / "data"), (root / "data.dvc").read_bytes()
    for content, place in BROKEN:
        (root / "bad.jsonl").write_text(content)
        code, said = run(capsys, "--instructions", "bad.jsonl", "--documents", "own/documents")
        assert code == 1 and place in said and "the data is as it was" in said
    assert (dvc_hash(root / "data"), (root / "data.dvc").read_bytes()) == (before, tracked)
    assert not list(root.glob(".data.part-*")) and not list(root.glob(".nightshift/data-before-*"))


def test_a_few_bad_rows_are_told_and_left_to_the_checks(root, capsys):
    """Up to validate.max_bad_rows, as in stage validate."""
    jsonl(root / "many.jsonl", [{**ROW, "instruction": f"Say town {n}."} for n in range(200)] + [{"x": 1}])
    code, said = run(capsys, "--instructions", "many.jsonl", "--documents", "own/documents")
    assert code == 0 and "1 row cannot be read and will be left out, the first: many.jsonl:201: has keys 'x'" in said


ROWS = ["--instructions", "own/instructions/alpaca.jsonl"]
WRONG = [
    (["--instructions", "gone.json"], "gone.json: does not exist"),
    (["--instructions", "own/documents/handbook.md"], "handbook.md: is no .json, .jsonl, .ndjson file"),
    (ROWS, "there are none, and a night answers from documents"),
    ([*ROWS, "own/copy/alpaca.jsonl"], "own/copy/alpaca.jsonl: has the name of another file"),
    ([*ROWS, "--documents", "gone"], "gone: is no folder"),
    ([*ROWS, "--documents", "own/empty"], "own/empty: holds no documents"),
    ([*ROWS, "--documents", "own/broken"], "own/broken/a.pdf: cannot be read"),
]


def test_wrong_arguments_are_refused(root, capsys):
    """Before anything is touched."""
    (root / "own/empty").mkdir()
    (root / "own/broken").mkdir()
    (root / "own/broken/a.pdf").write_bytes(b"%PDF-1.4 nothing")
    shutil.copytree(root / "own/instructions", root / "own/copy")
    before = dvc_hash(root / "data")
    for words, what in WRONG:
        code, said = run(capsys, *words)
        assert code == 1 and what in said, said
    assert dvc_hash(root / "data") == before
