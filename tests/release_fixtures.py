"""What the stages before the release leave, in small, and the real stage over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks import params
from tasks.files import write_atomic, write_json, write_jsonl
from tasks.params import Recipe
from tasks.release import JUDGEMENTS, MANIFEST
from tasks.reports import Report
from tasks.training.folders import TEMPLATE
from tests.report_metrics import HASH, metrics

ROOT = Path(__file__).parent.parent
RECIPE = params.load(ROOT / "params.yaml").section(Recipe)
FOLDERS = ("dataset", "base", "sft", "reward", "align", "merged", "int4", "embedded", "index", "evaluation", "retrieval",
           "answers")
CHAT = {  # what the files of a model folder say of the tokens that end and fill an answer
    "tokenizer.json": {"model": {"vocab": {"<|im_end|>": 3, "<|pad|>": 1}}},
    "tokenizer_config.json": {"eos_token": "<|im_end|>", "pad_token": "<|pad|>"},
    "config.json": {"eos_token_id": 3, "pad_token_id": 1},
    "generation_config.json": {"eos_token_id": 3, "pad_token_id": 1},
}
FILES = {MANIFEST, JUDGEMENTS, "README.md", "card.html"}  # that the stage writes


def recipe(**figures: str) -> Recipe:
    """That of params.yaml with these figures (label with _ for a space → place)."""
    named = {label.replace("_", " "): place for label, place in figures.items()}
    return RECIPE.model_copy(update={"release": RECIPE.release.model_copy(update={"figures": named})})


def inputs(folder: Path) -> dict[str, Path]:
    """Every argument of the stage but recipe and out."""
    paths = {name: folder / "artifacts" / name for name in FOLDERS}
    return {**paths, "data": folder / "data", "figures": folder / "metrics", "requirements": ROOT / "requirements.lock"}


def write_inputs(folder: Path, reports: Mapping[str, Report] | None = None) -> dict[str, Path]:
    """A few bytes for each input that is not there yet; returns them all.

    `reports`: stage → its metrics; those of the made-up night by default.
    """
    paths = inputs(folder)
    for name in FOLDERS:
        if not paths[name].exists():
            write_atomic(paths[name] / "content.txt", f"{name}\n")
    for name in ("int4", "base"):
        _once(paths[name] / TEMPLATE, "{{ messages }}")
        for file, content in CHAT.items():
            _once(paths[name] / file, content)
    _once(paths["embedded"] / MANIFEST, {"model": "starter", "dim": 64, "weights_sha256": HASH, "problems": ["x"]})
    _once(paths["index"] / MANIFEST, {"build": "b-3f1c0a9d", "chunks": 3})
    for kind in ("preferences", "instructions"):
        if not (paths["dataset"] / kind / "train.jsonl").exists():
            write_jsonl(paths["dataset"] / kind / "train.jsonl", [])
    for stage, report in (metrics() if reports is None else reports).items():
        write_json(folder / "metrics" / f"{stage}.json", report.model_dump(mode="json"))
    pointer = f"outs:\n- md5: {HASH[:32]}.dir\n  size: 2100000\n  nfiles: 81\n  path: data\n"
    _once(folder / "data.dvc", pointer)
    return paths


def _once(path: Path, content: Any) -> None:
    if not path.exists():
        write_atomic(path, content) if isinstance(content, str) else write_json(path, content)
