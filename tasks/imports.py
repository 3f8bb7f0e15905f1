"""`nightshift import`: a team's own files into data/, checked first, laid whole or not at all, tracked by DVC.

Nothing is lost: the folder that was there is moved to .nightshift/data-before-<n>. Nothing is followed in what is read.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks import params, withdrawn
from tasks.bootstrap import DATA, track
from tasks.errors import DataError
from tasks.formats import read_instructions
from tasks.formats.files import SUFFIXES

KINDS = ("instructions", "documents", "preferences", "prompts", "evaluation")
NAMED = 5  # problems that an error names


def lay(root: Path, instructions: Sequence[Path], documents: Path | None, keep_others: bool) -> list[str]:
    """Make data/ of these files; lines that say what was read. DataError names file and line of what cannot be.

    Other kinds of data are left out unless `keep_others`. Without `documents` those that are there must be kept.
    """
    limits = params.load(root / "params.yaml").validate_
    data, part = root / DATA, root / f".{DATA}.part-{os.getpid()}"
    try:
        gather(part, data, instructions, documents, keep_others)
        names = {path.name: path for path in instructions}
        lines = [read_rows(part / "instructions", names, limits), read_documents(part / "documents", documents, limits)]
        before = swap(part, data, root / ".nightshift")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    tracked = track(root)
    absent = [kind for kind in KINDS if not (data / kind).is_dir()]
    if before:
        lines.append(f"before: the data that was there is in {before.relative_to(root).as_posix()}")
    if absent:
        lines.append(f"absent: {', '.join(absent)}; a night can do without: nightshift preset own-data")
    return [*lines, f"tracked: {DATA}.dvc names {tracked}"]


def gather(part: Path, data: Path, instructions: Sequence[Path], documents: Path | None, keep_others: bool) -> None:
    """Copy everything that data/ will hold into the new folder `part`."""
    shutil.rmtree(part, ignore_errors=True)
    (part / "instructions").mkdir(parents=True)
    for path in instructions:
        if not path.is_file() or path.suffix.lower() not in SUFFIXES:
            what = "does not exist" if not path.exists() else f"is no {', '.join(SUFFIXES)} file"
            raise DataError(str(path), what, "name one file of rows, or several")
        if (part / "instructions" / path.name).exists():
            raise DataError(str(path), f"has the name of another file ({path.name})", "rename one of them")
        shutil.copyfile(path, part / "instructions" / path.name)
    if documents is not None:
        if not documents.is_dir():
            raise DataError(str(documents), "is no folder", "name the folder that holds the documents")
        shutil.copytree(documents, part / "documents", ignore=lambda _, names: [n for n in names if n.startswith((".", "~$"))])
    if (data / withdrawn.FILE).is_file():  # a word given once holds for whatever data comes
        shutil.copyfile(data / withdrawn.FILE, part / withdrawn.FILE)
    for kind in KINDS[1:] if keep_others else ():
        if (data / kind).is_dir() and not (part / kind).exists():
            shutil.copytree(data / kind, part / kind)
    if not (part / "documents").is_dir():
        raise DataError("documents", "there are none, and a night answers from documents",
                        "name a folder: --documents DIR, or keep those of data/documents: --keep-others")


def read_rows(folder: Path, names: dict[str, Path], limits: params.Validate) -> str:
    """A line about the instruction rows; DataError where none or too few of them can be read."""
    read = read_instructions(folder)
    told = []
    for problem in read.problems:
        name, _, place = problem.where.removeprefix(f"{folder.name}/").rpartition(":")
        told.append(f"{names[name]}:{place}: {problem.what}; {problem.remedy}")
    total = len(read.rows) + len(read.problems)
    lost = any(problem.whole_file for problem in read.problems)
    if lost or not read.rows or len(told) > limits.max_bad_rows * total:
        files = ", ".join(map(str, names.values()))
        detail = "".join(f"\n  {line}" for line in told[:NAMED]) or "no rows"
        raise DataError(files, f"cannot be used: {len(told)} of {total} rows cannot be read{detail}" if total else detail,
                        "mend them and import again; the data is as it was")
    line = f"instructions: {counted(len(read.rows), 'row')} ({counts(row.form for row in read.rows)}; " \
           f"{counts(row.language for row in read.rows)})"
    if told:
        line += f"; {counted(len(told), 'row')} cannot be read and will be left out, the first: {told[0]}"
    foreign = sorted({row.language for row in read.rows} - set(limits.languages))
    return line + (f"; not in validate.languages: {', '.join(foreign)}" if foreign else "")


def read_documents(folder: Path, given: Path | None, limits: params.Validate) -> str:
    """A line about the documents; DataError where none or too few of them can be read."""
    from tasks.validation.frames import documents

    try:
        table = documents(folder, round(limits.max_document_megabytes * 2**20), limits.max_document_seconds)
    except DataError as error:  # it names the copy
        raise DataError(str(given or folder), error.what, error.remedy) from None
    told = [f"{given or folder}/{row['where'].partition('/')[2]}: {row['problem']}" for row in table if row["problem"]]
    if len(told) == len(table) or len(told) > limits.max_bad_documents * len(table):
        detail = "".join(f"\n  {line}" for line in told[:NAMED])
        raise DataError(str(given or folder), f"{len(told)} of {len(table)} documents cannot be read{detail}",
                        "take them out or convert them, and import again; the data is as it was")
    line = f"documents: {counted(len(table), 'file')} ({counts(row['suffix'] for row in table)})"
    return line + (f"; {len(told)} cannot be read and will be left out, the first: {told[0]}" if told else "")


def swap(part: Path, data: Path, work: Path) -> Path | None:
    """Put `part` in the place of data/; returns where the old folder went. After a failure the old one is back."""
    before = None
    if data.exists():
        work.mkdir(exist_ok=True)
        before = next(path for n in range(1, 10**6) if not (path := work / f"{DATA}-before-{n}").exists())
        os.replace(data, before)
    try:
        os.replace(part, data)
    except OSError:
        if before:
            os.replace(before, data)
        raise
    return before


def counts(values: Iterator[str]) -> str:
    """How often each value occurs, the commonest first: "en 18, zh 2"."""
    return ", ".join(f"{value or 'no suffix'} {n:,}" for value, n in Counter(values).most_common())


def counted(n: int, noun: str) -> str:
    """1 row, 2 rows."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
