"""Folders of raw data into canonical rows: find the files, recognise each row's form, collect what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tasks.errors import DataError
from tasks.formats import alpaca, evaluation, messages, pairs, prompt_completion, questions, rankings, sharegpt
from tasks.formats.files import data_files, rows
from tasks.formats.rows import BadRow, Case, Instruction, Problem, Prompt, Ranking

T = TypeVar("T")
Reader = Callable[[dict[str, Any], str], T]
INSTRUCTION_FORMS = (sharegpt, messages, alpaca, prompt_completion)
PREFERENCE_FORMS = (rankings, pairs)


@dataclass(frozen=True)
class Read(Generic[T]):
    """What a folder holds: rows in the order of files and lines, and what could not be read."""

    rows: list[T] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def sniff(row: dict[str, Any], forms: tuple) -> Reader:
    """The reader of the first form whose keys the row has."""
    for form in forms:
        if row.keys() >= form.KEYS:
            return form.read
    known = " or ".join("+".join(sorted(form.KEYS)) for form in forms)
    raise BadRow(f"has keys {', '.join(map(repr, row)) or 'none'}", f"a row needs {known}")


def _read_files(folder: Path, files: list[Path], reader_of: Callable[[dict[str, Any], Path], Reader]) -> Read:
    """Read `files`, all below `folder`, whose name starts every place."""
    read: Read = Read()
    for path in files:
        name = f"{folder.name}/{path.relative_to(folder).as_posix()}"
        for item in rows(path, name):
            if isinstance(item, Problem):
                read.problems.append(item)
                continue
            where, row = item
            try:
                read.rows.append(reader_of(row, path)(row, where))
            except BadRow as bad:
                read.problems.append(Problem(where, bad.what, bad.remedy))
    return read


def _files(folder: Path, what: str) -> list[Path]:
    files = data_files(folder) if folder.is_dir() else []
    if not files:
        raise DataError(str(folder), f"holds no {what}", f"put a .json or .jsonl file there: {folder.name}/….jsonl")
    return files


def read_instructions(folder: Path) -> Read[Instruction]:
    """All instruction rows below `folder`; DataError when there is no file."""
    return _read_files(folder, _files(folder, "instructions"), lambda row, _: sniff(row, INSTRUCTION_FORMS))


def read_preferences(folder: Path) -> Read[Ranking]:
    """All rankings and pairs below `folder`; DataError when there is no file."""
    return _read_files(folder, _files(folder, "preferences"), lambda row, _: sniff(row, PREFERENCE_FORMS))


def read_prompts(folder: Path) -> Read[Prompt]:
    """All prompts below `folder`; DataError when there is no file."""
    return _read_files(folder, _files(folder, "prompts"), lambda row, _: sniff(row, (questions,)))


def read_evaluation(folder: Path) -> Read[Case]:
    """All evaluation sets of `folder`; DataError when one is missing. Files of other names are passed over."""
    files = [folder / f"{name}.jsonl" for name in evaluation.SETS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            str(folder), f"lacks {', '.join(missing)}", "write the set, one case a line, or restore it: dvc checkout"
        )
    return _read_files(folder, files, lambda _, path: lambda row, where: evaluation.read(row, where, path.stem))
