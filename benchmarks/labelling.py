"""1,000 tasks to a real Label Studio and 1,000 judgements back: seconds, CPU-seconds, memory.

    python -m benchmarks.labelling                 about four minutes; --tasks 100 for a quick look

Run it from the repository's root in its environment; it starts a server of its own on loopback, works in a temporary folder
and leaves nothing behind. Judgements are made one by one over the API, as a browser makes them; that time is the server's
and is not counted. "One request a task" is what sending costs without batches, measured on a tenth of the tasks; ratios are
within this run. CPU-seconds are those of this process; the server's are shown apart.
"""

from __future__ import annotations

import argparse
import resource
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks import environment

environment.apply()

import httpx  # noqa: E402  (libraries read their environment when they are imported)

from deploy import label_studio as deployed  # noqa: E402
from tasks import params  # noqa: E402
from tasks.bootstrap import track  # noqa: E402
from tasks.labelling import collect, html, inbox, label_studio  # noqa: E402
from tasks.labelling.task import Task, ask  # noqa: E402
from tasks.rag.prompt import grounded  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


def tasks(count: int) -> list[Task]:
    """Questions on two notes each, with two answers."""
    made = []
    for n in range(count):
        notes = [f"Store {n} opens at {n % 12}:30. It has {n} parking spaces.", f"| Store {n} | |\n|---|---|\n| manager | M{n} |"]
        messages = [{"role": "user", "content": grounded(f"Who manages store {n}?", notes, "en")}]
        answers = [f"The manager is M{n}. [2]", f"Thank you for asking. The notes say {n} parking spaces."]
        made.append(ask(f"prompt-{n}", messages, answers, language="en", model="sft-000000000000", release=None, why="random"))
    return made


def measured(what: str, count: int, server: int, do: Callable[[], Any]) -> float:
    """Run it, print a row of the table, and return its seconds."""
    clock, own, theirs = time.perf_counter(), time.process_time(), cpu(server)
    do()
    seconds, own, theirs = time.perf_counter() - clock, time.process_time() - own, cpu(server) - theirs
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {what} | {count:,} | {seconds:.1f} s | {own:.1f} | {theirs:.1f} | {memory:,.0f} MB |", flush=True)
    return seconds


def cpu(pid: int) -> float:
    """CPU-seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100  # clock ticks


def judge(url: str, token: str, project: int, count: int) -> None:
    """One annotation on each task, over the API."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Token {token}"}, timeout=60, trust_env=False) as api:
        pages = {"project": project, "page_size": count, "fields": "task_only", "include": "id"}
        for n, task in enumerate(api.get("/api/tasks", params=pages).raise_for_status().json()["tasks"]):
            said = {"choices": [("A", "B", "tie")[n % 3]]}
            verdict = {"from_name": "verdict", "to_name": "prompt", "type": "choices", "value": said}
            body = {"result": [verdict], "lead_time": 5 + n % 20}
            api.post(f"/api/tasks/{task['id']}/annotations/", json=body).raise_for_status()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labelling", description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1000, help="default: %(default)s")
    count = parser.parse_args().tasks
    deployed.install()
    with tempfile.TemporaryDirectory() as folder:
        root = repository(Path(folder) / "repository")
        token = secrets.token_hex(20)
        with deployed.Server(Path(folder) / "label-studio", token, secrets.token_hex(20)) as server:
            cfg = params.load(root / "params.yaml")
            section = cfg.labelling.model_copy(update={"url": server.url, "pseudonyms": False})
            cfg = cfg.model_copy(update={"labelling": section})
            print("| what | rows | seconds | CPU-s | the server's | peak memory |\n| --- | ---: | ---: | ---: | ---: | ---: |")
            with label_studio.connect(server.url, token, section) as studio:
                project = studio.ensure_projects()["compare"]
                rows = [{**task.data(), **html.shown(task)} for task in tasks(count + count // 10)]
                sent = measured("send", count, server.pid, lambda: studio.add(project, rows[:count]))
                single = measured("send, one request a task", count // 10, server.pid,
                                  lambda: [studio.add(project, [row]) for row in rows[count:]])
                measured("what is there (hashes)", len(rows), server.pid, lambda: studio.task_hashes(project))
                judge(server.url, token, project, count)
                measured("collect, land", count, server.pid, lambda: collect.collect(root, cfg, studio))
                measured("admit: checks, data/, dvc add", count, server.pid, lambda: inbox.admit(root, cfg))
                measured("collect again, nothing new", 0, server.pid, lambda: collect.collect(root, cfg, studio))
            kept = len((root / "data/preferences/label-studio.jsonl").read_text().splitlines())
            print(f"\n{kept:,} rows in data/; one request a task takes {single * 10 / sent:.0f} times as long as batches")


def repository(root: Path) -> Path:
    """A repository with nothing but data/ in it."""
    (root / "data/prompts").mkdir(parents=True)
    (root / "data/prompts/one.jsonl").write_text('{"question": "?"}\n')
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for words in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"]):
        subprocess.run(words, cwd=root, check=True)
    track(root)
    return root


if __name__ == "__main__":
    main()
