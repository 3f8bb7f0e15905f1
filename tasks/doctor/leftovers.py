"""Locks that are held, locks that nobody holds any more, and what killed runs have left."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

from tasks import home, lock, promote
from tasks.doctor.findings import Finding, Place, broken, note, ok, output, size, warning
from tasks.errors import NightshiftError, ServiceError
from tasks.files import read_json
from tasks.files import size as bytes_of
from tasks.reproduce import HOME

OLD = 7 * 86_400  # seconds after which nobody goes on from a checkpoint


def locks(place: Place) -> Iterator[Finding]:
    """Who is at work here, and locks of DVC that would be waited for in vain."""
    found = []
    for folder in dict.fromkeys((place.root, place.checkout)):
        if lock.is_held(folder / lock.NIGHT):
            found.append(note(f"a night, a collection or a release is at work in {folder} ({_holder(folder / lock.NIGHT)})"))
        if lock.is_held(folder / lock.PROMOTION):
            found.append(note(f"a promotion or rollback is under way in {folder} ({_holder(folder / lock.PROMOTION)})"))
        found += _of_dvc(folder)
    yield from found or [ok("no lock is held, none is left over")]


def _of_dvc(folder: Path) -> Iterator[Finding]:
    path, entries = folder / ".dvc/tmp/lock", folder / ".dvc/tmp/rwlock"
    if lock.is_held(path):
        yield note(f"a dvc command is at work in {folder} ({_holder(path)})")
    elif _hardlinks(folder) and path.is_file():
        number = re.search(r"\|(\d+)\|", path.read_text(encoding="utf-8", errors="replace"))
        if number and not Path(f"/proc/{number[1]}").exists():
            yield broken(f"{path} is of process {number[1]}, which has ended: DVC waits for it for ever", f"rm {path}")
    try:
        pids = sorted(lock.of_dvc(entries))
    except ServiceError:
        yield broken(f"{entries} is torn: DVC refuses to run", f"rm {entries}")
        return
    for pid in pids:  # DVC itself drops those of processes that have ended; a number that another program has now, it believes
        command = _command(pid)
        if command and not re.search(r"dvc|flows|tasks|prefect", command):
            yield broken(f"{entries} names process {pid}, which is no dvc any more: DVC waits for it for ever", f"rm {entries}")


def _hardlinks(folder: Path) -> bool:
    """Whether DVC's lock is a file that outlives its process (core.hardlink_lock)."""
    done = [path.read_text(encoding="utf-8", errors="replace") for name in ("config", "config.local")
            if (path := folder / ".dvc" / name).is_file()]  # fmt: skip
    return any(re.search(r"^\s*hardlink_lock\s*=\s*true", text, re.MULTILINE | re.IGNORECASE) for text in done)


def _holder(path: Path) -> str:
    try:
        number, _, name = path.read_text(encoding="utf-8", errors="replace").strip().partition(" ")
    except OSError:
        number = name = ""
    return (f"process {number}" if number.isdigit() else "process unknown") + (f", {name}" if name else "")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def killed(place: Place) -> Iterator[Finding]:
    """Checkpoints, half rollbacks and merges, work trees."""
    root, found = place.root, []
    night = lock.is_held(root / lock.NIGHT)
    if not night:
        found += _checkpoints(root)
        if (root / home.MERGING).is_file():
            found.append(note("taking in commits was interrupted: the next night undoes the half and does it again"))
    if (root / promote.ROLLBACK).is_file() and not lock.is_held(root / lock.PROMOTION):
        found.append(warning(f"a rollback was interrupted ({_rollback(root)})", "nightshift rollback completes it"))
    found += _reproductions(root)
    yield from found or [ok("killed runs have left nothing")]


def _checkpoints(root: Path) -> Iterator[Finding]:
    folders = sorted(path for path in (root / lock.WORK / "work").glob("*") if path.is_dir())
    old = [path for path in folders if time.time() - path.stat().st_mtime > OLD]
    if fresh := [path for path in folders if path not in old]:
        yield note(f"{_stages(fresh)} was ended before its end: the next run goes on from there ({_sizes(fresh)})")
    if old:
        names = " ".join(str(path.relative_to(root)) for path in old)
        yield warning(f"checkpoints of {_stages(old)} that nobody has taken up for a week ({_sizes(old)})", f"rm -r {names}")


def _stages(folders: list[Path]) -> str:
    return ", ".join(dict.fromkeys(f"stage {path.name.rpartition('-')[0] or path.name}" for path in folders))


def _sizes(folders: list[Path]) -> str:
    return size(sum(map(bytes_of, folders)))


def _rollback(root: Path) -> str:
    try:
        told = read_json(root / promote.ROLLBACK)
        return f"from {told['from']} to {told['to']}"
    except (NightshiftError, KeyError, TypeError):
        return "its note cannot be read"


def _reproductions(root: Path) -> Iterator[Finding]:
    note_file = root / HOME / "folder.json"
    if note_file.is_file() and not lock.is_held(root / HOME / "lock"):
        try:
            folder = Path(read_json(note_file)["folder"])
        except (NightshiftError, KeyError, TypeError):
            yield warning(f"{note_file} cannot be read", f"rm {note_file}")
            return
        if folder.exists():
            yield warning(f"a reproduction was killed and left {folder}",
                          f"nightshift reproduce removes it when it runs again; or git worktree remove --force {folder}/tree; "
                          f"rm -r {folder} {note_file}")
    done = output(["git", "worktree", "list", "--porcelain"], root)
    gone = [block for block in (done.stdout if done else "").split("\n\n") if "\nprunable" in block]
    if gone:
        yield warning(f"git remembers work trees whose folder is gone: {len(gone)}", "git worktree prune")

