"""Both search stores at 10,000 and 100,000 chunks: build, rebuild after churn, hybrid queries, recall, memory.

    make weaviate && python -m benchmarks.search                  both stores, 10,000 chunks, about three minutes
    python -m benchmarks.search --chunks 100000 --store lancedb

Run it from the repository's root in its environment; it works in a temporary folder and leaves nothing behind. Each store
runs in a process of its own (Weaviate: a server of its own on loopback), so that memory is its own. Vectors are 384
numbers about a thousand centres, as those of real text lie; texts are sentences over 20,000 words of which few are common.
Recall@10 is against comparing all vectors. CPU-seconds are those of the process and, for Weaviate, of its server: on a
shared machine they say more than seconds. A build is always whole: what churn saves is embedding (benchmarks/embedding.py)
and, without any change, the build itself.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tasks import environment

environment.apply()

import numpy as np  # noqa: E402  (libraries read their environment when they are imported)

from tasks.params import Index, Weaviate  # noqa: E402
from tasks.rag.chunks import Chunk, chunk_id, sha256_lines  # noqa: E402
from tasks.rag.stores import prune  # noqa: E402
from tasks.rag.stores.builds import builds_of  # noqa: E402

DIM, CENTRES, WORDS, QUESTIONS, TOP = 384, 1000, 20_000, 200, 10
EXACT_BELOW = 50_000  # as in params.yaml
CHURN = (0, 1, 10)  # per cent


def corpus(count: int, edition: int, percent: int) -> tuple[list[Chunk], np.ndarray]:
    """Chunks and vectors of length 1; in another edition the first `percent` of them are others."""
    draw = np.random.default_rng(1)
    centres = draw.normal(size=(CENTRES, DIM))
    chosen, noise = draw.integers(CENTRES, size=count), draw.normal(size=(count, DIM)) * 0.6
    frequency = 1 / np.arange(1, WORDS + 1)
    words = draw.choice(WORDS, size=(count, 30), p=frequency / frequency.sum())
    changed = count * percent // 100
    if edition:
        words[:changed] = (words[:changed] + edition) % WORDS
        noise[:changed] = -noise[:changed]
    vectors = (centres[chosen] + noise).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = []
    for n, row in enumerate(words):
        text, source = " ".join(f"w{word}" for word in row), f"documents/{n // 10}.md"
        chunks.append(Chunk(chunk_id(source, n, text), source, None, "", 0, len(text), text, "en"))
    return chunks, vectors


def questions(chunks: list[Chunk], vectors: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Some words of a chunk and a vector near its own."""
    draw = np.random.default_rng(2)
    out = []
    for n in draw.integers(len(chunks), size=QUESTIONS):
        near = vectors[n] + draw.normal(size=DIM).astype(np.float32) * 0.02
        out.append((" ".join(draw.choice(chunks[n].text.split(), 6)), (near / np.linalg.norm(near)).astype(np.float32)))
    return out


class Meter:
    """Seconds and CPU-seconds of this process and of one server; the greatest memory either had."""

    def __init__(self, server: int | None):
        """`server`: its pid."""
        self._server = server
        self._clock, self._cpu = time.perf_counter(), self._spent()

    def _spent(self) -> float:
        spent = time.process_time()
        if self._server:
            fields = Path(f"/proc/{self._server}/stat").read_text().rpartition(")")[2].split()
            spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return spent

    def read(self) -> dict[str, float]:
        """Since the beginning."""
        return {"s": time.perf_counter() - self._clock, "cpu": self._spent() - self._cpu}


def peak(pid: int | str) -> int:
    """Greatest resident memory of a process so far, bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def measure(cfg: Index, count: int, server: int | None) -> dict[str, Any]:
    """All figures of one store at one size."""
    chunks, vectors = corpus(count, 0, 0)
    asked = questions(chunks, vectors)
    exact = [set(np.argsort(-(vectors @ vector))[:TOP].tolist()) for _, vector in asked]
    at = {chunk.id: n for n, chunk in enumerate(chunks)}
    before = peak("self")
    builds, name = builds_of(cfg), sha256_lines(["0"])[:24]
    meter = Meter(server)
    store = builds.make(name, chunks, vectors, None)
    out: dict[str, Any] = {"build": meter.read(), "churn": {}}
    builds.switch(name)
    for text, vector in asked[:10]:
        store.hybrid(text, vector, TOP, 0.4)
    took, meter = [], Meter(server)
    for text, vector in asked:
        start = time.perf_counter()
        store.hybrid(text, vector, TOP, 0.4)
        took.append(time.perf_counter() - start)
    out["query"] = {
        "p50": float(np.percentile(took, 50)),
        "p99": float(np.percentile(took, 99)),
        "cpu": meter.read()["cpu"] / QUESTIONS,
    }
    found = [{at[hit.chunk.id] for hit in store.dense(vector, TOP)} for _, vector in asked]
    out["recall"] = float(np.mean([len(a & b) / TOP for a, b in zip(found, exact, strict=True)]))
    for percent in CHURN:
        other = sha256_lines([str(percent)])[:24]
        changed = corpus(count, percent, percent) if percent else None
        meter = Meter(server)
        if builds.find(other, count) is None and changed is not None:
            builds.make(other, *changed, None)
        builds.switch(other)
        prune(builds, cfg.keep)
        out["churn"][percent] = meter.read()
    out["memory"] = peak(server) if server else peak("self") - before
    return out


def one(store: str, count: int) -> dict[str, Any]:
    """Measure in this process, with a server where the store needs one."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        at = Weaviate(host="127.0.0.1", port=1, grpc_port=2, secure=False, alias="Benchmark")

        def section(where: Weaviate) -> Index:
            return Index(
                store=store,
                folder=str(folder / "stores"),
                weaviate=where,
                keep=2,
                exact_below=EXACT_BELOW,
                probes=24,
                candidates=32,
                alpha=0.4,
            )

        if store == "lancedb":
            return measure(section(at), count, None)
        from deploy import weaviate

        weaviate.build()
        key = os.environ["WEAVIATE_API_KEY"] = secrets.token_hex(16)
        with weaviate.Server(folder / "data", key) as server:
            ports = {"port": server.at.port, "grpc_port": server.at.grpc_port}
            return measure(section(at.model_copy(update=ports)), count, server.pid)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--chunks", type=int, nargs="+", default=[10_000], help="sizes (default: 10000)")
    options.add_argument("--store", nargs="+", default=["lancedb", "weaviate"], choices=["lancedb", "weaviate"])
    options.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.alone:
        print(json.dumps(one(given.store[0], given.chunks[0])))
        return
    print("| store | chunks | build | 0 % churn | 1 % | 10 % | hybrid p50 / p99 | CPU a query | recall@10 | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in given.chunks:
        for store in given.store:
            words = [sys.executable, "-m", "benchmarks.search", "--alone", "--store", store, "--chunks", str(count)]
            got = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
            costs = [f"{cost['s']:.1f} s, {cost['cpu']:.1f} CPU-s" for cost in (got["build"], *got["churn"].values())]
            query = got["query"]
            cells = [
                store,
                f"{count:,}",
                *costs,
                f"{1e3 * query['p50']:.0f} / {1e3 * query['p99']:.0f} ms",
                f"{1e3 * query['cpu']:.0f} ms",
            ]
            print(f"| {' | '.join(cells)} | {got['recall']:.3f} | {got['memory'] / 2**20:,.0f} MB |", flush=True)


if __name__ == "__main__":
    main()
