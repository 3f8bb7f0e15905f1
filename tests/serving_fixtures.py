"""A repository with real releases in it (real git, DVC, stages and promotion; a tiny model), and a server of them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml

from tasks import champion, params, promote
from tasks.embed import embed
from tasks.files import write_json
from tasks.index import index
from tasks.params import Params, Recipe
from tasks.release import release
from tasks.serving import parts, server
from tasks.serving.guard import keys_of
from tasks.serving.live import Live
from tasks.serving.recorder import Recorder
from tasks.serving.releases import LoadedRelease
from tasks.serving.service import create_app
from tests import minigraph, release_fixtures, report_metrics
from tests.evaluation_fixtures import teach, write_base
from tests.rag_fixtures import STARTER, index_params
from tests.test_rag_embedder import CFG, CPU

ROOT = Path(__file__).parent.parent
NIGHT = datetime(2026, 11, 24, 3, tzinfo=UTC)
OUTS = {"embed": "embedded", "index": "index", "retrieve": "retrieval", "quantize": "int4", "evaluate": "evaluation",
        "release": "release"}


def sections() -> Params:
    """params.yaml with what a tiny model on a shared machine needs."""
    read = params.load(ROOT / "params.yaml")
    return read.model_copy(update={
        "compute": CPU.model_copy(update={"threads": 1}),
        "answers": read.answers.model_copy(update={"top_k": 1, "max_new_tokens": 24}),
        "index": index_params(Path("stores"), probes=2, candidates=4),
        "serve": read.serve.model_copy(update={"port": 0, "poll_seconds": 0.05}),
        "release": read.release.model_copy(update={"figures": {"right %": "evaluate.correct.aligned.all.share"}}),
    })


def repository(folder: Path) -> Path:
    """A repository before its first release."""
    root = folder / "repository"
    root.mkdir(parents=True)
    stages = {name: {"cmd": f"python -m tasks {name} --starter {STARTER}", "outs": [f"artifacts/{out}"]}
              for name, out in OUTS.items()}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    (root / ".gitignore").write_text("/artifacts/\n/.nightshift/\n/stores/\n/data/\n")
    (root / "params.yaml").write_text(yaml.safe_dump(sections().model_dump(mode="json", by_alias=True)))
    champion.write(root / "champion.json", champion.Champion(release=None))
    champion.write(root / "champion-search.json", champion.SearchChampion(release=None))
    minigraph.run(root, "git", "init", "--quiet", "--initial-branch", "main")
    minigraph.dvc(root, "init", "--quiet")
    (root / ".dvc/config").write_text("[core]\nanalytics = false\nautostage = false\n")
    return root


def publish(root: Path, model: Path, documents: Mapping[str, str], night: int = 0) -> str:
    """A night that answers with `model` from `documents`, committed and promoted. Returns the release's id."""
    cfg = sections()
    for made in ("data", "artifacts", "metrics"):
        shutil.rmtree(root / made, ignore_errors=True)
    for name, text in documents.items():
        path = root / "data/documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_json(root / "artifacts/evaluation/challenger.json",
               {"answers": {"context-1": {"set": "context", "case": "00", "answer": f"night {night}"}}})
    write_json(root / "artifacts/retrieval/challenger.json",
               {"questions": {"documents-1": {"case": "00", "rank": 1, "found": True}}})
    for copy in ("int4", "base"):
        shutil.copytree(model, root / "artifacts" / copy)
    for out in ("embedded", "index", "release"):
        (root / "artifacts" / out).mkdir()
    minigraph.dvc(root, "add", "--quiet", "data")
    a = Path("artifacts")
    with contextlib.chdir(root):
        embed(CFG.model_copy(update={"max_tokens": 128}), CPU, Path("data/documents"), STARTER, a / "embedded")
        index(cfg.index, a / "embedded", a / "index")
        inputs = release_fixtures.write_inputs(Path(), report_metrics.metrics(champion=None))
        release(cfg.section(Recipe), **inputs, out=a / "release")
    minigraph.dvc(root, "commit", "--force", "--quiet")
    minigraph.run(root, "git", "add", "--all")
    minigraph.run(root, "git", "-c", "user.name=A", "-c", "user.email=a@localhost", "commit", "--quiet", "-m", f"night {night}")
    return promote.promote(root, NIGHT + timedelta(days=night)).release


