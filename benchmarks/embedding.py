"""What kept vectors save: the embed stage at 0, 1 and 10 % changed documents against a run from nothing.

    python -m benchmarks.embedding                       10,000 chunks, the starter model
    python -m benchmarks.embedding --model minilm --documents 100

Run it from the repository's root in its environment; it works in a temporary folder and leaves nothing behind. A Markdown
table is printed. CPU-seconds are those of this process in all threads, measured in one run after a small warm-up, so their
ratios compare even on a busy machine; "embedding" is looking up the former vectors and making the others, the rest is
reading, splitting, counting tokens and writing, which no cache saves. That reused and new vectors give the same bytes is
checked.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import tempfile
import time
from pathlib import Path

from tasks import environment

environment.apply()

from tasks import embed as stage  # noqa: E402  (libraries read their environment when they are imported)
from tasks.files import sha256_tree  # noqa: E402
from tasks.params import Compute, Embed, load  # noqa: E402
from tasks.rag.embedder import Embedder  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CHUNKS_A_DOCUMENT = 10
WORDS = """
store card lamp rug delivery warranty manager opening closing parking aisle price returns months weekday holiday address
counter colleague order receipt repair shelf window garden kitchen paint tool voucher member notice
"""


def write_document(path: Path, number: int, edition: int) -> None:
    """A page of ten sections, each long enough to be a chunk of its own; another edition has other words in each."""
    draw, words = random.Random(f"{number} {edition}"), WORDS.split()
    sections = [
        f"## Part {n}\n\nItem {number}-{n}-{edition} is about {' '.join(draw.choices(words, k=15))}.\n"
        for n in range(CHUNKS_A_DOCUMENT)
    ]
    path.write_text(f"# Page {number}\n\n" + "\n".join(sections), encoding="utf-8")


class Run:
    """One run of the stage and what it cost."""

    def __init__(self, cfg: Embed, compute: Compute, folder: Path, name: str, before: str | None = None):
        """Run it into folder/name; `before` names the former output."""
        self.embedding, self.made = 0.0, 0
        out = folder / name
        out.mkdir()
        originals = stage.known, stage.embed_all
        stage.known, stage.embed_all = map(self._timed, originals)
        start = time.process_time()
        try:
            with contextlib.chdir(folder), open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
                former = folder / before if before else None
                self.report = stage.embed(cfg, compute, folder / "documents", ROOT / "starter" / "embedder", out, former)
        finally:
            stage.known, stage.embed_all = originals
        self.seconds = time.process_time() - start
        self.sha256 = sha256_tree(out)

    def _timed(self, part):
        """The same function, its CPU-seconds and the passages that it sends to the model counted."""

        def timed(*args):
            model = next(arg for arg in args if hasattr(arg, "passages"))
            start = time.process_time()
            try:
                return part(*(Counted(arg, self) if arg is model else arg for arg in args))
            finally:
                self.embedding += time.process_time() - start

        return timed


class Counted:
    """A model that counts what it embeds."""

    def __init__(self, model: Embedder, run: Run):
        self._model, self._run = model, run

    def __getattr__(self, name):
        return getattr(self._model, name)

    def passages(self, texts):
        """As the model does."""
        self._run.made += len(texts)
        return self._model.passages(texts)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="starter", help="embed.model (default: starter)")
    options.add_argument("--documents", type=int, default=1000, help=f"of {CHUNKS_A_DOCUMENT} chunks each (default: 1000)")
    given = options.parse_args()
    params = load(ROOT / "params.yaml")
    cfg = params.embed.model_copy(update={"model": given.model})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "documents").mkdir()
        write_document(folder / "documents" / "0.md", 0, 0)
        Run(cfg, params.compute, folder, "warm")
        for number in range(given.documents):
            write_document(folder / "documents" / f"{number}.md", number, 0)
        first = Run(cfg, params.compute, folder, "first")
        rows = [("from nothing", first)]
        for percent in (0, 1, 10):
            for number in range(given.documents * percent // 100):
                write_document(folder / "documents" / f"{number}.md", number, percent)
            rows.append((f"{percent} % changed", Run(cfg, params.compute, folder, f"kept-{percent}", "first")))
        fresh = Run(cfg, params.compute, folder, "fresh")
        assert fresh.sha256 == rows[-1][1].sha256, "reused vectors gave other bytes than new ones"
    counts = f"{first.report.documents:,} documents, {first.report.chunks:,} chunks"
    print(f"{given.model}: {counts}, {params.compute.threads} threads\n")
    print("| | chunks embedded | embedding, CPU-s | of from nothing | whole stage, CPU-s | of from nothing |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, run in rows:
        parts = run.embedding / first.embedding, run.seconds / first.seconds
        print(f"| {name} | {run.made:,} | {run.embedding:.2f} | {parts[0]:.1%} | {run.seconds:.2f} | {parts[1]:.1%} |")


if __name__ == "__main__":
    main()
