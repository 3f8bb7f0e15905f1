"""`nightshift withdraw --annotator X`: a person's judgements out of all data that is to come.

Their rows go from every file of data/preferences and data/instructions, and so does what waits in the inbox or in
quarantine; their name goes into data/withdrawn.jsonl, so that no collection and no older file brings them back. What was
trained on them stays what it is: the releases are named, and so is the command that ends earlier versions of the data.
"""

from __future__ import annotations

import contextlib
import difflib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks import lock, tracked, withdrawn
from tasks.bootstrap import DATA, bootstrap
from tasks.errors import DataError, ParamsError, ServiceError
from tasks.formats.files import data_files
from tasks.labelling import collect, inbox, people, quarantine, rows, secrets
from tasks.lineage.forward import of_people
from tasks.params import Params, load

KINDS = ("preferences", "instructions")


def withdraw(root: Path, who: str, now: datetime, dry: bool = False) -> list[str]:
    """Do it, or with `dry` say what would be done; a line each. Twice is harmless."""
    params = load(root / "params.yaml")
    with lock.alone(root, "a withdrawal", lock.MOMENT):
        bootstrap(root)
        names = resolve(root, params, who)
        found = {path.relative_to(root / DATA).as_posix(): rows.without(path, names) for path in _files(root)}
        found = {name: (content, gone) for name, (content, gone) in found.items() if gone}
        total = sum(gone for _, gone in found.values())
        lines = [f"{' and '.join(names)}: {total:,} rows {'would go' if dry else 'are gone'}"]
        lines += [f"  {name}: {gone:,}" for name, (_, gone) in found.items()]
        waiting = [path for path in inbox.batches(root) if any(_author(row) in names for row in inbox.read(path).rows)]
        held = [name for name, content in quarantine.everything(root).items() if _author(content) in names]
        lines += [f"  batches that wait in the inbox with rows of theirs: {len(waiting)}"] if waiting else []
        lines += [f"  in quarantine: {len(held)}"] if held else []
        if not dry:
            # The name first: after a kill here nothing is learned from the rows that are left, and the same command ends them.
            when = now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            files = withdrawn.added(root / DATA, names, when)
            hash_ = tracked.write(root, {**files, **{name: content for name, (content, _) in found.items()}})
            for path in waiting:
                inbox.rewrite(path, [row for row in inbox.read(path).rows if _author(row) not in names])
            quarantine.settle(root, held)
            done = f"tracked: {DATA}.dvc names {hash_} (the next night commits it)"
            lines.append(done if hash_ else f"{' and '.join(names)} had withdrawn before")
        for path in sorted({*_all_files(root)} - {*_files(root)}):
            lines.append(f"  {path.relative_to(root / DATA)}: in no encoding that is read here; look for yourself")
    return [*lines, *shaped(root, names), *_earlier(root)]


def resolve(root: Path, params: Params, who: str) -> list[str]:
    """Names in the data of a person who is given by name, by Label Studio user id or by e-mail address."""
    there = _names(root)
    if who in there or people.PSEUDONYM.fullmatch(who):
        return [who]
    if "@" in who:
        return _both(root, params, _user(root, params, who))
    if who.isdecimal():
        return _both(root, params, int(who))
    near = difflib.get_close_matches(who, sorted(there), 1)
    hint = f"did you mean {near[0]}?" if near else f"{len(there)} annotators are there, such as {min(there, default='none')}"
    raise DataError(f"--annotator {who}", "is no annotator in the data", hint)


def shaped(root: Path, names: list[str]) -> list[str]:
    """Which releases were trained on their judgements, and whether the live one was."""
    releases, untold = of_people(root, names)
    mark = ", LIVE: the next night trains without them"
    lines = [f"  {of.release}: {len(of.annotations):,} annotations{mark if of.live else ''}" for of in releases]
    head = "releases that they have shaped:" if lines else "no release that tells its judgements was trained on theirs"
    if untold:
        lines.append(f"  {untold} older releases do not tell whose judgements they were trained on")
    return [head, *lines]


def _earlier(root: Path) -> list[str]:
    kept = sorted(path.relative_to(root).as_posix() for path in (root / lock.WORK).glob(f"{DATA}-before-*"))
    said = [
        "earlier versions of the data stay in DVC's cache and remote while a release or one of the last nights needs them",
        "(without them it could not be made again); the others end by nightshift gc --remote",
    ]
    return [*said, *([f"and in {', '.join(kept)}: remove what is not needed"] if kept else [])]


def _both(root: Path, params: Params, user: int) -> list[str]:
    """Their names, as params.yaml has it now and as it may have been."""
    names = [people.namer(root, params)(user), people.plain(user)]
    with contextlib.suppress(ServiceError):  # no salt, no pseudonyms
        names.append(people.pseudonym(user, secrets.value(root, secrets.SALT)))
    there = _names(root) | {names[0]}
    return [name for name in dict.fromkeys(names) if name in there]


def _user(root: Path, params: Params, address: str) -> int:
    """Id of the user with an address, asked of the server. The address is not repeated in any message."""
    if params.labelling.url is None:
        raise ParamsError(
            "--annotator",
            "is an e-mail address, and labelling.url names no server to ask whose it is",
            "give the annotator's name or user id",
        )
    with collect.opened(root, params, ()) as server:
        users: dict[int, str] = server.users()  # type: ignore[union-attr]
    found = [id_ for id_, theirs in users.items() if theirs.casefold() == address.casefold()]
    if len(found) != 1:
        raise DataError("--annotator", "is nobody's e-mail address in Label Studio", "give the annotator's name or user id")
    return found[0]


def _names(root: Path) -> set[str]:
    """Annotators whom the data names, those who have withdrawn included."""
    named = {name for path in _files(root) for name in rows.annotators(path)}
    waiting = {_author(row) for path in inbox.batches(root) for row in inbox.read(path).rows} - {None}
    return named | waiting | withdrawn.names(root / DATA)


def _files(root: Path) -> list[Path]:
    """Files of rows that can be read."""
    return [path for path in _all_files(root) if rows.readable(path)]


def _all_files(root: Path) -> list[Path]:
    return [path for kind in KINDS if (folder := root / DATA / kind).is_dir() for path in data_files(folder)]


def _author(content: dict[str, Any]) -> str | None:
    """Whose row, or whose judgement in quarantine."""
    return next(
        (
            place["annotator"]
            for place in (content, content.get("row"), content.get("raw"))
            if isinstance(place, dict) and place.get("annotator")
        ),
        None,
    )
