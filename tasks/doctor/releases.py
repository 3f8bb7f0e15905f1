"""What is live: its record, its parts in DVC's cache, the files that follow it, its search index. Bytes are not hashed here:
that is `nightshift reproduce --from-cache`, and every promotion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks import champion, live_index, promote, records
from tasks.doctor.findings import Finding, Place, broken, note, ok, some, warning
from tasks.doctor.project import dvc
from tasks.doctor.web import listens
from tasks.errors import NightshiftError
from tasks.files import read_json


def live(place: Place) -> Iterator[Finding]:
    """releases/LIVE names a record that is there, and everything that it serves is in the cache; the one before it too."""
    root = place.root
    release = records.live(root)
    if release is None:
        yield note("no release yet: make nightly")
        return
    record = _record(root, release)
    if record is None:
        yield broken(f"{records.RELEASES}/LIVE names {release}, and there is no such record",
                     f"git checkout {records.RELEASES}; nightshift releases lists what there is")
        return
    if record["withdrawn"]:
        yield warning(f"{release} is live and marked as rolled back: a rollback was interrupted",
                      f"nightshift rollback {release}")
    if missing := missing_parts(root, record):
        yield broken(f"{release} is live, and not in DVC's cache: {some(missing)}", fetching(record))
    else:
        yield ok(f"{release} is live, {len(record['manifest']['parts'])} parts in the cache")
    before = record["previous"] and _record(root, record["previous"])
    if before and (missing := missing_parts(root, before)):
        yield note(f"a rollback to {before['release']} would have to fetch {some(missing)} first")


def _record(root: Path, release: str) -> records.Record | None:
    path = root / records.RELEASES / f"{release}.json"
    return read_json(path) if "/" not in release and path.is_file() else None


def fetching(record: Mapping[str, Any]) -> str:
    """What brings the parts of a release back."""
    commit = (record["git"]["commit"] or "")[:10]
    return (f"dvc fetch --all-commits; where no remote has them: nightshift reproduce {record['release']}" if commit
            else "dvc fetch; where no remote has them: make nightly")  # fmt: skip


def missing_parts(root: Path, record: Mapping[str, Any]) -> list[str]:
    """Parts of which a file is not in DVC's cache, by DVC's own list of each folder."""
    outs = record["dvc"]["outs"]
    with dvc(root) as repo:
        cache = repo.cache.local

        def whole(md5: str | None) -> bool:
            if md5 is None or not cache.exists(md5):
                return md5 is None  # a part of a part (the template in the model) has no name of its own
            return not md5.endswith(".dir") or all(
                cache.exists(entry["md5"]) for entry in json.loads(Path(cache.oid_to_path(md5)).read_text(encoding="utf-8")))

        parts = record["manifest"]["parts"].values()
        return list(dict.fromkeys(part["path"] for part in parts if not whole(outs.get(part["path"]))))


def followers(place: Place) -> Iterator[Finding]:
    """champion.json and champion-search.json are of the live release: the question of promote.settle, nothing settled."""
    root, found = place.root, 0
    release = records.live(root)
    for of in promote.FOLLOWERS:
        path = root / of.path
        if not path.is_file():
            if release is not None:
                yield warning(f"{of.path} is missing", f"nightshift rollback {release} writes it again; a night does too")
            continue
        followed = champion.read(path, of.kind).release
        older = of.kind is champion.SearchChampion and not (root / records.RELEASES / of.folder / f"{release}.json").is_file()
        if followed != release and not (older and followed is None):  # a release from before search was compared
            yield warning(f"{of.path} is of {followed or 'no release'}, and {release or 'nothing'} is live",
                          f"nightshift rollback {release} settles it; a night does too" if release else f"git checkout {of.path}")
        else:
            found += 1
    if release is not None and found == len(promote.FOLLOWERS):
        yield ok("champion files follow it")


def index(place: Place) -> Iterator[Finding]:
    """The store has the live release's build, and its own pointer names it. Weaviate is asked here, so this may take a while."""
    root = place.root
    release = records.live(root)
    record = release and _record(root, release)
    if not record or "index" not in record["manifest"]["parts"] or place.params is None:
        return
    wanted, at = record["manifest"]["index"], place.params.index.weaviate
    if wanted["settings"].get("store") == "weaviate" and not (listens(at.host, at.port) and listens(at.host, at.grpc_port)):
        yield warning(f"the live release's index is in Weaviate at {at.host}:{at.port}, which does not answer",
                      "make up or make weaviate-server, or mend index.weaviate")
        return
    try:
        builds, build = live_index.builds_for(root, record["manifest"])
        known = {one.id: one.chunks for one in builds.all()}
        points, problems = builds.live(), builds.problems()
    except NightshiftError as error:
        yield warning(f"the live release's index could not be looked at: {error.thing} {error.what}", error.remedy)
        return
    if known.get(build) != wanted["chunks"]:
        yield warning(f"the store has no build {build} of the live release: the first question will have to wait for it",
                      'nightshift ask "…" makes it')
    elif points != build:
        yield warning(f"the store's own pointer names {points or 'nothing'}, and the live build is {build}",
                      f"nightshift rollback {release} moves it; a night does too")
    else:
        yield ok(f"its index is there: build {build}, {wanted['chunks']:,} chunks")
    for problem in problems:
        yield warning(problem, "nightshift builds lists them")
