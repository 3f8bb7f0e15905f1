"""Four nights in a small repository with real git and DVC: new judgements, somebody withdraws, new documents alone.

data.dvc ─► prepare ─► quantize ─► evaluate ─┐
        └─► embed ───► retrieve ─────────────┴─► release ─► (promotion)

Stages copy text; the dataset and judgements.json have the real forms, and everything after the stages is the real code.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import minigraph
import yaml
from data_fixtures import jsonl
from dvc.repo import Repo

from tasks import champion, git, promote, records
from tasks.files import write_json
from tasks.labelling.withdraw import withdraw

BEGAN = datetime(2026, 11, 24, 3, tzinfo=UTC)
PATHS = {"prepare": "dataset", "quantize": "int4", "embed": "embedded", "evaluate": "evaluation", "retrieve": "retrieval"}
READS = {
    "prepare": ["data"],
    "quantize": ["artifacts/dataset/preferences"],
    "embed": ["data/documents"],
    "evaluate": ["artifacts/int4", "champion.json"],
    "retrieve": ["artifacts/embedded", "champion-search.json"],
    "release": ["data", "artifacts/int4", "artifacts/embedded", "artifacts/evaluation", "artifacts/retrieval",
                "artifacts/dataset/preferences/train.jsonl", "artifacts/dataset/instructions/train.jsonl"],
}  # fmt: skip
STAGE = '''
import hashlib, json, pathlib, sys
stage, out, *inputs = sys.argv[1:]
out, inputs = pathlib.Path(out), list(map(pathlib.Path, inputs))
out.mkdir(parents=True, exist_ok=True)
def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\\n" for row in rows))
if stage == "prepare":
    gone = {row["annotator"] for row in rows(inputs[0] / "withdrawn.jsonl")}
    said = [row for file in sorted((inputs[0] / "preferences").glob("*")) for row in rows(file) if row["annotator"] not in gone]
    write(out / "preferences/train.jsonl", [
        {"id": f"pair-{row['id']}", "chosen": row["answers"]["A"], "rejected": row["answers"]["B"],
         "annotators": [row["annotator"]], "annotations": [row["annotation"]]} for row in said])
    write(out / "instructions/train.jsonl",
          [row for row in rows(inputs[0] / "instructions/feedback.jsonl") if row["annotator"] not in gone])
elif stage == "release":
    from tasks.files import sha256_file, sha256_tree, size, write_json
    from tasks.release import data_hash, judgements
    told = judgements(pathlib.Path("artifacts/dataset"))
    write_json(out / "judgements.json", told)
    parts = {"model": "artifacts/int4", "chat_template": "artifacts/int4/text.txt", "embedded": "artifacts/embedded"}
    write_json(out / "manifest.json", {
        "name": "small", "license": "none", "figures": {}, "stack": {}, "data": data_hash(inputs[0]),
        "judgements": {"sha256": sha256_file(out / "judgements.json"), "annotators": len(told),
                       "annotations": sum(map(len, told.values()))},
        "gate": {"promote": True, "reasons": []},
        "parts": {name: {"path": path, "sha256": sha256_tree(pathlib.Path(path)), "bytes": size(pathlib.Path(path))}
                  for name, path in parts.items()}})
else:
    text = "".join(file.read_text() for path in inputs for file in (sorted(path.rglob("*.*")) if path.is_dir() else [path]))
    (out / "text.txt").write_text(stage + hashlib.sha256(text.encode()).hexdigest())
    told = {"answers": {"case-1": {"case": "00", "set": "context", "answer": "x"}}}
    found = {"questions": {"case-1": {"case": "00", "rank": 1, "found": True}}}
    (out / "challenger.json").write_text(json.dumps(told if stage == "evaluate" else found))
pathlib.Path("metrics").mkdir(exist_ok=True)
pathlib.Path(f"metrics/{stage}.json").write_text('{"letters": 7}')
'''


@dataclass(frozen=True)
class Story:
    """The repository after its four nights."""

    root: Path
    releases: tuple[str, ...]  # the oldest first

    def record(self, n: int) -> dict[str, Any]:
        """Record of the n-th release."""
        return records.record(self.root, self.releases[n])

    def rewrite(self, n: int, **changes: Any) -> None:
        """Change a record behind everybody's back."""
        write_json(self.root / f"releases/{self.releases[n]}.json", {**self.record(n), **changes})


