"""Files appear complete or not at all, and have one hash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tasks.errors import DataError
from tasks.files import canonical_json, read_json, read_jsonl, replace_dir, sha256_tree, write_atomic, write_json, write_jsonl

KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from tasks import files
real = os.replace
def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = killed
files.write_atomic(Path(sys.argv[1]), "new")
"""


def test_json_is_canonical(tmp_path):
    """Key order does not change the bytes; Chinese stays readable."""
    assert canonical_json({"b": 1, "a": "退货"}) == canonical_json({"a": "退货", "b": 1}) == '{\n "a": "退货",\n "b": 1\n}\n'
    write_json(tmp_path / "x.json", [1])
    assert read_json(tmp_path / "x.json") == [1]


def test_not_a_number_is_refused(tmp_path):
    """NaN is no JSON, and nothing is left of the attempt."""
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_kill_before_the_rename_leaves_the_old_content(tmp_path):
    """SIGKILL at the last moment: the old file is there, whole."""
    path = tmp_path / "x"
    write_atomic(path, "old")
    done = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAME, str(path)], env=dict(os.environ, PYTHONPATH=os.getcwd()))
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path):
    """Files of the old folder do not survive in the new one."""
    for name, file in (("final", "old"), ("part", "new")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(file)
    replace_dir(tmp_path / "part", tmp_path / "final")
    assert [p.name for p in tmp_path.iterdir()] == ["final"]
    assert [p.name for p in (tmp_path / "final").iterdir()] == ["new"]


def test_tree_hash_sees_names_and_bytes(tmp_path):
    """The same bytes under another name are another tree."""
    for name, file in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("1")
    assert sha256_tree(tmp_path / "a") == sha256_tree(tmp_path / "b") != sha256_tree(tmp_path / "c")


def test_a_broken_line_is_named(tmp_path):
    """path:line is in the message."""
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"a": 1}])
    path.write_text(path.read_text() + "{broken\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:2: is not JSON"):
        read_jsonl(path)
    with pytest.raises(DataError, match="is missing"):
        read_json(tmp_path / "none.json")
