"""The store of the live release: there before a promotion flips the pointer, and the store's own pointer after it.

Our service finds its build through releases/LIVE, by the id in the manifest. The store's pointer (Weaviate's alias, a
LIVE file beside LanceDB's builds) is for whoever searches the store without us, and it protects the live build from
being deleted. It follows: where the server is away it is moved later, and a release does not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import params
from tasks.errors import NightshiftError
from tasks.params import Index
from tasks.rag.stores import Builds, prune


def where(root: Path) -> Index:
    """Section index of the present params.yaml, its folder seen from `root`."""
    cfg = params.load(root / "params.yaml").index
    return cfg.model_copy(update={"folder": str(root / cfg.folder)})


def builds_for(root: Path, manifest: Mapping[str, Any]) -> tuple[Builds, str]:
    """The builds of the engine that a release's index is in, and its build there."""
    from tasks.rag.stores.builds import as_made, builds_of

    return builds_of(as_made(manifest["index"]["settings"], where(root))), manifest["index"]["build"]


def ready(root: Path, manifest: Mapping[str, Any]) -> None:
    """Open the store of a verified release, making it where it is missing. StoreError or ServiceError when it cannot be."""
    if "index" in manifest["parts"]:
        from tasks.rag.stores.builds import open_index

        parts = {name: root / part["path"] for name, part in manifest["parts"].items()}
        open_index(parts["index"], parts["embedded"], where(root))


def follow(root: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Point the store at a release's build and let old builds go; what could not be done, a line each. Twice is once."""
    if "index" not in manifest["parts"]:
        return ()
    try:
        builds, build = builds_for(root, manifest)
        if builds.find(build, manifest["index"]["chunks"]) is None:
            return (f"the store has no build {build}: it is made when the release is served or searched",)
        if builds.live() != build:
            builds.switch(build)
        prune(builds, where(root).keep)
    except NightshiftError as error:
        return (f"the store's own pointer stays where it is: {error}",)
    return ()


def listing(root: Path) -> list[str]:
    """One line a build of the engine that params.yaml names, the live one marked, and what is wrong."""
    from tasks.rag.stores.builds import builds_of

    builds = builds_of(where(root))
    live = builds.live()
    lines = [
        f"{build.id}  {build.chunks:>8,} chunks  made {build.made[:16].replace('T', ' ')} UTC  "
        + ("live" if build.id == live else f"live until a switch after {build.switched[:16]}" if build.switched else "never live")
        for build in builds.all()
    ]
    return [*(lines or ["no build yet"]), *(f"PROBLEM: {problem}" for problem in builds.problems())]