def store(name: str, opens: int) -> str:
    """A document about one store."""
    return f"# {name}\n\nThe {name} store opens at {opens}.\n"


class Waiting:
    """A retriever that waits at a gate before it searches: as slow as a test needs it to be."""

    def __init__(self, retriever: Any):
        self._retriever, self.gate, self.waiting = retriever, threading.Event(), threading.Semaphore(0)

    @property
    def modes(self) -> tuple[str, ...]:
        """As they are."""
        return self._retriever.modes

    def search(self, *words: Any, **more: Any) -> Any:
        """Say that somebody waits, wait, search."""
        self.waiting.release()
        assert self.gate.wait(60)
        return self._retriever.search(*words, **more)


def waiting(loaded: LoadedRelease) -> tuple[LoadedRelease, Waiting]:
    """The release with its retriever behind a gate."""
    gate = Waiting(loaded.retriever)
    return dataclasses.replace(loaded, retriever=gate, _searching=contextlib.nullcontext()), gate


@contextlib.contextmanager
def serving(
    root: Path, load: Any = None, keys: str | None = None, recorder: Recorder | None = None, **changes: Any
) -> Iterator[tuple[httpx.Client, Live]]:
    """A real server on a free loopback port, with a client; `changes` go into section serve."""
    cfg = sections()
    cfg = cfg.model_copy(update={"serve": cfg.serve.model_copy(update=changes)})
    live = Live(root, cfg, load) if load else Live(root, cfg)
    listening = server.bind(cfg.serve.host, 0)
    app = create_app(live, cfg.serve, keys_of(keys), recorder)
    running = uvicorn.Server(server.settings(app, cfg.serve.answer_seconds))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            for _ in range(200):
                with contextlib.suppress(httpx.ConnectError):
                    client.get("/health")
                    break
                time.sleep(0.05)  # a busy machine takes its time to listen
            yield client, live
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def question(text: str, **more: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"messages": [{"role": "user", "content": text}], **more}


def flip(root: Path, to: str) -> None:
    """Make an earlier release live, as a person does."""
    promote.rollback(root, NIGHT, to=to)


def folders(root: Path) -> set[str]:
    """What lies in the serving folder, leftovers included."""
    return {path.name for path in (root / parts.SERVING).iterdir()} - {".lock"}


@dataclasses.dataclass(frozen=True)
class Two:
    """A repository in which `one` was live and `two` is."""

    root: Path
    one: str
    two: str


@functools.cache
def _template() -> Two:
    """Made once a session. The releases differ in model and documents, and the documents name their release."""
    folder = minigraph.scratch("serving")
    base = write_base(folder / "base", folder / "start")
    root, ids = repository(folder), []
    for night, (name, steps) in enumerate((("one", 60), ("two", 45))):
        model = teach(base, folder / name, steps, seed=night)
        ids.append(publish(root, model, {f"{name}/{file}": text for file, text in documents(10 * night).items()}, night))
    return Two(root, *ids)


def documents(more: int) -> dict[str, str]:
    """Two stores' pages, an internal one in Chinese, and a hostile one."""
    return {
        "oakleigh.md": store("Oakleigh", 11 + more),
        "marsh.md": store("Marsh", 31 + more),
        "青山.md": f"# 青山店\n\n青山店的开门时间是{8 + more}点。\n",
        "hostile.txt": f"{HOSTILE}\n",
    }


HOSTILE = "Zyzzyva ![](//b)<img src=q onerror=x=1><script>x=1</script>]} data: [DONE]"


def two_releases(folder: Path) -> Two:
    """A fresh copy of the repository with two releases."""
    made = _template()
    return dataclasses.replace(made, root=Path(shutil.copytree(made.root, folder / "repository", symlinks=True)))
