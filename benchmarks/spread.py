"""What spreading gains: stages candidates and embed in one process against Ray workers on this machine, with the same bytes.

    python -m benchmarks.spread                                  2 workers of 1 thread, the starter's models
    python -m benchmarks.spread --workers 4 --prompts 4096 --model minilm --chunks 20000

Run it from the repository's root in its environment, on a machine with a core for each worker; it works in a temporary folder
and leaves nothing behind. A Markdown table is printed. Each run is a process of its own, one after the other, once small and
once large: the small one shows what the start of Ray and of its workers costs. CPU-seconds are those of the stage and all that
it has started, looked at every tenth of a second. Exit code 1 where a byte differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle
from pathlib import Path

from tasks import environment

environment.apply()

from benchmarks.embedding import CHUNKS_A_DOCUMENT, write_document  # noqa: E402
from tasks.files import read_jsonl, sha256_tree, write_jsonl  # noqa: E402
from tasks.params import Scale, load  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def prepare(folder: Path, prompts: int, chunks: int) -> None:
    """A base with an adapter that leaves it as it is, prompts, and documents."""
    from peft import LoraConfig, get_peft_model

    from tasks.base import base
    from tasks.training.models import load_base

    whole = load(ROOT / "params.yaml")
    (folder / "base").mkdir()
    base(whole.base, whole.quantize, whole.compute, ROOT / "starter/base", ROOT / "tasks/templates", folder / "base")
    model, _ = load_base(folder / "base", whole.compute)
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(folder / "sft")
    asked = [row for path in sorted((ROOT / "examples/prompts").glob("*.jsonl")) for row in read_jsonl(path)]
    for name, number in (("small", 8), ("large", prompts)):
        rows = zip(range(number), cycle(asked), strict=False)
        told = ["\n".join([*row["passages"], f"{n}. {row['question']}"]) for n, row in rows]
        write_jsonl(folder / f"prompts-{name}" / "prompts.jsonl", [
            {"id": str(n), "language": "en", "messages": [{"role": "user", "content": text}]} for n, text in enumerate(told)])
    for name, number in (("small", CHUNKS_A_DOCUMENT), ("large", chunks)):
        (folder / f"documents-{name}").mkdir()
        for page in range(number // CHUNKS_A_DOCUMENT):
            write_document(folder / f"documents-{name}" / f"{page}.md", page, 0)


class Cost:
    """CPU-seconds of this process and all below it, those that have ended too."""

    def __init__(self):
        self._seen: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        import psutil

        while not self._ended.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    used = process.cpu_times()
                    self._seen[process.pid] = used.user + used.system
                except psutil.Error:
                    pass

    def seconds(self) -> float:
        """Up to now, without what looking has cost a child."""
        self._ended.set()
        self._thread.join()
        return time.process_time() + sum(self._seen.values())


def child(stage: str, size: str, engine: str, workers: int, model: str, folder: Path) -> None:
    """Run one stage here and print what it has cost, as JSON."""
    whole = load(ROOT / "params.yaml")
    compute = whole.compute.model_copy(update={"threads": 1, "device": "cpu"})
    scale = Scale(engine=engine, address=None, workers=workers, start_seconds=600)
    out = folder / f"{stage}-{size}-{engine}"
    out.mkdir()
    os.chdir(out.parent)
    cost, start = Cost(), time.monotonic()
    if stage == "candidates":
        from tasks.candidates import candidates

        candidates(whole.candidates, compute, whole.seed, folder / f"prompts-{size}", folder / "base", folder / "sft", out, scale)
    else:
        from tasks.embed import embed

        cfg = whole.embed.model_copy(update={"model": model})
        embed(cfg, compute, folder / f"documents-{size}", ROOT / "starter/embedder", out, scale=scale)
    seconds = time.monotonic() - start
    print(json.dumps({"seconds": seconds, "cpu": cost.seconds(), "sha256": sha256_tree(out)}))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="of 1 thread each (default: 2)")
    parser.add_argument("--prompts", type=int, default=1024, help="for stage candidates (default: 1024)")
    parser.add_argument("--chunks", type=int, default=5000, help="for stage embed (default: 5000)")
    parser.add_argument("--model", default="starter", help="embed.model (default: starter)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        stage, size, engine, folder = given.child
        return child(stage, size, engine, given.workers, given.model, Path(folder))
    columns = ("", "one process, s", "workers, s", "ratio", "one process, CPU-s", "workers, CPU-s", "ratio", "bytes")
    rows = []
    with tempfile.TemporaryDirectory(prefix="spread-") as temporary:
        prepare(Path(temporary), given.prompts, given.chunks)
        print(f"{given.workers} workers of 1 thread on {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; "
              f"embedding with {given.model}\n\n| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
        for stage, large in (("candidates", f"{given.prompts} prompts"), ("embed", f"{given.chunks} chunks")):
            for size, count in (("small", "one batch"), ("large", large)):
                one, many = (measure(given, stage, size, engine, temporary) for engine in ("local", "ray"))
                rows.append(one["sha256"] == many["sha256"])
                figures = [f"{part[0]:.1f} | {part[1]:.1f} | {part[1] / part[0]:.2f}"
                           for part in ((one[name], many[name]) for name in ("seconds", "cpu"))]
                print(f"| {stage}, {count} | {' | '.join(figures)} | {'=' if rows[-1] else 'differ'} |", flush=True)
    sys.exit(0 if all(rows) else 1)


def measure(given: argparse.Namespace, stage: str, size: str, engine: str, folder: str) -> dict:
    """Run `child` in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.spread", "--workers", str(given.workers), "--model", given.model, "--child",
             stage, size, engine, folder]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
