"""`nightshift trace` on a thousand releases, each walk in a fresh process: seconds, CPU-seconds, memory.

    python -m benchmarks.lineage                   two minutes; --releases 100 for a quick look

Run it from the repository's root in its environment; it works in a temporary folder (300 MB) and leaves nothing behind. The
repository there is a real one: two commits a night, dvc.lock with this project's own graph and parameters, records with 50 kB
of metrics, a row in data/ for each annotation. Twice: once each night has new judgements and therefore a file of its own
(the most to read), once every twentieth night has, with twenty times as many (the largest files). CPU-seconds are those
of the process and of the git processes that it starts; "nothing" is the import of the command line alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tasks.files import canonical_json

ROOT = Path(__file__).resolve().parent.parent
BEGAN = datetime(2024, 1, 1, 3, tzinfo=UTC)
MADE = re.compile(r"'?@([^@]+)@'?")  # a hash that is not known yet
SHARE = {"share": 0.875, "low": 0.8125, "high": 0.9375, "n": 320}
METRICS = {f"stage {stage}": {f"figure {n}": SHARE for n in range(45)} for stage in range(17)}  # 50 kB


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lineage", description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1000, help="default: %(default)s")
    count = parser.parse_args().releases
    print("| releases | annotations, files of them | walk | seconds | CPU-s | peak memory |")
    print("| ---: | ---: | --- | ---: | ---: | ---: |")
    for judged, every in ((5000, 1), (100_000, max(1, count // 50))):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            last, ids = repository(root, count, annotations=judged, annotators=200, every=every)
            files = len(list((root / "releases/judgements").iterdir()))
            walks = {
                "nothing": ["--help"],
                "live release": ["trace"],
                "oldest release": ["trace", last[0]],
                "as a page": ["trace", "--html", "trace.html"],
                "annotation in all": ["trace", "--annotation", ids[0]],
                "annotation in the last": ["trace", "--annotation", ids[-1]],
                "annotation in none": ["trace", "--annotation", "ls0-00000000"],
                "annotator": ["trace", "--annotator", person(0)],
            }
            for name, words in walks.items():
                seconds, cpu, memory = ran(root, words)
                row = f"| {count:,} | {judged:,} in {files:,} | {name} |"
                print(f"{row} {seconds:.2f} | {cpu:.2f} | {memory:,.0f} MB |", flush=True)


def ran(root: Path, words: list[str]) -> tuple[float, float, float]:
    """Seconds, CPU-seconds with children, and peak MB of one `nightshift`."""
    began, there = time.perf_counter(), {**os.environ, "PYTHONPATH": str(ROOT)}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # one of the walks is for what is not there
    process = subprocess.Popen([sys.executable, "-m", "tasks.cli", *words], cwd=root, env=there, **silent)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def person(n: int) -> str:
    """Pseudonym of an annotator."""
    return f"annotator-{_hex(f'person {n}')[:12]}"


def repository(root: Path, count: int, *, annotations: int, annotators: int, every: int) -> tuple[list[str], list[str]]:
    """A repository with so many releases, the oldest first, and ids of all annotations, the oldest first.

    The last release was trained on all annotations, release n of `count` on n / count of them, with new ones each `every`
    nights.
    """
    ids = [f"ls{n}-{_hex(f'task {n}')[:8]}" for n in range(annotations)]
    (root / "releases/judgements").mkdir(parents=True)
    (root / "data/preferences").mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    with open(root / "data/preferences/label-studio.jsonl", "w", encoding="utf-8") as file:
        file.writelines(_row(n, id_, annotators) for n, id_ in enumerate(ids))
    lock_of_all = _lock()
    nights = [_night(lock_of_all, n // every) for n in range(count)]
    releases = [f"{BEGAN + timedelta(days=n):%Y-%m-%d}-{_hex(f'release {n}')[:8]}" for n in range(count)]
    commits = _history(root, nights, releases)
    for n, (release, commit, (data, lock)) in enumerate(zip(releases, commits, nights, strict=True)):
        if n % every == 0:
            known = ids[: max(1, len(ids) * min(n + every, count) // count)]
            told = _judgements(root, known, annotators)
        record = {
            "release": release,
            "published": f"{BEGAN + timedelta(days=n):%Y-%m-%dT03:10:00.000}Z",
            "previous": releases[n - 1] if n else None,
            "withdrawn": None,
            "manifest": _manifest(n, yaml.safe_load(data)["outs"][0], told),
            "manifest_sha256": _hex(f"release {n}"),
            "git": {"commit": commit, "uncommitted": []},
            "dvc": {"lock_sha256": hashlib.sha256(lock).hexdigest(), "outs": {}},
            "params_sha256": _hex("params"),
            "metrics": METRICS,
        }
        (root / f"releases/{release}.json").write_text(canonical_json(record), encoding="utf-8")
    for name, text in zip(("data.dvc", "dvc.lock"), nights[-1], strict=True):
        (root / name).write_bytes(text)
    (root / "releases/LIVE").write_text(f"{releases[-1]}\n")
    return releases, ids


def _night(lock: str, n: int) -> tuple[bytes, bytes]:
    """data.dvc and dvc.lock of a night: what depends on the data has other hashes in each."""
    data = f"outs:\n- md5: @data@\n  size: {3_000_000 + 1000 * n}\n  nfiles: 98\n  hash: md5\n  path: data\n"
    return tuple(MADE.sub(lambda of: _hex(f"{of[1]} {n}")[:32], text).encode() for text in (data, lock))  # type: ignore[return-value]


def _lock() -> str:
    """A dvc.lock of this project's graph and parameters, with @path@ for the hash of whatever depends on the data."""
    graph, params = (yaml.safe_load((ROOT / name).read_text(encoding="utf-8")) for name in ("dvc.yaml", "params.yaml"))

    def files(entries: list[Any]) -> list[dict[str, Any]]:
        paths = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]
        made = ("artifacts", "metrics", "reports", "data")
        md5 = (f"@{path}@" if path.startswith(made) else _hex(path)[:32] for path in paths)
        return [{"path": path, "hash": "md5", "md5": name, "size": 10_000} for path, name in zip(paths, md5, strict=True)]

    stages = {
        name: {
            "cmd": stage["cmd"],
            "deps": files(stage["deps"]),
            "params": {"params.yaml": {section: params[section] for section in stage.get("params", [])}},
            "outs": files([*stage.get("outs", []), *stage.get("metrics", [])]),
        }
        for name, stage in graph["stages"].items()
    }
    return yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False)


