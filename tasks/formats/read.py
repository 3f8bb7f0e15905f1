"""Folders of raw data into canonical rows: find the files, recognise each row's form, collect what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tasks.formats import alpaca, chats, evaluation, messages, pairs, prompt_completion, questions, rankings, sharegpt
from tasks.formats.files import data_files, rows
from tasks.formats.rows import BadRow, Case, Instruction, Problem, Prompt, Ranking

T = TypeVar("T")
Reader = Callable[[dict[str, Any], str], T]
INSTRUCTION_FORMS = (sharegpt, messages, alpaca, prompt_completion)
PREFERENCE_FORMS = (rankings, pairs)
PROMPT_FORMS = (questions, chats)


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


def _files(folder: Path) -> list[Path]:
    return data_files(folder) if folder.is_dir() else []


def read_instructions(folder: Path) -> Read[Instruction]:
    """All instruction rows below `folder`; none where it is missing or empty."""
    return _read_files(folder, _files(folder), lambda row, _: sniff(row, INSTRUCTION_FORMS))


def read_preferences(folder: Path) -> Read[Ranking]:
    """All rankings and pairs below `folder`; none where it is missing or empty."""
    return _read_files(folder, _files(folder), lambda row, _: sniff(row, PREFERENCE_FORMS))


def read_prompts(folder: Path) -> Read[Prompt]:
    """All prompts below `folder`; none where it is missing or empty."""
    return _read_files(folder, _files(folder), lambda row, _: sniff(row, PROMPT_FORMS))


def read_evaluation(folder: Path) -> Read[Case]:
    """The evaluation sets that `folder` has; a missing one has no cases. Files of other names are passed over."""
    files = [path for name in evaluation.SETS if (path := folder / f"{name}.jsonl").is_file()]
    return _read_files(folder, files, lambda _, path: lambda row, where: evaluation.read(row, where, path.stem))