def judged(n: int, annotator: str, annotation: int | str, **more: Any) -> dict[str, Any]:
    """A row of data/preferences."""
    answers = {"A": f"It opens at {n}:15.", "B": f"It opens at {n}:45."}
    asked = [{"role": "user", "content": f"When does store {n} open?"}]
    return {"id": f"p{n}", "messages": asked, "answers": answers, "ranking": [["A"], ["B"]], "annotator": annotator,
            "annotation": annotation, **more}  # fmt: skip


def corrected(n: int, annotator: str, annotation: str) -> dict[str, Any]:
    """A row of data/instructions/feedback.jsonl."""
    said = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": f"At {n}."}]
    return {"id": f"feedback-{n}", "messages": said, "annotator": annotator, "annotation": annotation, "place": f"7/{n}"}


def tell(root: Path) -> Story:
    """Make it; about ten seconds."""
    params = yaml.safe_load((minigraph.ROOT / "params.yaml").read_text())
    (root / "data/documents").mkdir(parents=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
    (root / "stage.py").write_text(STAGE)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {name: _stage(name) for name in READS}}, sort_keys=False))
    for name in ("champion.json", "champion-search.json"):
        (root / name).write_text('{\n "release": null\n}\n')
    (root / ".gitignore").write_text("/artifacts/\n/.nightshift/\n/data/\n")
    minigraph.run(root, "git", "init", "--quiet", "--initial-branch", "main")
    Repo.init(str(root)).close()
    weeks = root / "data/preferences"
    jsonl(weeks / "week-1.jsonl", [judged(1, "annotator-01", 1), judged(2, "annotator-01", 2), judged(3, "annotator-02", 3)])
    (root / "data/documents/one.md").write_text("Store 1 opens at 1:15.\n")
    made = [_night(root, 0, "week 1")]
    jsonl(weeks / "week-2.jsonl", [judged(4, "annotator-03", "ls12-0123abcd", place="5/4"), judged(5, "annotator-03", 3)])
    jsonl(root / "data/instructions/feedback.jsonl", [corrected(6, "annotator-02", "ls13-0123abcd")])
    params["prepare"]["eval_share"] = 0.25
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
    made.append(_night(root, 1, "week 2, \x1b[31mred\u202e <script>alert(1)</script>"))
    withdraw(root, "annotator-02", BEGAN + timedelta(days=1, hours=9))
    made.append(_night(root, 2, "annotator-02 has withdrawn"))
    jsonl(weeks / "week-4.jsonl", [judged(7, "annotator-04", 9)])
    (root / "data/documents/two.md").write_text("Store 2 opens at 2:15.\n")
    made.append(_night(root, 3, "new documents", of=made[-1]))
    return Story(root, tuple(made))


def _stage(name: str) -> dict[str, Any]:
    out = f"artifacts/{PATHS.get(name, name)}"
    return {
        "cmd": f"python ./stage.py {name} {out} {' '.join(READS[name][:2])}",
        "deps": [*READS[name], "stage.py"],
        "params": [name] if name in ("prepare", "quantize") else [],
        "outs": [out],
        "metrics": [{f"metrics/{name}.json": {"cache": False}}],
    }


def _night(root: Path, n: int, subject: str, of: str | None = None) -> str:
    """Run, commit, promote, commit; with `of` only the documents go out, and the model of that release stays."""
    now, here = BEGAN + timedelta(days=n), Path.cwd()
    os.chdir(root)
    try:
        with Repo(str(root)) as repo:
            repo.add("data")
            repo.reproduce()
    finally:
        os.chdir(here)
    git.commit(root, ["."], subject)
    release = _documents(root, now, of) if of else promote.promote(root, now).release
    git.commit(root, promote.COMMITTED, f"Release {release}")
    return release


def _documents(root: Path, now: datetime, of: str) -> str:
    """What tasks/documents_release.py leaves, without a store."""
    found, former = records.candidate(root), records.record(root, of)["manifest"]
    assert found
    parts = {**former["parts"], "embedded": found[1]["parts"]["embedded"]}
    manifest = {**former, "parts": parts, "data": found[1]["data"], "model_of": of}
    name = f"{now:%Y-%m-%d}-{found[0][:8]}"
    answers = champion.read(root / records.RELEASES / "answers" / f"{of}.json")
    search = champion.champion_from(name, records.output_of(root, "retrieve"), champion.SearchChampion)
    with promote.changing(root):
        return promote.publish(root, now, name, found[0], manifest, [answers, search], records.lock(root), {}).release


def lock_of(root: Path, record: dict[str, Any]) -> dict[str, Any]:
    """dvc.lock of the commit that a release names, as git shows it."""
    return yaml.safe_load(minigraph.run(root, "git", "show", f"{record['git']['commit']}:dvc.lock"))["stages"]




