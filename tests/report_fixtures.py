"""All inputs of the report as files: the figures of report_metrics.py, curves, answers, chunks and a manifest.

The texts are hostile wherever people, documents and models write.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from tasks import release
from tasks.files import write_atomic, write_json, write_jsonl
from tasks.params import Answers, Compute, Release
from tasks.rag import prompt
from tasks.rag.chunks import Chunk, content_hash, write_chunks
from tests.judgement_fixtures import picked
from tests.report_metrics import CASES, HASH, IMAGE, MODELS, SCRIPT, metrics

BAD = f"Well {SCRIPT} {IMAGE} it may be 3:00 & more"


def write(folder: Path, **changes: Any) -> dict[str, Path]:
    """All inputs of the report below `folder`; argument name → path, `out` excepted. `changes` go to `metrics`."""
    points = curves()
    paths = {"figures": folder / "metrics", "evaluation": folder / "evaluation" / "answers.jsonl",
             "references": folder / "evaluation" / "references.jsonl", "selected": folder / "selected" / "selected.jsonl",
             "cases": folder / "dataset", "answers": folder / "answers" / "answers.jsonl",
             "embedded": folder / "embedded", "release": folder / "release" / "manifest.json",
             **{f"{stage}_curve": folder / stage / "curve.jsonl" for stage in points}}
    for stage, report in metrics(**changes).items():
        write_json(paths["figures"] / f"{stage}.json", report.model_dump(mode="json"))
    for stage, rows in points.items():
        write_jsonl(paths[f"{stage}_curve"], rows)
    write_release(folder, paths)
    write_evaluation(paths)
    write_documents(paths)
    write_jsonl(paths["selected"], picked())
    return paths


def write_release(folder: Path, paths: dict[str, Path]) -> None:
    """artifacts/release/manifest.json, by the release stage itself, over parts of a few bytes."""
    parts = {name: folder / "parts" / name for name in ("int4", "base", "embedded", "index")}
    for name in ("int4", "base"):
        write_atomic(parts[name] / release.TEMPLATE, "{{ messages }}")
    write_json(parts["embedded"] / release.MANIFEST, {"model": "starter", "weights_sha256": HASH})
    write_json(parts["index"] / release.MANIFEST, {"build": "b-3f1c0a9d"})
    write_atomic(folder / "data.dvc", f"outs:\n- md5: {HASH[:32]}.dir\n  size: 2100000\n  nfiles: 81\n  path: data\n")
    places = {"right %": "evaluate.correct.aligned.all.share"}
    cfg = Release(name="larkfield-assistant", license="apache-2.0", figures=places)
    answering = Answers(top_k=2, headings="section", depth=10, reranker=None, reranker_revision=None, rerank=20,
                        max_new_tokens=40, batch_size=64, grounded_share=0.8)
    for kind in ("preferences", "instructions"):
        write_jsonl(folder / "trained" / kind / "train.jsonl", [])
    compute = Compute(threads=2, precision="fp32", device="cpu", reproducible="this-cpu")
    release.release(cfg, answering, compute, data=folder / "data", **parts, figures=paths["figures"],
                    gate=paths["figures"] / "gate.json", dataset=folder / "trained",
                    out=paths["release"].parent)


def curves() -> dict[str, list[dict[str, float]]]:
    """Stage → points of its curve.jsonl, with the keys that TRL logs."""
    draw = random.Random(1)

    def from_to(start: float, end: float, step: int) -> float:
        return round(end + (start - end) * (1 - step / 720) ** 3 + draw.gauss(0, 0.015), 6)

    ends = {
        "sft": {"loss": (3.0, 0.31)},
        "reward": {"loss": (0.71, 0.28), "accuracy": (0.5, 0.9), "margin": (0.0, 1.9)},
        "align": {"loss": (0.9, 0.22), "rewards/chosen": (0.0, 0.7), "rewards/rejected": (0.0, -1.2),
                  "rewards/margins": (0.0, 1.9), "logps/chosen": (-6.0, -4.5)},
    }
    return {stage: [{"step": step, **{key: from_to(*pair, step) for key, pair in keys.items()}}
                    for step in range(20, 721, 20)] for stage, keys in ends.items()}


def texts(number: int, language: str) -> tuple[str, list[str], str]:
    """(question, passages, answer) of a made-up case."""
    value = f"{number % 12}:30"
    if language == "zh":
        passages = ["梅门店的店长是何艳春。停车位共111个。", f"梅门店{number}号的开门时间是{value}。"]
        return f"梅门店{number}号几点开门？", passages, value
    return (f"What time does the Oakleigh store {number} open?",
            ["Staff > Felix Green\nFelix has locker J-189. Felix travels in from Westfield.",
             f"The Oakleigh store {number} opens at {value}."], value)


def write_evaluation(paths: dict[str, Path]) -> None:
    """Cases, and three models' answers; only the aligned model does anything well, and that every other time."""
    answered: list[dict] = []
    for name in CASES:
        cases = []
        for number in range(12):
            language = "zh" if number % 3 == 0 else "en"
            question, passages, value = texts(number, language)
            passages, gold = ([] if name == "facts" else passages), (None if name == "unanswerable" else value)
            case = {"id": f"{name}-{language}-{number:04d}", "language": language}
            asked = prompt.grounded(question, passages, language)
            cases.append({**case, "messages": [{"role": "user", "content": asked}], "answer": gold, "distractors": [],
                          "cite": [2] if gold and passages else [], "kind": "opening"})
            for model in MODELS:
                good = model == "aligned" and number % 2 == 0
                best = prompt.TEMPLATES[language].abstention if gold is None else f"It opens at {value}. [2]"
                answered.append({
                    **case, "model": model, "set": name, "prompt": asked, "answer": best if good else BAD,
                    "ended": True, "reward": None, "right": good if gold else None,
                    "cites": good if gold and passages else None, "concise": good,
                    "abstains": good and gold is None, "preferred": good})
        write_jsonl(paths["cases"] / f"{name}.jsonl", cases)
    write_jsonl(paths["evaluation"], answered)
    logged = []
    for number in range(8):
        language = "zh" if number % 2 else "en"
        row = {"id": f"log-{number}", "language": language, "prompt": f"Say {number} {SCRIPT}", "reference": f"{IMAGE} {number}"}
        for model, chrf in (("base", 0.2), ("sft", 0.5), ("aligned", 0.1 if number < 4 else 0.7)):
            logged.append({**row, "model": model, "answer": f"{number} {SCRIPT}", "ended": True, "chrf": chrf})
    write_jsonl(paths["references"], logged)