def _history(root: Path, nights: list[tuple[bytes, bytes]], releases: list[str]) -> list[str]:
    """A commit for each night and one for each release; hashes of the first."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main"], cwd=root, check=True)
    stream = []
    for n, (texts, release) in enumerate(zip(nights, releases, strict=True)):
        at = BEGAN + timedelta(days=n)
        for subject, files in (
            (f"Night of {at:%Y-%m-%d}: right, context % 85.0", dict(zip(("data.dvc", "dvc.lock"), texts, strict=True))),
            (f"Release {release}", {"champion.json": release.encode()}),
        ):
            stream.append(f"commit refs/heads/main\ncommitter Nightshift <nightshift@localhost> {at:%s} +0000\n".encode())
            stream.append(f"data {len(subject)}\n{subject}\n".encode())
            for path, text in files.items():
                stream += [f"M 100644 inline {path}\ndata {len(text)}\n".encode(), text, b"\n"]
    subprocess.run(["git", "fast-import", "--quiet"], cwd=root, input=b"".join(stream), check=True)
    log = ["git", "log", "--reverse", "--format=%H", "main"]
    return subprocess.run(log, cwd=root, capture_output=True, text=True, check=True).stdout.split()[::2]


def _judgements(root: Path, known: list[str], annotators: int) -> dict[str, Any]:
    """Write who has made which annotations; what a manifest says of it."""
    told = {person(a): mine for a in range(annotators) if (mine := known[a::annotators])}
    text = canonical_json(told).encode()
    name = hashlib.sha256(text).hexdigest()
    (root / f"releases/judgements/{name[:16]}.json").write_bytes(text)
    return {"sha256": name, "annotators": len(told), "annotations": len(known)}


def _manifest(n: int, data: dict[str, Any], judged: dict[str, Any]) -> dict[str, Any]:
    paths = {"model": "int4", "chat_template": "int4/chat_template.jinja", "embedded": "embedded", "index": "index"}
    return {
        "name": "nightshift",
        "license": "apache-2.0",
        "parts": {
            name: {"path": f"artifacts/{path}", "sha256": _hex(f"{path} {n}"), "bytes": 2_600_000} for name, path in paths.items()
        },
        "prompt": {language: {f"word {i}": "As it is asked. " * 6 for i in range(12)} for language in ("en", "zh")},
        "figures": {f"figure {i} %": 0.875 for i in range(20)},
        "gate": {"promote": True, "reasons": [{"rule": f"rule {i}", "passed": True, "why": "holds " * 20} for i in range(16)]},
        "data": {"dvc": "data.dvc", "md5": data["md5"], "files": data["nfiles"], "bytes": data["size"]},
        "judgements": judged,
        "stack": {"packages": {f"package {i}": "1.2.3" for i in range(10)}},
    }


def _row(n: int, id_: str, annotators: int) -> str:
    asked = [{"role": "user", "content": "Who manages the Ashgate store? " * 10}]
    said = {"answers": {"A": "x" * 80, "B": "y" * 80}, "ranking": [["A"], ["B"]]}
    row = {"id": f"prompt-{n}", "messages": asked, **said, "annotator": person(n % annotators), "annotation": id_}
    return json.dumps(row) + "\n"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