def write_documents(paths: dict[str, Path]) -> None:
    """Chunks, questions on them, and the answers: question 2 is answered wrongly, 3 has no answer."""
    import numpy as np

    chunks = [Chunk(id=f"chunk-{n}", source=f"documents/stores/{n}.md", page=None, heading="Stores > Thornleigh store",
                    start=0, end=10, text=f"Opens at {n}:30. {IMAGE}", language="en") for n in range(4)]
    vectors = np.zeros((4, 2), dtype=np.float32)
    paths["embedded"].mkdir(parents=True)
    write_chunks(paths["embedded"], chunks, vectors)
    write_json(paths["embedded"] / "manifest.json",
               {"dim": 2, "weights_sha256": HASH, "content_sha256": content_hash(chunks, vectors, HASH)})
    asked, given = [], []
    for language in ("en", "zh"):
        for n in range(4):
            gold = None if n == 3 else f"{n}:30"
            question = f"{texts(n, language)[0]} {SCRIPT}"
            case = {"id": f"documents-{language}-{n}", "question": question, "language": language}
            asked.append({**case, "answer": gold, "distractors": [], "source": gold and f"documents/stores/{n}.md"})
            given.append({**case, "retrieved": ["chunk-0", f"chunk-{n}"], "abstains": False,
                          "sources": ["documents/stores/0.md", f"documents/stores/{n}.md"],
                          "answer": f"It opens at {n}:30. [2]", "right": gold and n != 2, "cites": gold and True,
                          "grounded": n == 2})
    write_jsonl(paths["cases"] / "documents.jsonl", asked)
    write_jsonl(paths["answers"], given)
